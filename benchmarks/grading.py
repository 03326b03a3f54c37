"""Grading side by side with SWE-bench's official harness: wall time beyond the evaluation script.

    uv run python benchmarks/grading.py --json grading.json

Every grader gets the same rows with their gold patches, in interleaved rounds. Those of swe-aem are measured a second
time from an agent's sandbox to the verdict, preparing it and capturing the patch included. README.md explains the
figures.
"""

import argparse
import asyncio
import json
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import docker
from contenders.base import RUN_LABEL
from docker.errors import DockerException
from engine import remove_containers
from harness import row_of
from image import image_with
from report import machine
from rich import box
from rich.console import Console
from rich.table import Table

from swe_aem.core import Deadline, SandboxBackend, SandboxSpec, TaskRecord, Verdict
from swe_aem.core.base import Frozen
from swe_aem.grading import Grader, capture_work, prepare_for_agent
from swe_aem.sandbox import open_backend
from swe_aem.tasks import TaskSet, load_tasks

HARNESS = "swebench"
OURS = {"swe-aem-docker": "docker", "swe-aem-bubblewrap": "bubblewrap"}
GRADE_TIMEOUT_S = 600.0
_GOLD = "/tmp/gold.patch"
SETTLE_S = 2.0
"""How long a pre-started sandbox has been there when the patch comes; agents take minutes."""


class Sample(Frozen):
    """One grade of one gold patch."""

    wall_s: float
    """From the request to a verdict with everything that was started for it removed again."""
    eval_s: float
    """Seconds in the evaluation script."""
    prestarted_s: float | None = None
    """From patch to verdict in a sandbox that was started earlier, less the evaluation script; None for the harness."""
    prepare_s: float | None = None
    """Preparing the agent's sandbox, the record of its work tree included."""
    capture_s: float | None = None
    """Reading the agent's changes, and comparing them with what was given."""
    resolved: bool

    @property
    def beyond_s(self) -> float:
        """Seconds beyond the evaluation script."""
        return self.wall_s - self.eval_s

    @property
    def trajectory_s(self) -> float | None:
        """All that a trajectory costs beyond its agent and the evaluation script: prepare, capture and grade."""
        if self.prestarted_s is None or self.prepare_s is None or self.capture_s is None:
            return None
        return self.prepare_s + self.capture_s + self.prestarted_s


async def _grade_ours(backend: SandboxBackend, grader: Grader, record: TaskRecord, spec: SandboxSpec) -> Sample:
    began_s = time.perf_counter()
    async with grader.slot(record, spec) as slot:
        cold = await slot.grade(record.key.gold_patch, Deadline.after(GRADE_TIMEOUT_S))
    wall_s = time.perf_counter() - began_s
    async with grader.slot(record, spec) as slot, backend.open(spec) as sandbox:
        prepared_s = time.perf_counter()
        given = await prepare_for_agent(sandbox, record)
        prepare_s = time.perf_counter() - prepared_s
        await sandbox.write_file(_GOLD, record.key.gold_patch.encode())
        await sandbox.run(f"git apply {_GOLD}", timeout_s=60.0)
        await asyncio.sleep(SETTLE_S)
        left_s = time.perf_counter()
        delta = await slot.delta(await capture_work(sandbox, spec.workdir, given))
        capture_s = time.perf_counter() - left_s
        warm: Verdict = await slot.grade(delta, Deadline.after(GRADE_TIMEOUT_S))
    return Sample(
        wall_s=wall_s,
        eval_s=cold.eval_s,
        prestarted_s=warm.wall_s - warm.eval_s,
        prepare_s=prepare_s,
        capture_s=capture_s,
        resolved=cold.resolved and warm.resolved,
    )


def _grade_harness(client: docker.DockerClient, record: TaskRecord, workspace: Path, work: Path, run: str) -> Sample:
    """Grade with the harness, in an image with the workspace in it. The image is made before and removed afterwards."""
    key, id = record.key, uuid.uuid4().hex[:8]
    row = row_of(key)
    row_file, result = work / f"{id}-row.json", work / f"{id}-result.json"
    tree = work / f"{id}-tree"
    shutil.copytree(workspace, tree / record.task.workdir.lstrip("/"), symlinks=True)
    with image_with(client, record.task.image, tree, run, tag=id) as image:
        row_file.write_text(json.dumps({**row, "image": image}))
        script = Path(__file__).with_name("harness.py").resolve()
        command = [sys.executable, str(script), str(row_file), id, str(result)]
        done = subprocess.run(command, cwd=work, capture_output=True, text=True, timeout=GRADE_TIMEOUT_S)
    if done.returncode != 0:
        raise RuntimeError(f"the harness failed on {key.task_id}: {done.stderr[-2000:]}")
    told = json.loads(result.read_text())
    return Sample(wall_s=told["wall_s"], eval_s=told["eval_s"], resolved=told["resolved"])


def _workspace(tasks: TaskSet, record: TaskRecord, work: Path, untracked: int) -> Path:
    """The task's work tree, with files beside its repository as images have them."""
    workspace = tasks.workspace(record.task.id)
    assert workspace is not None, "bundled tasks have a workspace"
    if not untracked:
        return workspace
    copy = work / record.task.id
    shutil.copytree(workspace, copy, symlinks=True)
    for number in range(untracked):
        path = copy / "built" / str(number // 100) / f"{number}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{number}\n")
    return copy


async def run_all(
    chosen: argparse.Namespace, client: docker.DockerClient, tasks: TaskSet, work: Path, run: str
) -> dict[str, list[Sample]]:
    """All rounds; samples by grader."""
    samples: dict[str, list[Sample]] = {name: [] for name in chosen.only}
    plan = [(turn, record, name) for turn in range(chosen.rounds) for record in tasks for name in chosen.only]
    async with AsyncExitStack() as stack:
        backends = {name: open_backend(kind) for name, kind in OURS.items() if name in chosen.only}
        plain = {name: Grader(backend, twins=False) for name, backend in backends.items()}  # one evaluation each
        graders = {name: await stack.enter_async_context(grader) for name, grader in plain.items()}
        for grader in graders.values():
            await grader.check(tasks.records[0])  # a rollout's log parser has long been loaded when it is needed
        workspaces = {record.task.id: _workspace(tasks, record, work, chosen.untracked) for record in tasks}
        for done, (turn, record, name) in enumerate(plan, 1):
            workspace = workspaces[record.task.id]
            if name == HARNESS:
                sample = await asyncio.to_thread(_grade_harness, client, record, workspace, work, run)
            else:
                labels = {RUN_LABEL.removeprefix("swe-aem."): run}
                spec = SandboxSpec(
                    image=record.task.image, workdir=record.task.workdir, workspace=workspace, labels=labels
                )
                sample = await _grade_ours(backends[name], graders[name], record, spec)
            samples[name].append(sample)
            where = f"[{done}/{len(plan)}] round {turn + 1}, {name}, {record.task.id}"
            told = f"{sample.beyond_s:.2f} s beyond {sample.eval_s:.2f} s of evaluation, resolved: {sample.resolved}"
            print(f"{where}: {told}", file=sys.stderr, flush=True)
    return samples


def rows(samples: dict[str, list[Sample]], facts: dict[str, Any], run: str) -> list[dict[str, Any]]:
    """One object per grader, with medians of seconds over all rounds and tasks."""
    found = []
    for name, taken in samples.items():
        found.append(
            {
                "name": name,
                "grades": len(taken),
                "resolved": sum(sample.resolved for sample in taken),
                "eval_s": round(statistics.median(sample.eval_s for sample in taken), 3),
                "wall_s": round(statistics.median(sample.wall_s for sample in taken), 3),
                "beyond_s": round(statistics.median(sample.beyond_s for sample in taken), 3),
                "prestarted_beyond_s": _median(sample.prestarted_s for sample in taken),
                "prepare_s": _median(sample.prepare_s for sample in taken),
                "capture_s": _median(sample.capture_s for sample in taken),
                "trajectory_beyond_s": _median(sample.trajectory_s for sample in taken),
                "samples": [sample.model_dump() for sample in taken],
                "machine": facts,
                "run": run,
            }
        )
    return found


def _median(figures: Iterable[float | None]) -> float | None:
    measured = [figure for figure in figures if figure is not None]
    return round(statistics.median(measured), 3) if measured else None


def show(found: Sequence[dict[str, Any]]) -> None:
    """Print the table."""
    columns = ("prepare_s", "capture_s", "prestarted_beyond_s", "trajectory_beyond_s")
    headings = ("prepare s", "capture s", "grade beyond it s", "all three s")
    table = Table("grader", "resolved", "evaluation s", "alone beyond it s", *headings, box=box.MARKDOWN)
    for row in found:
        cells = [f"{row['resolved']}/{row['grades']}", f"{row['eval_s']:.2f}", f"{row['beyond_s']:.2f}"]
        cells += ["-" if row[column] is None else f"{row[column]:.2f}" for column in columns]
        table.add_row(row["name"], *cells)
    Console(width=120).print(table)


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    names = (HARNESS, *OURS)
    parser = argparse.ArgumentParser(description="Measure grading side by side with SWE-bench's harness.")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write one object per grader")
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds (default 3)")
    parser.add_argument("--tasks", type=int, default=3, help="how many of the bundled held-out tasks (default 3)")
    parser.add_argument("--untracked", type=int, default=0, help="files beside the repository (SWE-bench: 10000)")
    parser.add_argument("--only", default=",".join(names), help=f"graders, of {','.join(names)}")
    parser.add_argument("--quick", action="store_true", help="one round of one task")
    chosen = parser.parse_args(words)
    if chosen.quick:
        chosen.rounds, chosen.tasks = 1, 1
    chosen.only = chosen.only.split(",")
    unknown = set(chosen.only) - set(names)
    if unknown:
        parser.error(f"unknown grader {', '.join(sorted(unknown))}; choose of {', '.join(names)}")
    return chosen


def main() -> int:
    """Measure, print the table, write the file."""
    chosen = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))  # so that what was started is removed
    try:
        client = docker.from_env(timeout=300)
    except DockerException as error:
        print(f"the docker engine must be up: {error}")
        return 2
    facts, run = machine(), uuid.uuid4().hex[:12]
    every = load_tasks("tasks/micro", split="heldout")
    step = max(1, len(every) // chosen.tasks)
    ids = [record.task.id for record in every.records[::step][: chosen.tasks]]  # of several packages
    with tempfile.TemporaryDirectory(prefix="swe-aem-benchmark-") as work:
        try:
            tasks = load_tasks("tasks/micro", split="heldout", ids=ids)
            samples = asyncio.run(run_all(chosen, client, tasks, Path(work), run))
        finally:
            remove_containers(client, run)
    found = rows(samples, facts, run)
    show(found)
    if chosen.json:
        chosen.json.write_text(json.dumps(found, indent=2) + "\n")
    return 0 if all(row["resolved"] == row["grades"] for row in found) else 1


if __name__ == "__main__":
    sys.exit(main())
