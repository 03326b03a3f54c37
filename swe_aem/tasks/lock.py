"""`tasks.lock`: the results of preflight for a task set, one JSON line per task and backend, sorted.

`swe-aem tasks check` writes it; a rollout reads it (`--lock`). An entry is valid for one content of its task: it
holds a digest of the whole record, and a changed task counts as not checked.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from swe_aem.core import TaskRecord
from swe_aem.core.base import Frozen
from swe_aem.core.explain import explain
from swe_aem.errors import UserError, why_unreadable
from swe_aem.tasks.taskset import TaskSet

LOCK_FILE = "tasks.lock"
WEAK_SHARE = 0.2
"""Tests that let a larger share of mutants pass are called weak."""
LockPolicy = Literal["require", "drop", "weigh"]
LockKey = tuple[str, str]
"""(task id, backend)."""


class LockEntry(Frozen):
    """The result of preflight for one task in one backend."""

    task_id: str
    record: str
    """Digest of the task and its answer key when it was checked."""
    passed: bool
    """Did gold always resolve, doing nothing never, and had each test the same result every time?"""
    problems: tuple[str, ...] = ()
    """Why it did not pass, one sentence each."""
    flaky: tuple[str, ...] = ()
    """Tests whose result changed between runs."""
    network: Literal["none", "blackhole"]
    """The network policy under which the gold patch resolves; the task's own if none does."""
    backend: str
    """Where it was checked: docker or bubblewrap."""
    image: str
    """Digest of the image or root file system that it was checked in."""
    gold_runs: int
    gold_resolved: int
    noop_runs: int
    noop_resolved: int
    boot_s: float
    """Median seconds until a sandbox had started."""
    test_s: float
    """Median seconds of the evaluation script with the gold patch."""
    max_test_s: float
    peak_memory_bytes: int | None
    """The most memory that a sandbox held during an evaluation."""
    checked_on: str
    """Date, YYYY-MM-DD."""
    mutants: int | None = None
    """Mutants of the gold patch that were graded, those that were told to be equivalent not included. None where that
    was not asked for; 0 where the gold patch has none."""
    mutants_passed: int = 0
    """Mutants that the tests let pass."""
    mutants_equivalent: int = 0
    """Mutants that are the gold patch's own program; not graded, and in no share."""
    mutants_wanted: int = 0
    """Most mutants that were asked for."""
    mutants_seed: int = 0
    """Which ones they are."""
    survivors: tuple[str, ...] = ()
    """The mutants that passed, one line each."""

    twins: int | None = None
    """FAIL_TO_PASS tests with a usable twin: a test that contradicts it, and fails with the gold patch. None where that
    was not measured."""
    twin_s: float = 0.0
    """Seconds of the evaluation of the twins with the gold patch: what they cost each patch that passes."""
    why_no_twin: str = ""
    """Why the tests without a twin have none, the most frequent reason; empty if all have one."""

    @property
    def key(self) -> LockKey:
        """The key of an entry: no two entries of a lock have the same."""
        return self.task_id, self.backend

    @property
    def weight(self) -> float:
        """Weight of the task in training, 0..1: the share of gold runs that resolved it; 0 if doing nothing did."""
        return 0.0 if self.noop_resolved else self.gold_resolved / self.gold_runs

    @property
    def passing_share(self) -> float | None:
        """Share of the mutants that the tests let pass, 0..1: 0 for strong tests; None where nothing was measured."""
        return self.mutants_passed / self.mutants if self.mutants else None

    def fits(self, record: TaskRecord) -> bool:
        """Was the entry written for this content of the task?"""
        return self.record == record_digest(record)


def record_digest(record: TaskRecord) -> str:
    """SHA-256 of a task and its answer key, without the split and what a lock says."""
    content = record.model_dump_json(exclude={"split", "weight", "flaky"})
    return hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def read_lock(path: Path) -> dict[LockKey, LockEntry]:
    """Entries by task id and backend; raises `UserError` that names file and line."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such lock; write it with `swe-aem tasks check --lock {path}`") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({why_unreadable(error)})") from None
    entries: dict[LockKey, LockEntry] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            entry = LockEntry.model_validate(json.loads(line))
        except ValueError as error:
            detail = explain(error, LockEntry)
            raise UserError(
                f"{path}, line {number}: not an entry of a lock ({detail}); delete the line, then run "
                "`swe-aem tasks check`"
            ) from None
        entries[entry.key] = entry
    return entries


def lock_text(entries: Mapping[LockKey, LockEntry]) -> str:
    """The file's content: the same entries give the same bytes."""
    ordered = [entries[key] for key in sorted(entries)]
    return "".join(json.dumps(entry.model_dump(mode="json"), ensure_ascii=True) + "\n" for entry in ordered)


@dataclass(frozen=True)
class LockRule:
    """What a lock policy does with tasks that are not fit."""

    needs_all: bool
    """One of them refuses the whole set."""
    keeps_flaky: bool
    """Those whose gold patch resolves only sometimes are kept, with a weight below 1."""


LOCK_RULES: dict[LockPolicy, LockRule] = {
    "require": LockRule(needs_all=True, keeps_flaky=False),
    "drop": LockRule(needs_all=False, keeps_flaky=False),
    "weigh": LockRule(needs_all=False, keeps_flaky=True),
}


def apply_lock(
    tasks: TaskSet, path: Path, backend: str, policy: LockPolicy, max_passing_mutants: float | None = None
) -> TaskSet:
    """The tasks that the lock lets through, with the network policy that it found for each.

    `require` refuses the whole set if one task is unfit, changed or unchecked; `drop` leaves such tasks out; `weigh`
    keeps flaky ones with a weight below 1 and leaves the others out. With `max_passing_mutants` (a share, 0..1) tasks
    are unfit too whose tests let more mutants pass, or of which that was not measured. Raises `UserError` that names
    the command.
    """
    rule = LOCK_RULES[policy]
    entries = read_lock(path)
    kept, refused = [], []
    for record in tasks:
        entry = entries.get((record.task.id, backend))
        why = _why_unfit(record, entry, rule, max_passing_mutants)
        if why or entry is None:
            refused.append(f"{record.task.id} ({why})")
            continue
        task = record.task.model_copy(update={"network": entry.network})
        weight = 1.0 if entry.passed else min(entry.weight, 1 - 1 / (entry.gold_runs + 1))
        kept.append(record.model_copy(update={"task": task, "weight": weight, "flaky": entry.flaky}))
    shown = ", ".join(refused[:3]) + (f" and {len(refused) - 3} more" if len(refused) > 3 else "")
    if refused and (rule.needs_all or not kept):
        bounded = max_passing_mutants is not None
        strength, bound = (" --strength 10", ", raise --max-passing-mutants") if bounded else ("", "")
        raise UserError(
            f"{path}: {len(refused)} of {len(tasks)} tasks are not fit in {backend}: {shown}. Run `swe-aem tasks check "
            f"--tasks {tasks.name} --sandbox {backend} --lock {path}{strength}`{bound}, or leave them out with "
            "--lock-policy drop"
        )
    notes = [f"{path}: {len(refused)} of {len(tasks)} tasks left out: {shown}"] if refused else []
    light = sum(record.weight < 1 for record in kept)
    if light:
        notes.append(f"{path}: {light} flaky tasks count less than 1")
    return replace(tasks, records=tuple(kept), notes=(*tasks.notes, *notes))


def passing_shares(path: Path, backend: str, records: Iterable[TaskRecord]) -> dict[str, float]:
    """By task id, the share of mutants that a task's tests let pass, 0..1; only tasks of which the lock holds it, for
    their content as it is now. Raises `UserError` if the lock cannot be read."""
    entries = read_lock(path)
    found = ((record, entries.get((record.task.id, backend))) for record in records)
    fitting = [entry for record, entry in found if entry is not None and entry.fits(record)]
    return {entry.task_id: entry.passing_share for entry in fitting if entry.passing_share is not None}


def _why_unfit(record: TaskRecord, entry: LockEntry | None, rule: LockRule, max_passing_mutants: float | None) -> str:
    """Why the lock does not let a task through; empty if it does."""
    if entry is None:
        return "not checked"
    if not entry.fits(record):
        return "changed since it was checked"
    if not entry.passed and not (rule.keeps_flaky and entry.weight > 0):
        return entry.problems[0]
    if max_passing_mutants is None:
        return ""
    if entry.mutants is None:
        return "its tests' strength was not measured"
    if entry.passing_share is None:
        return "its gold patch has no mutants that could measure its tests' strength"
    if entry.passing_share > max_passing_mutants:
        return f"its tests let {entry.mutants_passed} of {entry.mutants} mutants pass"
    return ""
