"""The strength of tests: what is graded, what an entry says, what is measured again, and whose fault a failure is."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from swe_aem.core import Deadline, SandboxSpec, TaskRecord, Verdict
from swe_aem.errors import GraderError, SandboxDead, Starved, UserError
from swe_aem.grading import Blob, Change, Delta
from swe_aem.preflight import CheckConfig, CheckResult, RunCounts, StrengthConfig, check
from swe_aem.rollout import ROUNDS_THAT_DECIDE, RolloutConfig
from swe_aem.sandbox import open_backend
from swe_aem.tasks import apply_lock, load_tasks, passing_shares, read_lock
from swe_aem.testing.sandbox import FakeBackend
from tests.preflight.test_preflight import BAD, GOOD, StandInGrader, StandInSlot, lock, one, verdict

TASKS = load_tasks("micro", split="heldout", limit=3)
OLD, NEW = b"def f(a, b):\n    return a < b\n", b"def f(a, b):\n    return a + 1 <= b - 2\n"
ONLY_GOLD = RunCounts(gold=1)


class Slot(StandInSlot):
    """Grades the gold patch and mutants apart."""

    grader: "MutantGrader"

    def __init__(self, grader: "MutantGrader", network: str, record: TaskRecord) -> None:
        super().__init__(grader, network)
        self.record = record

    async def grade(self, patch: object, deadline: Deadline, *, twins: bool = True) -> Verdict:
        assert not twins
        if not isinstance(patch, Delta):
            return await super().grade(patch, deadline, twins=twins)
        (change,) = patch.changes
        assert change.new is not None
        self.grader.mutants.append(change.new.content)
        self.grader.limits_s.append(self.record.key.timeout_s)
        said = self.grader.of_mutants[(len(self.grader.mutants) - 1) % len(self.grader.of_mutants)]
        if isinstance(said, Exception):
            raise said
        return said


class MutantGrader(StandInGrader):
    """A grader whose verdicts on mutants are given, in turns."""

    def __init__(self, *of_mutants: Any, gold: Any = (GOOD,)) -> None:
        super().__init__(gold)
        self.of_mutants = of_mutants
        self.mutants: list[bytes] = []
        self.limits_s: list[float] = []

    async def gold_delta(self, record: TaskRecord, spec: SandboxSpec, deadline: Deadline) -> Delta:
        return Delta((Change("m.py", Blob(0o100644, OLD), Blob(0o100644, NEW)),), patch="x")

    @asynccontextmanager
    async def slot(self, record: TaskRecord, spec: SandboxSpec) -> AsyncIterator[StandInSlot]:
        yield Slot(self, spec.network, record)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Check the first task with a stand-in grader, into tmp_path/tasks.lock."""

    def start(grader: MutantGrader, mutants: int = 4, seed: int = 0, **settings: Any) -> CheckResult:
        monkeypatch.setattr("swe_aem.preflight.checking.Grader", lambda backend: grader)
        strength = StrengthConfig(mutants=mutants, seed=seed)
        config = CheckConfig(**{"jobs": 1, "counts": ONLY_GOLD, "strength": strength, **settings})
        return asyncio.run(check(config, one(TASKS), tmp_path / "tasks.lock", FakeBackend()))

    return start


def test_the_share_of_mutants_that_pass_is_in_the_entry(run: Any, tmp_path: Path) -> None:
    grader = MutantGrader(GOOD, BAD, verdict(False, timed_out=True), verdict(False, integrity=("odd",)))
    (entry,) = run(grader).entries
    assert (entry.mutants, entry.mutants_passed, entry.passing_share, entry.mutants_wanted) == (4, 1, 0.25, 4)
    assert len(entry.survivors) == 1
    assert len(set(grader.mutants)) == 4
    assert not {OLD, NEW} & set(grader.mutants)
    assert list(read_lock(tmp_path / "tasks.lock").values()) == [entry]


def test_a_mutant_that_hangs_is_ended_long_before_the_tasks_limit(run: Any) -> None:
    grader = MutantGrader(BAD)
    (entry,) = run(grader).entries
    assert TASKS.records[0].key.timeout_s > 25
    assert set(grader.limits_s) == {10 * entry.max_test_s + 20}


def test_what_could_not_be_applied_is_no_mutant(run: Any) -> None:
    (entry,) = run(MutantGrader(verdict(False, patch_applied=False), GOOD)).entries
    assert (entry.mutants, entry.mutants_passed) == (2, 2)


def test_a_task_without_mutants_is_measured_and_has_no_share(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def gold_delta(self: MutantGrader, record: TaskRecord, spec: SandboxSpec, deadline: Deadline) -> Delta:
        return Delta((Change("m.json", Blob(0o100644, b"1"), Blob(0o100644, b"2")),), patch="x")

    monkeypatch.setattr(MutantGrader, "gold_delta", gold_delta)
    (entry,) = run(MutantGrader(GOOD)).entries
    assert (entry.mutants, entry.passing_share) == (0, None)
    assert run(MutantGrader(GOOD)).earlier == 1


def test_a_mutant_that_grading_fails_on_beside_a_sound_gold_patch_is_not_paid(run: Any) -> None:
    grader = MutantGrader(GraderError("no parser survives it"))
    (entry,) = run(grader, mutants=2).entries
    assert (entry.mutants, entry.mutants_passed) == (2, 0)
    assert len(grader.mutants) == 2 * ROUNDS_THAT_DECIDE
    assert grader.grades == 2 + 2 * ROUNDS_THAT_DECIDE  # gold and the empty patch, then gold beside each failure


def test_a_mutant_that_passes_after_nine_lost_grades_passes(run: Any) -> None:
    lost = [SandboxDead("taken")] * (ROUNDS_THAT_DECIDE - 1)
    (entry,) = run(MutantGrader(*lost, GOOD), mutants=1).entries
    assert (entry.mutants, entry.mutants_passed) == (1, 1)


def test_a_failure_of_the_gold_patch_beside_a_mutant_begins_the_count_again(run: Any) -> None:
    lost = [SandboxDead("taken")] * (ROUNDS_THAT_DECIDE + 1)
    gold = (GOOD, GOOD, *[GOOD] * 5, SandboxDead("taken"), *[GOOD] * 9)
    (entry,) = run(MutantGrader(*lost, GOOD, gold=gold), mutants=1).entries
    assert (entry.mutants, entry.mutants_passed) == (1, 1)


def test_infrastructure_failures_say_nothing_and_keep_what_is_known(run: Any) -> None:
    checked = run(MutantGrader(Starved("no processor")), mutants=2)
    assert [entry.mutants for entry in checked.entries] == [None]
    assert checked.not_checked[0].why == "the strength of its tests: Starved: no processor"
    broken = MutantGrader(GraderError("gone"), gold=(GOOD, GraderError("gone")))
    assert run(broken, mutants=2, again=True).entries[0].mutants is None
    again = MutantGrader(BAD)
    assert run(again, mutants=2).entries[0].mutants == 2
    assert again.grades == 0  # neither gold nor the empty patch once more


def test_a_killed_measurement_keeps_what_came_before_it(run: Any, tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        run(MutantGrader(BAD, ZeroDivisionError()))
    (entry,) = read_lock(tmp_path / "tasks.lock").values()
    assert (entry.passed, entry.mutants) == (True, None)
    again = MutantGrader(BAD)
    assert run(again).entries[0].mutants == 4
    assert again.grades == 0


def test_only_what_an_entry_does_not_say_is_measured(run: Any) -> None:
    assert run(MutantGrader(GOOD), mutants=0).entries[0].mutants is None
    second = MutantGrader(GOOD)
    assert run(second, mutants=3).entries[0].mutants == 3
    assert (second.grades, len(second.mutants)) == (0, 3)
    for fewer in (0, 2, 3):
        known = MutantGrader(GOOD)
        assert run(known, mutants=fewer).entries[0].mutants == 3
        assert (known.grades, known.mutants) == (0, [])
    more = MutantGrader(BAD)
    assert run(more, mutants=5).entries[0].mutants == 5
    other = MutantGrader(BAD)
    assert run(other, mutants=5, seed=1).entries[0].mutants_seed == 1
    assert (more.grades, other.grades) == (0, 0)
    assert set(more.mutants) != set(other.mutants)


def test_a_task_that_gold_does_not_resolve_is_not_measured(run: Any) -> None:
    grader = MutantGrader(GOOD, gold=(BAD,))
    (entry,) = run(grader).entries
    assert (entry.passed, entry.mutants, grader.mutants) == (False, None, [])
    assert run(MutantGrader(GOOD)).earlier == 1


# -- a bound in rollouts ----------------------------------------------------------------------------------------------


STRONG = {"mutants": 10, "mutants_passed": 1}
WEAK = {"mutants": 10, "mutants_passed": 5}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (WEAK, "its tests let 5 of 10 mutants pass"),
        ({}, "its tests' strength was not measured"),
        ({"mutants": 0}, "its gold patch has no mutants"),
    ],
)
def test_a_bound_refuses_weak_and_unmeasured_tasks(tmp_path: Path, changes: dict, said: str) -> None:
    path = lock(tmp_path, STRONG, STRONG, changes)
    assert len(apply_lock(TASKS, path, "docker", "require")) == 3
    with pytest.raises(UserError, match=rf"1 of 3 tasks .*{said}.*swe-aem tasks check .*--strength 10"):
        apply_lock(TASKS, path, "docker", "require", 0.3)
    for policy in ("drop", "weigh"):
        kept = apply_lock(TASKS, path, "docker", policy, 0.3)
        assert len(kept) == 2
        assert said in kept.notes[0]
    assert len(apply_lock(TASKS, lock(tmp_path, STRONG, STRONG, STRONG), "docker", "require", 0.1)) == 3


def test_a_bound_needs_a_lock() -> None:
    with pytest.raises(ValueError, match="max_passing_mutants needs lock"):
        RolloutConfig(max_passing_mutants=0.2)


def test_a_lock_of_an_older_version_is_read(tmp_path: Path) -> None:
    path = lock(tmp_path, {}, {}, {})
    text = path.read_text()
    for name in ("mutants", "mutants_passed", "mutants_equivalent", "mutants_wanted", "mutants_seed"):
        for value in ("null", "0"):
            text = text.replace(f', "{name}": {value}', "")
    text = text.replace(', "survivors": []', "")
    assert "mutants" not in text
    path.write_text(text)
    assert [entry.mutants for entry in read_lock(path).values()] == [None] * 3
    assert passing_shares(path, "docker", TASKS) == {}


# -- for real ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.bubblewrap
def test_weaker_tests_let_more_mutants_pass(tmp_path: Path, require_bubblewrap: None) -> None:
    tasks = load_tasks("nano", split="heldout", ids=["nano__items-balanced-missing_branch-65f4a86f"])
    config = CheckConfig(counts=ONLY_GOLD, strength=StrengthConfig(mutants=4))
    (strong,) = asyncio.run(check(config, tasks, tmp_path / "strong.lock", open_backend("bubblewrap"))).entries
    key = tasks.records[0].key
    # only one test counts any more
    weak_key = key.model_copy(update={"pass_to_pass": ()})
    weakened = replace(tasks, records=(tasks.records[0].model_copy(update={"key": weak_key}),))
    (weak,) = asyncio.run(check(config, weakened, tmp_path / "weak.lock", open_backend("bubblewrap"))).entries
    assert strong.mutants == weak.mutants == 4
    assert strong.mutants_passed < weak.mutants_passed
    assert set(strong.survivors) <= set(weak.survivors)
