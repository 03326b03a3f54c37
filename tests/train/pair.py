"""One of two gloo processes of `test_processes.py`: `pair.py RANK PORT LIMIT SCENE...`. A line tells of each scene.

The test hosts the store, as an agent of torchrun does.
"""

import json
import os
import signal
import sys
import time
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from swe_aem.train.processes import Processes


def join(rank: str, port: str) -> None:
    """Make this process one of two. Before torch is imported."""
    os.environ.update(
        RANK=rank, LOCAL_RANK=rank, WORLD_SIZE="2", LOCAL_WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=port,
        TORCHELASTIC_USE_AGENT_STORE="True", OMP_NUM_THREADS="1",
    )  # fmt: skip


def meet(port: str) -> None:
    """Wait for the other process: how much longer it took to import everything is no part of any limit."""
    from torch.distributed import TCPStore

    store = TCPStore("127.0.0.1", int(port), is_master=False)
    store.set(f"met by {os.environ['RANK']}", "")
    store.wait(["met by 0", "met by 1"], timedelta(seconds=400))


def longer_than_the_limit() -> str:
    time.sleep(1.5 * float(sys.argv[3]))
    return "rows"


def fail() -> str:
    from swe_aem.errors import UserError

    raise UserError("the servers are gone")


def interrupt() -> str:
    raise KeyboardInterrupt


def die() -> str:
    os.kill(os.getpid(), signal.SIGKILL)
    return "unreachable"


def play(scene: str, processes: "Processes") -> str | None:
    """A scene as this process plays it; a value that both should have."""
    if scene == "long work":
        return processes.share(processes.first_does(scene, longer_than_the_limit))
    if scene == "failing between":
        return fail() if processes.first else processes.first_does(scene, fail)
    if scene == "failing other":
        return fail() if not processes.first else processes.first_does(scene, longer_than_the_limit)
    if scene == "missing in a collective":
        if processes.first:
            import torch

            torch.distributed.all_reduce(torch.zeros(1))
        return processes.first_does(scene, longer_than_the_limit)
    return processes.first_does(scene, {"failing": fail, "interrupted": interrupt, "killed": die}[scene])


def main(rank: str, port: str, limit: str, *scenes: str) -> None:
    """Play the scenes one after another."""
    join(rank, port)
    import accelerate  # noqa: F401

    from swe_aem.train.processes import Processes

    meet(port)
    for scene in scenes:
        started_s = time.monotonic()
        try:
            with Processes(cpu=True, collective_timeout_s=float(limit)) as processes:
                result = play(scene, processes)
        except (Exception, KeyboardInterrupt) as error:
            result = f"{type(error).__name__}: {error}"
        print(json.dumps([scene, result, time.monotonic() - started_s]), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
