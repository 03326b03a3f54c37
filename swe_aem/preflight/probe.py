"""One task under test: the gold patch and an empty patch, several times, each in a sandbox of its own."""

import statistics
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from swe_aem.core import Deadline, SandboxSpec, TaskRecord, TestStatus, Verdict, bounded
from swe_aem.core.base import Frozen
from swe_aem.errors import InfrastructureError
from swe_aem.grading import Delta, Grader, Twins
from swe_aem.rollout import RolloutConfig, grade_attempt_s
from swe_aem.tasks import LockEntry, record_digest

Network = Literal["none", "blackhole"]

_CHANGES = (TestStatus.FAILED, TestStatus.ERROR, TestStatus.MISSING)
_SHOWN = 5


class GradedRun(Frozen):
    """One evaluation of a patch."""

    verdict: Verdict
    boot_s: float
    """Seconds until the sandbox had started."""
    peak_memory_bytes: int | None
    """None where the sandbox does not measure it."""


class RunCounts(Frozen):
    """How often each control is graded."""

    gold: int = 3
    """Runs of the gold patch, which must resolve the task."""
    noop: int = 1
    """Runs of an empty patch, which must not."""


@dataclass(frozen=True)
class Probe:
    """A task, and what it is graded with."""

    record: TaskRecord
    grader: Grader
    spec: SandboxSpec
    """Its grading sandboxes."""
    config: RolloutConfig
    """Limits in seconds, and attempts."""

    async def golds(self, count: int, network: Network) -> list[GradedRun]:
        """Runs of the gold patch; no more after the first one if that one did not even apply."""
        runs: list[GradedRun] = []
        patch = await self.grader.gold_patch(self.record, self._spec(network), self._gold_limit())
        for _ in range(count):
            runs.append(await self.run(patch, network))
            if not runs[0].verdict.patch_applied:
                break
        return runs

    async def noops(self, count: int, network: Network) -> list[GradedRun]:
        """Runs of the tests on the untouched repository."""
        return [await self.run(None, network) for _ in range(count)]

    async def gold_delta(self, network: Network) -> Delta:
        """What the gold patch changes, with contents; tried again after an infrastructure failure."""
        for _ in range(self.config.scheduling.max_attempts - 1):
            with suppress(InfrastructureError):
                return await self.grader.gold_delta(self.record, self._spec(network), self._gold_limit())
        return await self.grader.gold_delta(self.record, self._spec(network), self._gold_limit())

    async def twins(self, network: Network) -> Twins:
        """The twins of its tests, which rollouts will use too."""
        return await self.grader.twins_of(self.record, self._spec(network))

    def _spec(self, network: Network) -> SandboxSpec:
        return self.spec.model_copy(update={"network": network})

    def _gold_limit(self) -> Deadline:
        return Deadline.after(self.config.scheduling.start_limit_s + self.record.key.timeout_s)

    async def run(self, patch: Delta | str | None, network: Network) -> GradedRun:
        """One evaluation of a patch, of the untouched repository if there is none."""
        spec = self._spec(network)
        limit_s = self.config.scheduling.start_limit_s + grade_attempt_s(self.config, self.record)
        limit = Deadline.after(limit_s)
        async with bounded(f"checking {self.record.task.id}", limit):
            began_s = time.monotonic()
            async with self.grader.slot(self.record, spec) as slot:
                sandbox = await slot.sandbox()
                boot_s = time.monotonic() - began_s
                verdict = await (
                    slot.grade_untouched(limit) if patch is None else slot.grade(patch, limit, twins=False)
                )
                peak_memory_bytes = await sandbox.peak_memory_bytes()
                return GradedRun(verdict=verdict, boot_s=boot_s, peak_memory_bytes=peak_memory_bytes)


async def probe_once(probe: Probe, counts: RunCounts, *, backend: str, image: str) -> LockEntry:
    """Everything that the lock holds on a task; raises `InfrastructureError`, which says nothing about the task.

    `backend` is the name of the backend and `image` the digest of the task's image there.
    """
    network: Network = probe.spec.network
    golds = await probe.golds(counts.gold, network)
    # Only where the network may be what is missing: a task that resolves at times is flaky, whatever comes after.
    if network == "none" and not any(run.verdict.resolved for run in golds):
        other = await probe.golds(counts.gold, "blackhole")
        if _all_resolved(other):
            golds, network = other, "blackhole"
    noops = await probe.noops(counts.noop, network)
    entry = _entry(probe.record, golds, noops, network=network, backend=backend, image=image)
    return entry.model_copy(update=_twin_fields(await probe.twins(network))) if _all_resolved(golds) else entry


def _all_resolved(runs: Sequence[GradedRun]) -> bool:
    return all(run.verdict.resolved for run in runs)


def _entry(
    record: TaskRecord,
    golds: Sequence[GradedRun],
    noops: Sequence[GradedRun],
    *,
    network: Network,
    backend: str,
    image: str,
) -> LockEntry:
    flaky = tuple(sorted(_unsteady(golds) | _unsteady(noops)))
    gold_problems = _gold_problems(golds) if record.key.has_gold else ["there is no gold patch that shows it solvable"]
    problems = [*gold_problems, *_noop_problems(noops)]
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


def _twin_fields(twins: Twins) -> dict[str, int | float | str]:
    """What the lock holds on the twins of a task."""
    why = Counter(twins.why_not.values()).most_common(1)
    return {"twins": len(twins.names), "twin_s": round(twins.eval_s, 3), "why_no_twin": why[0][0] if why else ""}


def _unsteady(runs: Sequence[GradedRun]) -> set[str]:
    """Tests with more than one status over runs of the same patch."""
    seen: dict[str, set[TestStatus]] = {}
    for run in runs:
        for test, status in {**run.verdict.fail_to_pass, **run.verdict.pass_to_pass}.items():
            seen.setdefault(test, set()).add(status)
    return {test for test, statuses in seen.items() if len(statuses) > 1}


def _gold_problems(golds: Sequence[GradedRun]) -> list[str]:
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


def _noop_problems(noops: Sequence[GradedRun]) -> list[str]:
    resolved = sum(run.verdict.resolved for run in noops)
    return [f"doing nothing resolves it, {resolved} of {len(noops)} times"] if resolved else []


def _some(tests: Sequence[str]) -> str:
    return ", ".join(tests[:_SHOWN]) + (f" and {len(tests) - _SHOWN} more" if len(tests) > _SHOWN else "")


class NotChecked(Frozen):
    """A task that an infrastructure failure kept from being checked."""

    task_id: str
    why: str


async def probe_task(probe: Probe, counts: RunCounts, *, backend: str, image: str) -> LockEntry | NotChecked:
    """What `probe_once` returns, tried again after an infrastructure failure; `NotChecked` if every attempt failed."""
    why = ""
    for _ in range(probe.config.scheduling.max_attempts):
        try:
            return await probe_once(probe, counts, backend=backend, image=image)
        except InfrastructureError as error:
            why = f"{type(error).__name__}: {error}"
    return NotChecked(task_id=probe.record.task.id, why=why)
