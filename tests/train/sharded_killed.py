"""Sharded runs that are killed and repeated, as one of two gloo processes: `sharded_killed.py RANK PORT LIMIT MODEL OUT
SCENE...`. First a run that nobody kills trains in OUT/undisturbed.

A scene `MOMENT-WHO` trains in OUT/SCENE until the second checkpoint is at MOMENT, which is held until those of WHO (the
process 0 or 1, or both) are killed from outside; then it is repeated. A line has the status of both runs, and which
checkpoint was the last one between them. Runs are forks of this process, which imports everything once.
"""

import json
import os
import signal
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from tests.train import pair

rank, port, limit, model, out, *scenes = sys.argv[1:]
pair.join(rank, port)

from torch.distributed import TCPStore  # noqa: E402  # pyright: ignore[reportPrivateImportUsage]

from swe_aem.testing.steps import ScriptedSteps  # noqa: E402
from swe_aem.train import checkpoints, loop  # noqa: E402
from swe_aem.train.checkpoint_writer import CheckpointWriter  # noqa: E402
from swe_aem.train.checkpointed import CheckpointedTrainer  # noqa: E402
from tests.train.fsdp import shard_on_cpus  # noqa: E402
from tests.train.killable import configuration  # noqa: E402

STEPS, CHECKPOINT = 3, "checkpoint-4"
SETTINGS = (
    "save_every=1",
    f"collective_timeout_s={limit}",
    "micro_batch_size=2",
    "asynchronous_checkpoints=true",
)
MOMENTS: dict[str, tuple[Any, str, tuple[str, ...]]] = {
    "copied": (CheckpointedTrainer, "_save_rng_state", ("0", "1")),
    "begun": (CheckpointWriter, "_write", ("0", "1")),
    "torn": (os, "fsync", ("0", "1")),
    "model": (CheckpointWriter, "_write", ("0", "1")),
    "written": (CheckpointWriter, "_complete", ("0",)),
    "marked": (Path, "rename", ("0",)),
    "whole": (checkpoints, "remove_old", ("0",)),
}
"""What the run is about to call at each moment, and which processes do: the copy is in memory and training waits; the
thread begins; the first file has half of its bytes; the model is written and the optimiser is not; all is written; it
is marked as whole, but not yet where checkpoints are found; it is there."""
WHO = {"0": ("0",), "1": ("1",), "both": ("0", "1")}
_LATEST = timedelta(seconds=400)
_shared = TCPStore("127.0.0.1", int(port), is_master=False)


def both_at(point: str) -> None:
    """Wait for the other process."""
    _wait_for(point, ("0", "1"))


def _wait_for(point: str, ranks: tuple[str, ...]) -> None:
    """Tell that this process is at a point, and wait until some are."""
    _shared.set(f"{point} {rank}", "")
    _shared.wait([f"{point} {one}" for one in ranks], _LATEST)


def hold_at(moment: str, hold: Callable[[], None]) -> None:
    """Call `hold` at a moment of the second checkpoint."""
    place, name, _ = MOMENTS[moment]
    go_on = getattr(place, name)
    held: list[str] = []

    def held_once(*arguments: Any, **named: Any) -> Any:
        if not held and _is_at(moment, arguments):
            held.append(moment)
            if moment == "torn":
                os.ftruncate(arguments[0], os.fstat(arguments[0]).st_size // 2)
            hold()
        return go_on(*arguments, **named)

    def held_between(writer: Any, later: Any) -> None:
        if writer._name == CHECKPOINT:
            later.work.insert(1, hold)
        go_on(writer, later)

    setattr(place, name, held_between if moment == "model" else held_once)


def _is_at(moment: str, arguments: tuple[Any, ...]) -> bool:
    """Does a call belong to the second checkpoint?"""
    if moment == "torn":
        return CHECKPOINT in os.readlink(f"/proc/self/fd/{arguments[0]}")
    if moment in ("begun", "written"):
        return arguments[0]._name == CHECKPOINT
    if moment == "whole":
        return (arguments[0] / CHECKPOINT).exists()
    return str(arguments[-1 if moment == "copied" else 0]).endswith(CHECKPOINT)


def train(place: str, store_port: int, prepare: Callable[[], None]) -> None:
    """Train in this process, and end it."""
    os.environ["MASTER_PORT"] = str(store_port)
    shard_on_cpus("no")
    prepare()
    loop.train(configuration(Path(model), STEPS, *SETTINGS), Path(place), ScriptedSteps)


def forked(name: str, prepare: Callable[[], None] = lambda: None, run: str = "") -> int:
    """Process id of a fork that trains in OUT/NAME."""
    place = str(Path(out) / name)
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False) if rank == "0" else None
    if store is not None:
        _stores.append(store)
        _shared.set(f"port of {name} {run}", str(store.port))
    store_port = int(_shared.get(f"port of {name} {run}"))
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        train(place, store_port, prepare)
        status = 0
    except BaseException as error:
        print(f"{name}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
    finally:
        os._exit(status)


_stores: list[Any] = []


def ended(child: int) -> int:
    """Status of a fork, when it has ended."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def killed(scene: str) -> int:
    """Status of a run that is killed as the scene says."""
    moment, who = scene.split("-")
    holding = MOMENTS[moment][2]
    reached, reach = os.pipe()
    go_on, release = os.pipe()

    def hold() -> None:
        os.write(reach, b".")
        os.read(go_on, 1)

    child = forked(scene, lambda: hold_at(moment, hold))
    os.close(reach)
    if rank in holding:
        assert os.read(reached, 1), f"{scene}: the run ended before it"
    _shared.set(f"{scene} reached {rank}", "")
    _shared.wait([f"{scene} reached {one}" for one in holding], _LATEST)
    if rank in WHO[who]:
        os.kill(child, signal.SIGKILL)
    status = ended(child) if rank in WHO[who] else None
    _shared.set(f"{scene} killed {rank}", "")
    _shared.wait([f"{scene} killed {one}" for one in WHO[who]], _LATEST)
    os.write(release, b".")
    return ended(child) if status is None else status


def main() -> None:
    """Train undisturbed, then play the scenes."""
    print(json.dumps(["undisturbed", ended(forked("undisturbed")), "", 0]), flush=True)
    for scene in scenes:
        status = killed(scene)
        both_at(f"{scene} has ended")
        last = checkpoints.latest(Path(out) / scene / checkpoints.DIRECTORY)
        again = ended(forked(scene, run="again"))
        print(json.dumps([scene, status, last.name if last else None, again]), flush=True)


main()
