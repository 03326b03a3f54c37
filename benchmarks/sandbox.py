"""Sandboxes side by side with peers: tool calls, engine CPU, start, end, scripted trajectories.

    uv run --all-extras --group bench python benchmarks/sandbox.py --json sandbox.json

Rounds are interleaved: a round measures every path with every number of sandboxes, each in a process of its own with a
time limit. README.md explains the figures.
"""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Sequence
from pathlib import Path

import docker
from contenders import NAMES
from contenders.base import Unit
from docker.errors import DockerException
from engine import remove_containers
from image import shared_image, unpack
from report import machine, rows, show
from suite.host import busy_cpus
from unit import Sample
from workload import make_repository

UNIT_TIMEOUT_S = 400.0
_TRAJECTORIES = {1: 3, 8: 16}
"""Scripted trajectories by number of workers; other numbers of sandboxes play none."""


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description="Measure sandboxes side by side with peers.")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write one object per path and number of sandboxes")
    parser.add_argument("--image", default="swe-aem/micro:1", help="base image with bash, git, Python and pytest")
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds (default 3); figures are medians")
    parser.add_argument("--sandboxes", help="numbers of sandboxes (default 1,8,32)")
    parser.add_argument("--only", default=",".join(NAMES), help=f"paths, of {','.join(NAMES)}")
    parser.add_argument("--calls", type=int, default=100, help="least number of calls per burst (default 100)")
    parser.add_argument("--seconds", type=float, default=2.0, help="least length of a burst (default 2)")
    parser.add_argument("--starts", type=int, default=5, help="starts one by one per round (default 5)")
    parser.add_argument("--quick", action="store_true", help="one round of short bursts; 1 and 8 sandboxes by default")
    chosen = parser.parse_args(words)
    if chosen.quick:
        chosen.rounds, chosen.calls, chosen.seconds, chosen.starts = 1, 16, 0.5, 2
    numbers = chosen.sandboxes or ("1,8" if chosen.quick else "1,8,32")
    chosen.sandboxes = [int(number) for number in numbers.split(",")]
    chosen.only = chosen.only.split(",")
    unknown = set(chosen.only) - set(NAMES)
    if unknown:
        parser.error(f"unknown path {', '.join(sorted(unknown))}; choose of {', '.join(NAMES)}")
    return chosen


def measure(unit: Unit, work: Path) -> Sample:
    """Measure one unit in a child process. If it takes too long, end it and everything that it started."""
    result = work / f"{unit.id}.json"
    command = [sys.executable, str(Path(__file__).with_name("unit.py")), unit.model_dump_json(), str(result)]
    log = work / "unit.log"  # what peers print
    with log.open("wb") as output:
        child = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
    try:
        child.wait(UNIT_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return Sample(failure=f"not finished after {UNIT_TIMEOUT_S:.0f} s")
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
    if not result.exists():
        return Sample(failure=f"its process ended with exit code {child.returncode}: {log.read_text()[-1000:]}")
    return Sample.model_validate_json(result.read_text())


def run_all(chosen: argparse.Namespace, client: docker.DockerClient, work: Path, run: str) -> dict:
    """All rounds; samples by path and number of sandboxes."""
    repository = work / "repository"
    make_repository(repository)
    samples: dict[tuple[str, int], list[Sample]] = {}
    swerex = "swerex" in chosen.only
    with shared_image(client, chosen.image, work, repository, run, swerex=swerex) as (image, without_swerex):
        rootfs = unpack(client, image, work / "rootfs", run) if "swe-aem-bubblewrap-rootfs" in chosen.only else None
        plan = [(turn, n, name) for turn in range(chosen.rounds) for n in chosen.sandboxes for name in chosen.only]
        for done, (turn, sandboxes, name) in enumerate(plan, 1):
            unit = Unit(
                contender=name,
                sandboxes=sandboxes,
                image=image,
                rootfs=rootfs,
                workspace=repository,
                run=run,
                id=f"{run}-{done}",
                calls=chosen.calls,
                seconds=chosen.seconds,
                starts=chosen.starts,
                trajectories=_TRAJECTORIES.get(sandboxes, 0),
            )
            impossible = without_swerex if name == "swerex" else None
            others = busy_cpus()
            sample = Sample(failure=impossible) if impossible else measure(unit, work)
            sample = sample.model_copy(update={"others_cpus": others})
            remove_containers(client, run)
            samples.setdefault((name, sandboxes), []).append(sample)
            told = sample.failure or f"{sample.calls_per_s:.0f} calls/s, started in {sample.start_ms:.0f} ms"
            where = f"[{done}/{len(plan)}] round {turn + 1}, {name}, {sandboxes} sandboxes ({others} CPUs busy before)"
            print(f"{where}: {told}", file=sys.stderr, flush=True)
    return samples


def main() -> int:
    """Measure, print the table, write the file."""
    chosen = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))  # so that what was started is removed
    try:
        client = docker.from_env(timeout=300)
        client.images.get(chosen.image)
    except DockerException as error:
        print(f"the docker engine must be up and have {chosen.image} (sandboxes/micro/build.sh): {error}")
        return 2
    facts = machine()
    run = uuid.uuid4().hex[:12]
    with tempfile.TemporaryDirectory(prefix="swe-aem-benchmark-") as work:
        try:
            samples = run_all(chosen, client, Path(work), run)
        finally:
            remove_containers(client, run)
    found = rows(samples, facts, run)
    show(found)
    if chosen.json:
        chosen.json.write_text(json.dumps(found, indent=2) + "\n")
    return 1 if any(row["failures"] for row in found if row["name"].startswith("swe-aem")) else 0


if __name__ == "__main__":
    sys.exit(main())
