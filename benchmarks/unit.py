"""Measures one contender with one number of sandboxes in a process of its own, so that a hang can be ended.

    python benchmarks/unit.py UNIT_JSON RESULT_FILE

sandbox.py runs it.
"""

import asyncio
import os
import statistics
import sys
import time
from pathlib import Path

from contenders import contender
from contenders.base import Box, Contender, Missing, Unit
from engine import EngineClock
from workload import play

from swe_aem.core.base import Frozen

GONE_TIMEOUT_S = 120.0


class Sample(Frozen):
    """Figures of one unit; None was not measured."""

    start_ms: float | None = None
    """From the request for the sandboxes until the first command of the last one has answered."""
    p50_ms: float | None = None
    p95_ms: float | None = None
    calls_per_s: float | None = None
    engine_cpu_ms: float | None = None
    """User and system time of dockerd, containerd, its shims and docker-proxy per call."""
    client_cpu_ms: float | None = None
    """The same of the calling process and of the client programs that it starts."""
    gone_ms: float | None = None
    """From the request to end all sandboxes until no container and no process of theirs is left."""
    trajectories_per_min: float | None = None
    others_cpus: float | None = None
    """CPUs that other work kept busy just before."""
    failure: str | None = None
    """Why something was not measured."""


async def _started(contender: Contender) -> Box:
    box = await contender.start()
    exit_code, output = await box.run("true")
    if exit_code != 0:
        raise RuntimeError(f"`true` ended with {exit_code}: {output}")
    return box


async def _start(contender: Contender, unit: Unit) -> tuple[list[Box], float]:
    """Start sandboxes and run a first command in each. Returns them and the milliseconds, of one or of all at once."""
    if unit.sandboxes > 1:
        began_s = time.perf_counter()
        boxes = await asyncio.gather(*(_started(contender) for _ in range(unit.sandboxes)))
        return list(boxes), (time.perf_counter() - began_s) * 1000
    times_ms, boxes = [], []
    for _ in range(unit.starts):
        for earlier in boxes:
            await earlier.end()
        began_s = time.perf_counter()
        boxes = [await _started(contender)]
        times_ms.append((time.perf_counter() - began_s) * 1000)
    return boxes, statistics.median(times_ms)


def _client_cpu_s() -> float:
    return sum(os.times()[:4])


async def _burst(boxes: list[Box], unit: Unit) -> Sample:
    """Call `true` repeatedly in all sandboxes at once."""
    times_ms: list[float] = []
    engine, client_s, began_s = EngineClock(), _client_cpu_s(), time.perf_counter()

    async def caller(box: Box) -> None:
        while len(times_ms) < unit.calls or time.perf_counter() - began_s < unit.seconds:
            called_s = time.perf_counter()
            exit_code, _ = await box.run("true")
            times_ms.append((time.perf_counter() - called_s) * 1000)
            if exit_code != 0:
                raise RuntimeError(f"`true` ended with {exit_code}")

    await asyncio.gather(*map(caller, boxes))
    wall_s, calls = time.perf_counter() - began_s, len(times_ms)
    return Sample(
        p50_ms=statistics.median(times_ms),
        p95_ms=statistics.quantiles(times_ms, n=20)[-1],
        calls_per_s=calls / wall_s,
        engine_cpu_ms=engine.used_s() * 1000 / calls,
        client_cpu_ms=(_client_cpu_s() - client_s) * 1000 / calls,
    )


async def _end(contender: Contender, boxes: list[Box]) -> float:
    """End all sandboxes at once. Returns the milliseconds until they are gone."""
    left = await contender.watch()
    began_s = time.perf_counter()
    ending = asyncio.gather(*(box.end() for box in boxes))
    while await asyncio.to_thread(left):
        waited_s = time.perf_counter() - began_s
        if waited_s > GONE_TIMEOUT_S:
            raise RuntimeError(f"sandboxes are still there after {GONE_TIMEOUT_S:.0f} s")
        await asyncio.sleep(max(0.005, 0.02 * waited_s))  # asking the engine more often would slow it down
    gone_ms = (time.perf_counter() - began_s) * 1000
    await ending
    return gone_ms


async def _trajectories(contender: Contender, unit: Unit) -> float:
    """Scripted trajectories per minute, played by as many workers as there are sandboxes."""
    left = unit.trajectories

    async def worker() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            box = await contender.start()
            await play(box)
            await box.end()

    began_s = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(unit.sandboxes)))
    wall_s = time.perf_counter() - began_s
    await _end(contender, [])
    return unit.trajectories * 60 / wall_s


async def measure(unit: Unit) -> Sample:
    """Take all measures of a unit, in the order of a sandbox's life. Figures from before a failure are kept."""
    sample = Sample()
    try:
        measured = contender(unit)
        await measured.prepare()
        boxes, start_ms = await _start(measured, unit)
        sample = sample.model_copy(update={"start_ms": start_ms})
        burst = await _burst(boxes, unit)
        sample = burst.model_copy(update={"start_ms": start_ms})
        gone_ms = await _end(measured, boxes)
        boxes.clear()
        sample = sample.model_copy(update={"gone_ms": gone_ms})
        if unit.trajectories:
            per_min = await _trajectories(measured, unit)
            sample = sample.model_copy(update={"trajectories_per_min": per_min})
    except Missing as error:
        return sample.model_copy(update={"failure": str(error)})
    except Exception as error:  # whatever a peer raises: its row says so, and the other rows are measured
        return sample.model_copy(update={"failure": f"{type(error).__name__}: {error}"})
    return sample


if __name__ == "__main__":
    result = asyncio.run(measure(Unit.model_validate_json(sys.argv[1])))
    Path(sys.argv[2]).write_text(result.model_dump_json())
    os._exit(0)  # a peer's thread that hangs must not hold the process
