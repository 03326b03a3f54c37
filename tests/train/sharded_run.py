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

from safetensors.torch import save_file  # noqa: E402
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict  # noqa: E402

from swe_aem.train import loop  # noqa: E402
from tests.train.fsdp import shard_on_cpus  # noqa: E402
from tests.train.killable import configuration  # noqa: E402
from tests.train.saved_twice import saved_twice  # noqa: E402
from tests.train.served import Served  # noqa: E402

EVALUATED = Path(out) / "evaluated"


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
