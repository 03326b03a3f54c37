"""A whole training run under FSDP2 as one of two gloo processes: `sharded_run.py RANK PORT LIMIT MODEL OUT STEPS
[SETTING...]`. The first process writes what its servers have at each evaluation, and what was trained until then, to
OUT/evaluated. Checkpoints are written while training continues; OUT/waited has those that training waits for.
"""

import sys
from pathlib import Path
from typing import Any

from tests.train import pair

rank, port, limit, model, out, steps, *settings = sys.argv[1:]
pair.join(rank, port)

from safetensors.torch import load_file, save_file  # noqa: E402
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict  # noqa: E402

from swe_aem.serve.planes import Parcel  # noqa: E402
from swe_aem.testing.steps import ScriptedSteps  # noqa: E402
from swe_aem.train import loop  # noqa: E402
from tests.train.fsdp import shard_on_cpus  # noqa: E402
from tests.train.killable import configuration  # noqa: E402
from tests.train.saved_twice import saved_twice  # noqa: E402

EVALUATED = Path(out) / "evaluated"


class Served(ScriptedSteps):
    """Scripted steps, and servers that have what they were sent last. A step wants no weights, an evaluation does."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.control = self
        self._files: dict[str, Any] = {}

    def begin(self, parcel: Parcel) -> None:
        """The servers read the files."""
        pieces = Path(parcel.update_info["path"]).glob("*.safetensors")
        self._files = {name: one for piece in pieces for name, one in load_file(piece).items()}

    def end(self, failure: str | None) -> None:
        """They serve them."""
        assert failure is None

    def evaluation_wants_weights(self, rollouts: Any, version: int) -> bool:
        """Every evaluation does."""
        return True

    def evaluated(self, step: int) -> None:
        """Keep what the servers have at the evaluation after `step` steps."""
        EVALUATED.mkdir(parents=True, exist_ok=True)
        save_file(self._files, EVALUATED / f"served-{step}.safetensors")


def trained(self: Any, step: int, **how: Any) -> None:
    """Keep the whole weights before an evaluation, gathered by torch, then evaluate."""
    whole: dict[str, Any] = get_model_state_dict(
        self._updates.trainer.model, options=StateDictOptions(full_state_dict=True, cpu_offload=True)
    )
    if rank == "0":
        EVALUATED.mkdir(parents=True, exist_ok=True)
        save_file(whole, EVALUATED / f"trained-{step}.safetensors")
    run(self, step, **how)


run = loop._Evaluations.run
loop._Evaluations.run = trained  # type: ignore[method-assign]
loop._Evaluations._evaluate = lambda self, step, **how: self._worker.evaluated(step)  # type: ignore[method-assign]
shard_on_cpus("no")
pair.meet(port)
servers = "servers={urls: ['http://127.0.0.1:1'], dtype: bfloat16}"
fixed = ("save_every=1", f"collective_timeout_s={limit}", "micro_batch_size=2", "asynchronous_checkpoints=true")
with saved_twice(Path(out) / "waited"):
    loop.train(configuration(Path(model), int(steps), servers, *fixed, *settings), Path(out), Served)
