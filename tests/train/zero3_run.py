"""A whole training run under ZeRO-3 as one of two processes on CPUs: `zero3_run.py RANK PORT LIMIT MODEL OUT STEPS
[SETTING...]`. The launch is that of configs/cluster/zero3.yaml, but layers compute in the format of the weights.
"""

import os
import sys
from pathlib import Path
from typing import Any

from tests.train import pair

rank, port, limit, model, out, steps, *settings = sys.argv[1:]
pair.join(rank, port)


def launched() -> dict[str, str]:
    """The variables that `accelerate launch` would set."""
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser
    from accelerate.utils.launch import prepare_deepspeed_cmd_env

    arguments = launch_command_parser().parse_args(
        ["--config_file", "configs/cluster/zero3.yaml", "--mixed_precision", "no", "--num_processes", "2", "script.py"]
    )
    validated: Any = _validate_launch_command(arguments)
    arguments, defaults, _ = validated
    arguments.deepspeed_fields_from_accelerate_config = ",".join(defaults.deepspeed_config)
    _, variables = prepare_deepspeed_cmd_env(arguments)
    return {name: value for name, value in variables.items() if name.startswith("ACCELERATE_")}


os.environ.update(DS_ACCELERATOR="cpu", ACCELERATE_TORCH_DEVICE="cpu")
os.environ.update(launched())

from accelerate import PartialState  # noqa: E402
from accelerate.utils import DistributedType  # noqa: E402

# Without a GPU accelerate finds no backend, and takes each process for the only one.
PartialState._prepare_backend = lambda self, *args: ("gloo", DistributedType.MULTI_CPU)  # type: ignore[method-assign]

from swe_aem.train import loop  # noqa: E402
from tests.train.killable import configuration  # noqa: E402
from tests.train.served import Served  # noqa: E402

loop._Evaluations._evaluate = lambda self, step, **how: self._worker.evaluated(step)  # type: ignore[method-assign]
servers = "servers={urls: ['http://127.0.0.1:1'], dtype: float32}"
fixed = ("save_every=1", f"collective_timeout_s={limit}", "micro_batch_size=2", "device=cuda")
pair.meet(port)
loop.train(configuration(Path(model), int(steps), servers, *fixed, *settings), Path(out), Served)
