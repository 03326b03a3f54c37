"""One task under test: the gold patch and no patch at all, several times, each in a sandbox of its own.

Raises `InfrastructureError` if our side failed: that says nothing about the task.
"""

import statistics
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Literal

from swe_aem.core import Deadline, SandboxSpec, TaskRecord, TestStatus, Verdict, bounded
from swe_aem.core.base import Frozen
from swe_aem.errors import InfrastructureError
from swe_aem.grading import Grader
from swe_aem.tasks.lock import LockEntry, record_digest

_START_LIMIT_S = 300.0
_GRADE_EXTRA_S = 180.0
_CHANGES = (TestStatus.FAILED, TestStatus.ERROR, TestStatus.MISSING)
_SHOWN = 5


class Run(Frozen):
    """One evaluation."""

    verdict: Verdict
    boot_s: float
    peak_memory_bytes: int | None


class Repeats(Frozen):
    """How often each truth is tried."""

    gold: int = 3
    noop: int = 1


async def probe(
    record: TaskRecord, grader: Grader, spec: SandboxSpec, repeats: Repeats, *, backend: str, image: str
) -> LockEntry:
    """Everything that the lock holds on a task; `spec` is that of its grading sandboxes."""
    golds = await _golds(record, grader, spec, repeats.gold)
    network = spec.network
    # Only where the network may be what is missing: a task that resolves at times is flaky, whatever comes after.
    if network == "none" and not any(run.verdict.resolved for run in golds):
        other = await _golds(record, grader, spec.model_copy(update={"network": "blackhole"}), repeats.gold)
        if _all_resolved(other):
            golds, network = other, "blackhole"
    settled = spec.model_copy(update={"network": network})
    noops = [await _run(record, grader, settled, patch=None) for _ in range(repeats.noop)]
    return _entry(record, golds, noops, network=network, backend=backend, image=image)


async def _golds(record: TaskRecord, grader: Grader, spec: SandboxSpec, count: int) -> list[Run]:
    """Gold runs; no more after the first one if that one did not even apply."""
    runs: list[Run] = []
    patch = await grader.gold_patch(record, spec, Deadline.after(_START_LIMIT_S + record.key.timeout_s))
    for _ in range(count):
        runs.append(await _run(record, grader, spec, patch=patch))
        if not runs[0].verdict.patch_applied:
            break
    return runs


async def _run(record: TaskRecord, grader: Grader, spec: SandboxSpec, *, patch: str | None) -> Run:
    limit = Deadline.after(_START_LIMIT_S + record.key.timeout_s + _GRADE_EXTRA_S)
    async with bounded(f"checking {record.task.id}", limit):
        began_s = time.monotonic()
        async with grader.slot(record, spec) as slot:
            sandbox = await slot.sandbox()
            boot_s = time.monotonic() - began_s
            if patch is None:
                verdict = await slot.grade_untouched(limit)
            else:
                verdict = await slot.grade(patch, limit)
            return Run(verdict=verdict, boot_s=boot_s, peak_memory_bytes=await sandbox.peak_memory_bytes())


def _all_resolved(runs: Sequence[Run]) -> bool:
    return all(run.verdict.resolved for run in runs)


def _entry(
    record: TaskRecord,
    golds: Sequence[Run],
    noops: Sequence[Run],
    *,
    network: Literal["none", "blackhole"],
    backend: str,
    image: str,
) -> LockEntry:
    flaky = tuple(sorted(_unsteady(golds) | _unsteady(noops)))
    problems = [*_gold_problems(golds), *_noop_problems(noops)]
    if flaky:
        problems.append(f"flaky: {_some(flaky)}")
    seconds = [run.verdict.eval_s for run in golds]
    peaks = [run.peak_memory_bytes for run in (*golds, *noops) if run.peak_memory_bytes is not None]
    return LockEntry(
        task_id=record.task.id,
        record=record_digest(record),
        passed=not problems,
        problems=tuple(problems),
        flaky=flaky,
        network=network,
        backend=backend,
        image=image,
        gold_runs=len(golds),
        gold_resolved=sum(run.verdict.resolved for run in golds),
        noop_runs=len(noops),
        noop_resolved=sum(run.verdict.resolved for run in noops),
        boot_s=round(statistics.median(run.boot_s for run in (*golds, *noops)), 3),
        test_s=round(statistics.median(seconds), 3),
        max_test_s=round(max(seconds), 3),
        peak_memory_bytes=max(peaks, default=None),
        checked_on=datetime.now(UTC).date().isoformat(),
    )


def _unsteady(runs: Sequence[Run]) -> set[str]:
    """Tests with more than one status over runs of the same patch."""
    seen: dict[str, set[TestStatus]] = {}
    for run in runs:
        for test, status in {**run.verdict.fail_to_pass, **run.verdict.pass_to_pass}.items():
            seen.setdefault(test, set()).add(status)
    return {test for test, statuses in seen.items() if len(statuses) > 1}


def _gold_problems(golds: Sequence[Run]) -> list[str]:
    failed = [run.verdict for run in golds if not run.verdict.resolved]
    if not failed:
        return []
    times = f"{len(failed)} of {len(golds)} times"
    verdict = failed[0]
    if not verdict.patch_applied:
        return [f"the gold patch does not apply: {verdict.log_tail.strip()[-200:]}"]
    if verdict.timed_out:
        return [f"the tests run into the limit with the gold patch, {times}"]
    if verdict.integrity:
        return [f"the gold patch looks like cheating, {times}: {verdict.integrity[0]}"]
    bad = [test for test, status in verdict.fail_to_pass.items() if status in (*_CHANGES, TestStatus.SKIPPED)]
    bad += [test for test, status in verdict.pass_to_pass.items() if status in _CHANGES]
    return [f"the gold patch does not resolve it, {times}: {_some(bad) or 'no test is to blame; read its log'}"]


def _noop_problems(noops: Sequence[Run]) -> list[str]:
    resolved = sum(run.verdict.resolved for run in noops)
    return [f"doing nothing resolves it, {resolved} of {len(noops)} times"] if resolved else []


def _some(tests: Sequence[str]) -> str:
    return ", ".join(tests[:_SHOWN]) + (f" and {len(tests) - _SHOWN} more" if len(tests) > _SHOWN else "")


class NotChecked(Frozen):
    """A task that could not be checked for a reason of ours."""

    task_id: str
    why: str


async def probe_patiently(
    record: TaskRecord,
    grader: Grader,
    spec: SandboxSpec,
    repeats: Repeats,
    *,
    backend: str,
    image: str,
    attempts: int = 3,
) -> LockEntry | NotChecked:
    """`probe`, tried again after a failure of our side; `NotChecked` if every attempt failed."""
    why = ""
    for _ in range(attempts):
        try:
            return await probe(record, grader, spec, repeats, backend=backend, image=image)
        except InfrastructureError as error:
            why = f"{type(error).__name__}: {error}"
    return NotChecked(task_id=record.task.id, why=why)
