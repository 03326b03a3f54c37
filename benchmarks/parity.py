"""Verdicts side by side with SWE-bench's official harness: the same patches, test by test.

    uv run python benchmarks/parity.py --tasks pypi --rows 12 --json parity.json
    uv run python benchmarks/parity.py --tasks verified.parquet --id pallets__flask-5014

Four patches per row: the gold patch, none at all, a wrong one (a second bug instead of the fix) and a partial one (the
fix, and a bug beside it). swe-aem grades them in the chosen backend, the harness in containers of an image that holds
the row's repository; the image is made before and removed afterwards. A row whose repository is in its own image needs
that image on the engine. Exit code 1 if any verdict or any test differs.
"""

import argparse
import asyncio
import hashlib
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import docker
from contenders.base import RUN_LABEL
from docker.errors import DockerException
from engine import remove_containers
from harness import row_of
from image import copy_out, image_with
from pydantic import computed_field
from rich import box
from rich.console import Console
from rich.table import Table

from swe_aem.core import Deadline, SandboxSpec, TaskRecord, TestStatus, Verdict
from swe_aem.core.base import Frozen
from swe_aem.errors import SweAemError
from swe_aem.grading import Grader
from swe_aem.sandbox import open_backend
from swe_aem.tasks import TaskSet, load_tasks
from swe_aem.tasks.synthesis.mutate import RULES, find_mutations

KINDS = ("gold", "empty", "wrong", "partial")
GRADE_TIMEOUT_S = 2400.0
HARNESS_TIMEOUT_S = 2400.0
HARNESS_JOBS = 4
"""Harness processes at once: each spends most of its time waiting for `docker stop`."""
_SPARE_CANDIDATES = 5
"""Wrong and partial patches of one rule to try until one does not hang: the harness has no verdict on those."""


class Comparison(Frozen):
    """Two verdicts on one patch."""

    task_id: str
    kind: str
    ours: bool
    """Resolved, as we say."""
    harness: bool
    """Resolved, as the official harness says."""
    tests: int
    """Tests of FAIL_TO_PASS and PASS_TO_PASS that were compared."""
    differing: tuple[str, ...]
    """Tests that passed for one and not for the other."""

    @computed_field
    @property
    def agrees(self) -> bool:
        """Whether the two verdicts and all tests are equal."""
        return self.ours == self.harness and not self.differing


class Bench:
    """A row's working tree with the bug in it, where patches are made with git."""

    def __init__(self, record: TaskRecord, workspace: Path, scratch: Path) -> None:
        self._tree = scratch
        self._gold = record.key.gold_patch
        self._order = record.task.id
        shutil.copytree(workspace, scratch, symlinks=True)
        names = self._git("apply", "--numstat", "-", stdin=self._gold).split("\n")
        self._path = next(name.split("\t")[2] for name in names if name.endswith(".py"))

    def candidates(self, kind: str) -> Iterator[str]:
        """Patches of a kind. There are several only where they are made by mutation."""
        if kind == "gold":
            yield self._gold
        elif kind == "empty":
            yield ""
        else:
            yield from self._mutated(fixed=kind == "partial")

    def _mutated(self, *, fixed: bool) -> Iterator[str]:
        path = self._tree / self._path
        bug = path.read_text()
        if fixed:
            self._git("apply", "-", stdin=self._gold)
        base = path.read_text()
        self._git("checkout", "-q", "--", ".")
        # A rule at a time: all of them take minutes on a long file.
        for rule in sorted(RULES, key=lambda rule: self._rank(rule[0])):
            texts = [mutation.text for mutation in find_mutations(self._path, base, [rule]) if mutation.text != bug]
            yield from self._patches(sorted(texts, key=self._rank)[:_SPARE_CANDIDATES], fixed=fixed)

    def _rank(self, text: str) -> str:
        """Where something stands in the row's own order."""
        return hashlib.sha256((self._order + text).encode()).hexdigest()

    def _patches(self, texts: Sequence[str], *, fixed: bool) -> Iterator[str]:
        path = self._tree / self._path
        for text in texts:
            if fixed:
                self._git("apply", "-", stdin=self._gold)
            path.write_text(text)
            patch = self._git("diff", "--full-index")
            self._git("checkout", "-q", "--", ".")
            yield patch

    def _git(self, *words: str, stdin: str = "") -> str:
        command = ["git", "-c", "safe.directory=*", *words]
        done = subprocess.run(command, cwd=self._tree, input=stdin, capture_output=True, text=True, check=True)
        return done.stdout


async def _ours(grader: Grader, record: TaskRecord, workspace: Path | None, patch: str, run: str) -> Verdict:
    spec = SandboxSpec(
        image=record.task.image,
        workdir=record.task.workdir,
        workspace=workspace,
        network=record.task.network,
        labels={RUN_LABEL.removeprefix("swe-aem."): run},
    )
    async with grader.slot(record, spec) as slot:
        deadline = Deadline.after(GRADE_TIMEOUT_S)
        # An empty patch is a verdict without an evaluation; here its tests are compared too.
        return await slot.grade(patch, deadline) if patch else await slot.grade_untouched(deadline)


def _harness(row: dict[str, Any], work: Path) -> dict[str, Any]:
    """Report of the harness on one patch, from a process of its own."""
    id = uuid.uuid4().hex[:8]
    row_file, result = work / f"{id}-row.json", work / f"{id}-result.json"
    row_file.write_text(json.dumps(row))
    script = Path(__file__).with_name("harness.py").resolve()
    command = [sys.executable, str(script), str(row_file), id, str(result)]
    done = subprocess.run(command, cwd=work, capture_output=True, text=True, timeout=HARNESS_TIMEOUT_S)
    if done.returncode != 0:
        raise RuntimeError(f"the harness failed on {row['instance_id']}: {done.stderr[-2000:]}")
    return json.loads(result.read_text())


def _compare(record: TaskRecord, kind: str, ours: Verdict, theirs: dict[str, Any]) -> Comparison:
    statuses = {**ours.fail_to_pass, **ours.pass_to_pass}
    passed = {test for test, status in statuses.items() if status in (TestStatus.PASSED, TestStatus.XFAIL)}
    skipped = {test for test, status in ours.pass_to_pass.items() if status is TestStatus.SKIPPED}
    return Comparison(
        task_id=record.task.id,
        kind=kind,
        ours=ours.resolved,
        harness=theirs["resolved"],
        tests=len(statuses),
        differing=tuple(sorted((passed | skipped) ^ set(theirs["passed"]))),
    )


async def compare_row(
    grader: Grader, client: docker.DockerClient, record: TaskRecord, tasks: TaskSet, work: Path, run: str
) -> list[Comparison]:
    """Compare all kinds of patches for one row. A kind of which every candidate hangs is skipped."""
    workspace = tasks.workspace(record.task.id)
    id = uuid.uuid4().hex[:8]
    in_image = work / f"{id}-in-image"
    if workspace is None:
        copy_out(client, record.task.image, record.task.workdir, in_image, run)
    bench = Bench(record, workspace or in_image, work / f"{id}-bench")
    chosen: dict[str, tuple[str, Verdict]] = {}
    for kind in KINDS:
        for patch in bench.candidates(kind):
            verdict = await _ours(grader, record, workspace, patch, run)
            if not verdict.timed_out:
                chosen[kind] = (patch, verdict)
                break
    row = row_of(record.key)
    tree = work / f"{id}-tree"
    tree.mkdir()
    if workspace is not None:
        shutil.copytree(workspace, tree / record.task.workdir.lstrip("/"), symlinks=True)
    places = asyncio.Semaphore(HARNESS_JOBS)

    async def judged(patch: str) -> dict[str, Any]:
        async with places:
            return await asyncio.to_thread(_harness, {**row, "image": image, "model_patch": patch}, work)

    with image_with(client, record.task.image, tree, run, tag=id) as image:
        theirs = await asyncio.gather(*(judged(patch) for patch, _ in chosen.values()))
    return [
        _compare(record, kind, ours, report) for (kind, (_, ours)), report in zip(chosen.items(), theirs, strict=True)
    ]


async def compare_all(
    chosen: argparse.Namespace, client: docker.DockerClient, tasks: TaskSet, work: Path, run: str
) -> list[Comparison]:
    """Compare every row, with a line on stderr for each."""
    found: list[Comparison] = []
    async with Grader(open_backend(chosen.sandbox)) as grader:
        for number, record in enumerate(tasks, 1):
            row = await compare_row(grader, client, record, tasks, work, run)
            found += row
            told = ", ".join(f"{one.kind} {'agrees' if one.agrees else 'DIFFERS'}" for one in row)
            print(f"[{number}/{len(tasks)}] {record.task.id}: {told}", file=sys.stderr, flush=True)
    return found


def show(found: Sequence[Comparison]) -> None:
    """Print one line per kind of patch, and every difference."""
    table = Table("patch", "compared", "tests", "resolved by ours", "by the harness", "differ", box=box.MARKDOWN)
    for kind in (*KINDS, "all"):
        rows = [one for one in found if kind in (one.kind, "all")]
        tests, differ = sum(one.tests for one in rows), sum(not one.agrees for one in rows)
        ours, harness = sum(one.ours for one in rows), sum(one.harness for one in rows)
        table.add_row(kind, *map(str, (len(rows), tests, ours, harness, differ)))
    console = Console(width=120)
    console.print(table)
    for one in found:
        if not one.agrees:
            console.print(f"{one.task_id}, {one.kind}: swe-aem {one.ours}, harness {one.harness}; {one.differing}")


def spread(tasks: TaskSet, rows: int) -> list[str]:
    """Ids of `rows` tasks, spread evenly over the set's order, so that every package has some."""
    step = max(1.0, len(tasks) / rows)
    return [tasks.records[int(number * step)].task.id for number in range(min(rows, len(tasks)))]


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description="Compare verdicts with SWE-bench's official harness.")
    parser.add_argument("--tasks", default="pypi", help="task set; the rows' images are on the engine (default pypi)")
    parser.add_argument("--rows", type=int, default=12, help="how many of its tasks; four patches each (default 12)")
    parser.add_argument("--id", action="append", help="this task instead; may be given several times")
    parser.add_argument("--sandbox", default="docker", choices=["docker", "bubblewrap"], help="backend of the grader")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every comparison")
    parser.add_argument("--quick", action="store_true", help="one row")
    chosen = parser.parse_args(words)
    chosen.rows = 1 if chosen.quick else chosen.rows
    return chosen


def main() -> int:
    """Compare, print the table, write the file."""
    chosen = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))  # so that what was started is removed
    try:
        client = docker.from_env(timeout=300)
        tasks = load_tasks(chosen.tasks, ids=chosen.id or spread(load_tasks(chosen.tasks), chosen.rows))
    except (DockerException, SweAemError) as error:
        print(f"cannot start: {error}")
        return 2
    run = uuid.uuid4().hex[:12]
    with tempfile.TemporaryDirectory(prefix="swe-aem-parity-") as work:
        try:
            found = asyncio.run(compare_all(chosen, client, tasks, Path(work), run))
        finally:
            remove_containers(client, run)
    show(found)
    if chosen.json:
        chosen.json.write_text(json.dumps([one.model_dump() for one in found], indent=2) + "\n")
    return 0 if all(one.agrees for one in found) else 1


if __name__ == "__main__":
    sys.exit(main())
