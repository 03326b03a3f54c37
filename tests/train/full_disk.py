"""Save a checkpoint of 4 MB, and say why that failed: `full_disk.py DIR torch|safetensors|shards 0|1`, 1 for one that
is written while training continues.
"""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch.distributed.checkpoint.state_dict_saver import save

from swe_aem.errors import UserError
from swe_aem.train.checkpoint_writer import CheckpointWriter
from swe_aem.train.processes import Processes


def main(directory: str, kind: str, asynchronous: str) -> None:
    """Save, and print the error."""
    weights = {"weight": torch.ones(1_000_000)}
    work: dict[str, Callable[[Path], Any]] = {
        "torch": lambda to: torch.save(weights, to / "optimizer.pt"),
        "safetensors": lambda to: save_file(weights, to / "model.safetensors"),
        "shards": lambda to: save(weights, checkpoint_id=to / "shards", no_dist=True),
    }
    processes = Processes(cpu=True, collective_timeout_s=60)
    writer = CheckpointWriter(Path(directory), processes, asynchronous=bool(int(asynchronous)))
    try:
        with writer.saving("checkpoint-2") as later:
            to = writer.unfinished / "checkpoint-2"
            to.mkdir(parents=True)
            write = partial(work[kind], to)
            if later is None:
                write()
            else:
                later.do(write)
        writer.wait()
    except UserError as error:
        print(error)


if __name__ == "__main__":
    main(*sys.argv[1:])
