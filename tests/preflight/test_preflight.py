"""Preflight: what an entry says, what is checked again, and whose fault a failure is."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swe_aem.cli.twin_lines import twin_lines
from swe_aem.core import Deadline, Limits, SandboxSpec, TaskRecord, TestStatus, Verdict
from swe_aem.errors import InfrastructureError, SandboxDead, UserError
from swe_aem.grading import Twins
from swe_aem.grading.twins.making import Twin
from swe_aem.preflight import CheckConfig, CheckResult, RunCounts, check
from swe_aem.rollout import RolloutConfig
from swe_aem.rollout.budget import sandbox_spec
from swe_aem.sandbox import open_backend
from swe_aem.sandbox.config import SandboxConfig
from swe_aem.tasks import TaskSet, load_tasks
from swe_aem.tasks.lock import LockEntry, apply_lock, lock_text, read_lock, record_digest
from swe_aem.testing.sandbox import FakeBackend

TASKS = load_tasks("micro", split="heldout", limit=3)
PASSED, FAILED = TestStatus.PASSED, TestStatus.FAILED


def verdict(resolved: bool, **changes: Any) -> Verdict:
    status = PASSED if resolved else FAILED
    return Verdict(
        resolved=resolved, patch_applied=True, fail_to_pass={"t": status}, pass_to_pass={"u": PASSED}, eval_s=0.5
    ).model_copy(update=changes)


GOOD, BAD = verdict(True), verdict(False)


class StandInSlot:
    """A slot, and its sandbox."""

    def __init__(self, grader: "StandInGrader", network: str) -> None:
        self.grader, self.network = grader, network

    async def sandbox(self) -> "StandInSlot":
        return self

    async def peak_memory_bytes(self) -> int:
        return 1 << 20

    async def grade(self, patch: object, deadline: Deadline, *, twins: bool = True) -> Verdict:
        return self.grader.say(self.grader.gold if self.network == "none" else self.grader.blackhole)

    async def grade_untouched(self, deadline: Deadline) -> Verdict:
        return self.grader.say(self.grader.noop)


class StandInGrader:
    """A grader whose verdicts are given: by network policy, for the gold patch and for none."""

    def __init__(self, gold: Iterable[Any], noop: Iterable[Any] = (), blackhole: Iterable[Any] = ()) -> None:
        self.gold, self.noop, self.blackhole = _endless(gold), _endless(noop or [BAD]), _endless(blackhole or [BAD])
        self.grades = 0
        self.specs: list[SandboxSpec] = []
        self.twins = Twins(runs=(Twin(names={"t": "t"}),), eval_s=0.5)

    async def __aenter__(self) -> "StandInGrader":
        return self

    async def __aexit__(self, *exc: object) -> None:
        pass

    async def check(self, record: TaskRecord) -> tuple[str, ...]:
        return ()

    async def gold_patch(self, record: TaskRecord, spec: SandboxSpec, deadline: Deadline) -> str:
        return record.key.gold_patch

    @asynccontextmanager
    async def slot(self, record: TaskRecord, spec: SandboxSpec) -> AsyncIterator[StandInSlot]:
        self.specs.append(spec)
        yield StandInSlot(self, spec.network)

    async def twins_of(self, record: TaskRecord, spec: SandboxSpec) -> Twins:
        return self.twins

    def say(self, verdicts: Iterator[Any]) -> Verdict:
        self.grades += 1
        said = next(verdicts)
        if isinstance(said, Exception):
            raise said
        return said


def _endless(values: Iterable[Any]) -> Iterator[Any]:
    values = list(values)
    yield from values
    while True:
        yield values[-1]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Check with a stand-in grader, one job, into tmp_path/tasks.lock."""

    def start(grader: StandInGrader, tasks: TaskSet = TASKS, **settings: Any) -> CheckResult:
        monkeypatch.setattr("swe_aem.preflight.checking.Grader", lambda backend: grader)
        config = CheckConfig(**{"jobs": 1, **settings})
        return asyncio.run(check(config, tasks, tmp_path / "tasks.lock", FakeBackend()))

    return start


def one(tasks: TaskSet = TASKS) -> TaskSet:
    return replace(tasks, records=tasks.records[:1])


def test_the_lock_says_how_many_tests_have_a_twin_and_why_others_have_none(run: Any) -> None:
    grader = StandInGrader([GOOD])
    (entry,) = run(grader, one()).entries
    assert (entry.twins, entry.twin_s, entry.why_no_twin) == (1, 0.5, "")
    grader.twins = Twins(why_not={"a": "one", "b": "other", "c": "other"})
    (entry,) = run(grader, one(), again=True).entries
    assert (entry.twins, entry.why_no_twin) == (0, "other")
    assert list(twin_lines([entry, entry.model_copy(update={"twins": None})])) == [
        "twins: 0 of 1 tasks (0.0%) have a usable one",
        "twins: not measured for 1 tasks, whose gold patch fails or whose entry is older (--again)",
        f"no twin: {entry.task_id}: other",
    ]
    (entry,) = run(StandInGrader([BAD]), one(), again=True).entries
    assert entry.twins is None


def test_sandboxes_are_those_of_the_rollout_to_come(run: Any) -> None:
    grader = StandInGrader([GOOD])
    rollout = RolloutConfig(user="1000", capabilities=("CHOWN",), limits=Limits(memory_bytes=1 << 30))
    run(grader, one(), rollout=rollout)
    expected = sandbox_spec(rollout, TASKS.records[0], 0, run="preflight", role="grader", workspace=None)
    assert len(grader.specs) == 4
    for spec in grader.specs:
        assert spec.model_copy(update={"workspace": None}) == expected
        assert (spec.user, spec.capabilities, spec.limits.memory_bytes) == ("1000", ("CHOWN",), 1 << 30)


@pytest.mark.parametrize(
    ("gold", "noop", "problem"),
    [
        ([GOOD], [BAD], None),
        ([GOOD], [GOOD], "doing nothing resolves it, 1 of 1 times"),
        ([BAD], [BAD], "the gold patch does not resolve it, 3 of 3 times: t"),
        ([GOOD, BAD, GOOD], [BAD], "the gold patch does not resolve it, 1 of 3 times: t"),
        ([verdict(False, patch_applied=False, log_tail="no such file")], [BAD], "does not apply: no such file"),
        ([verdict(False, timed_out=True)], [BAD], "the tests run into the limit"),
        ([verdict(False, integrity=("it imports _pytest",))], [BAD], "looks like cheating"),
        ([GOOD, verdict(True, pass_to_pass={"u": TestStatus.SKIPPED}), GOOD], [BAD], "flaky: u"),
    ],
)
def test_what_makes_a_task_unfit(run: Any, gold: list, noop: list, problem: str | None) -> None:
    (entry,) = run(StandInGrader(gold, noop), one()).entries
    assert entry.passed == (problem is None)
    assert problem is None or any(problem in found for found in entry.problems), entry.problems
    assert entry.peak_memory_bytes == 1 << 20


def test_flaky_tests_are_named(run: Any) -> None:
    (entry,) = run(StandInGrader([GOOD, BAD, GOOD]), one()).entries
    assert (entry.flaky, entry.gold_resolved, entry.gold_runs) == (("t",), 2, 3)


def test_the_network_that_the_tests_need_is_found(run: Any) -> None:
    (entry,) = run(StandInGrader([BAD], blackhole=[GOOD]), one()).entries
    assert (entry.passed, entry.network) == (True, "blackhole")


def test_a_flaky_task_gets_no_second_chance_under_another_network(run: Any) -> None:
    (entry,) = run(StandInGrader([GOOD, BAD, GOOD], blackhole=[GOOD]), one()).entries
    assert (entry.passed, entry.network, entry.flaky) == (False, "none", ("t",))


def test_an_infrastructure_failure_before_the_first_sandbox_stops_no_other_check(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = TaskSet.workspace

    def broken(self: TaskSet, task_id: str) -> Path | None:
        if task_id == TASKS.records[0].task.id:
            raise InfrastructureError("its tree has another commit")
        return workspace(self, task_id)

    monkeypatch.setattr(TaskSet, "workspace", broken)
    checked = run(StandInGrader([GOOD]))
    assert [finding.why for finding in checked.not_checked] == ["its tree has another commit"]
    assert len(checked.entries) == len(TASKS) - 1


def test_an_infrastructure_failure_is_tried_again_and_never_held_against_a_task(run: Any) -> None:
    checked = run(StandInGrader([SandboxDead("gone"), GOOD]), one())
    assert checked.entries[0].passed
    checked = run(StandInGrader([SandboxDead("gone")]), one(), again=True)
    assert (checked.entries, checked.failed) == ((), ())
    assert checked.not_checked[0].why == "SandboxDead: gone"


def test_only_what_is_new_or_changed_is_checked_again(run: Any) -> None:
    first = StandInGrader([GOOD])
    assert run(first, one()).earlier == 0
    rest = StandInGrader([GOOD])
    checked = run(rest, counts=RunCounts(gold=1))
    assert (checked.earlier, len(checked.entries), rest.grades) == (1, 3, 4)
    changed = TASKS.records[0].model_copy(
        update={"task": TASKS.records[0].task.model_copy(update={"problem_statement": "another"})}
    )
    again = StandInGrader([GOOD])
    assert run(again, replace(TASKS, records=(changed, *TASKS.records[1:])), counts=RunCounts(gold=1)).earlier == 2
    assert again.grades == 2


def test_a_killed_check_keeps_what_it_found(run: Any, tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        run(StandInGrader([GOOD, GOOD, ZeroDivisionError()]), counts=RunCounts(gold=1))
    assert len(read_lock(tmp_path / "tasks.lock")) == 2
    assert run(StandInGrader([GOOD])).earlier == 2


@pytest.mark.slow
def test_a_missing_image_is_not_the_tasks_fault(tmp_path: Path) -> None:
    task = TASKS.records[0].task.model_copy(update={"image": "no/such:image"})
    record = TASKS.records[0].model_copy(update={"task": task})
    checked = asyncio.run(
        check(CheckConfig(), replace(TASKS, records=(record,)), tmp_path / "t.lock", open_backend("bubblewrap"))
    )
    assert "no/such:image" in checked.not_checked[0].why


# -- the lock ---------------------------------------------------------------------------------------------------------

entries = st.builds(
    LockEntry,
    task_id=st.text(min_size=1),
    record=st.text(),
    passed=st.booleans(),
    problems=st.lists(st.text()).map(tuple),
    flaky=st.lists(st.text()).map(tuple),
    network=st.sampled_from(["none", "blackhole"]),
    backend=st.sampled_from(["docker", "bubblewrap"]),
    image=st.text(),
    boot_s=st.floats(0, 1e6),
    test_s=st.floats(0, 1e6),
    max_test_s=st.floats(0, 1e6),
    peak_memory_bytes=st.none() | st.integers(0, 2**50),
    checked_on=st.just("2026-01-01"),
    gold_runs=st.integers(1, 9),
    gold_resolved=st.integers(0, 9),
    noop_runs=st.integers(1, 9),
    noop_resolved=st.integers(0, 9),
)


@given(st.lists(entries))
def test_a_lock_is_read_as_it_was_written(tmp_path_factory: pytest.TempPathFactory, values: list[LockEntry]) -> None:
    held = {entry.key: entry for entry in values}
    path = tmp_path_factory.mktemp("lock") / "tasks.lock"
    path.write_text(lock_text(held), encoding="utf-8")
    assert read_lock(path) == held
    assert lock_text(dict(reversed(held.items()))) == lock_text(held)


def test_a_damaged_lock_names_its_line(tmp_path: Path) -> None:
    path = tmp_path / "tasks.lock"
    path.write_text('\n{"task_id": 1}\n')
    with pytest.raises(UserError, match="line 2: not an entry of a lock"):
        read_lock(path)
    with pytest.raises(UserError, match="swe-aem tasks check"):
        read_lock(tmp_path / "none")


def lock(tmp_path: Path, *found: dict[str, Any]) -> Path:
    """A lock of TASKS with these changes to sound entries, one per task."""
    sound = {
        "passed": True, "network": "none", "backend": "docker", "image": "i", "boot_s": 0, "test_s": 1,
        "max_test_s": 1, "peak_memory_bytes": None, "checked_on": "2026-01-01", "gold_runs": 3, "gold_resolved": 3,
        "noop_runs": 1, "noop_resolved": 0,
    }  # fmt: skip
    values = [
        LockEntry.model_validate(sound | {"task_id": r.task.id, "record": record_digest(r)} | changes)
        for r, changes in zip(TASKS, found, strict=False)
    ]
    path = tmp_path / "tasks.lock"
    path.write_text(lock_text({entry.key: entry for entry in values}))
    return path


FLAKY = {"passed": False, "problems": ["flaky: t"], "flaky": ("t",), "gold_resolved": 2}
BROKEN = {"passed": False, "problems": ["doing nothing resolves it"], "noop_resolved": 1}


def test_sound_tasks_get_the_network_that_they_need(tmp_path: Path) -> None:
    found = apply_lock(TASKS, lock(tmp_path, {}, {"network": "blackhole"}, {}), "docker", "require")
    assert [record.task.network for record in found] == ["none", "blackhole", "none"]
    assert ({record.weight for record in found}, found.notes) == ({1.0}, ())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ([{}, {}], "not checked"),
        ([{}, {}, {"record": "another"}], "changed since it was checked"),
        ([{}, {}, FLAKY], "flaky: t"),
        ([{"backend": "bubblewrap"}, {}, {}], "not checked"),
    ],
)
def test_require_refuses_and_drop_leaves_out(tmp_path: Path, changes: list[dict], said: str) -> None:
    path = lock(tmp_path, *changes)
    with pytest.raises(UserError, match=rf"1 of 3 tasks .*{said}.*swe-aem tasks check"):
        apply_lock(TASKS, path, "docker", "require")
    dropped = apply_lock(TASKS, path, "docker", "drop")
    assert len(dropped) == 2
    assert said in dropped.notes[0]


def test_weigh_keeps_what_is_only_flaky(tmp_path: Path) -> None:
    found = apply_lock(TASKS, lock(tmp_path, FLAKY, BROKEN, {}), "docker", "weigh")
    assert [round(record.weight, 3) for record in found] == [0.667, 1.0]
    assert [record.flaky for record in found] == [("t",), ()]
    with pytest.raises(UserError, match="3 of 3"):
        apply_lock(TASKS, lock(tmp_path, BROKEN, BROKEN, BROKEN), "docker", "weigh")


# -- for real ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind",
    [
        pytest.param("bubblewrap", marks=pytest.mark.bubblewrap),
        pytest.param("docker", marks=pytest.mark.docker),
    ],
)
def test_real_sandboxes(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    request.getfixturevalue(f"require_{kind}")
    always = TASKS.records[1].key.model_copy(update={"fail_to_pass": TASKS.records[1].key.pass_to_pass[:1]})
    tasks = replace(TASKS, records=(TASKS.records[0], TASKS.records[1].model_copy(update={"key": always})))
    rollout = RolloutConfig(sandbox=SandboxConfig(type=kind))
    config = CheckConfig(counts=RunCounts(gold=2), rollout=rollout)
    checked = asyncio.run(check(config, tasks, tmp_path / "tasks.lock", open_backend(rollout.sandbox)))
    assert [entry.passed for entry in checked.entries] == [True, False]
    assert checked.entries[1].problems == ("doing nothing resolves it, 1 of 1 times",)
    entry = checked.entries[0]
    assert entry.peak_memory_bytes is not None
    assert 1 << 20 < entry.peak_memory_bytes < 1 << 30
    assert entry.test_s > 0
    assert entry.image
