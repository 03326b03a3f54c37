"""Whose failure it was: every branch of the rule, over fakes."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from swe_aem.core import (
    LimitHits,
    Outcome,
    SandboxBackend,
    SandboxSpec,
    Stop,
    TaskRecord,
    TestStatus,
    Verdict,
)
from swe_aem.errors import ControlFailed, GraderError, HostFailed, ImageLost, InfrastructureError, SandboxDead, Starved
from swe_aem.grading import CapturedWork, GivenTree, StartLayers
from swe_aem.grading.parser import ParseTimeout
from swe_aem.rollout import RunAborted, attribution, patch_grading, trajectory_run
from swe_aem.rollout.attribution import ROUNDS_THAT_DECIDE
from swe_aem.rollout.evidence import HostMemory, InnocentLosses
from swe_aem.rollout.recording import RecordingSandbox
from swe_aem.sandbox import open_backend
from swe_aem.testing.sandbox import FakeBackend, FakeSandbox
from tests.rollout.fakes import FakeAgent, FakeGrader, capture, prepare, resolve
from tests.waiting import until

MakeBench = Callable[..., Any]

KILL = "kill the sandbox"
UNRESOLVED = Verdict(resolved=False, patch_applied=True, fail_to_pass={"t::a": TestStatus.FAILED})


def kills(sandbox: FakeSandbox, command: str) -> tuple[int, bytes]:
    """Every sandbox dies of the command `KILL`."""
    if command == KILL:
        sandbox.closed = True
        raise SandboxDead("connection lost")
    return 0, b""


async def kill(agent: Any, task: Any, sandbox: Any, sample: int) -> Stop:
    """Some work, then the call that kills."""
    await sandbox.write_file("notes", b"")
    return await last_call(sandbox, KILL)


async def last_call(sandbox: Any, command: str) -> Stop:
    try:
        await sandbox.run(command, timeout_s=1)
    except SandboxDead:
        return Stop.SANDBOX_DEAD
    return Stop.SUBMITTED


async def trap(agent: Any, task: Any, sandbox: Any, sample: int) -> Stop:
    """Leaves a file that captures stumble over."""
    await sandbox.write_file("trap", b"")
    return Stop.SUBMITTED


async def close_all_with_a_control(made: Any) -> None:
    """End every sandbox as soon as a control has one."""
    await until(lambda: any(one.spec.labels["role"] == "control" for one in made.backend.live))
    for one in made.backend.live:
        await one.close()


def roles(made: Any) -> Counter[str]:
    return Counter(sandbox.spec.labels["role"] for sandbox in made.backend.opened)


# The agent's sandbox


async def test_calls_that_kill_a_fresh_sandbox_too_are_the_policys_doing(bench: MakeBench) -> None:
    made = bench(1, agent=FakeAgent(behaviour=kill), backend=FakeBackend(kills))
    one = (await made.run())["task-0", 0]
    assert (one.outcome, one.reward, one.attempt, one.stop) == (Outcome.SANDBOX_KILLED, 0.0, 0, Stop.SANDBOX_DEAD)
    assert "the same calls kill a fresh sandbox too: SandboxDead: connection lost" in one.error
    assert one.responses, "what was sampled is trained on"
    assert (len(made.agent.runs), made.grader.graded) == (1, [])
    assert (roles(made)["agent"], roles(made)["control"]) == (1, 1 + 2 * ROUNDS_THAT_DECIDE)
    assert not made.backend.live


async def test_calls_that_a_fresh_sandbox_survives_are_retried(bench: MakeBench) -> None:
    def from_outside(sandbox: FakeSandbox, command: str) -> tuple[int, bytes]:
        return kills(sandbox, KILL if command == "work" and sandbox is made.backend.opened[0] else command)

    async def work(agent: Any, task: Any, sandbox: Any, sample: int) -> Stop:
        return await last_call(sandbox, "work")

    made = bench(1, agent=FakeAgent(behaviour=work), backend=FakeBackend(from_outside))
    one = (await made.run())["task-0", 0]
    assert (one.outcome, one.attempt) == (Outcome.RESOLVED, 1)
    assert made.progress.totals.failures == 0


async def test_a_replay_that_dies_elsewhere_proves_nothing(bench: MakeBench) -> None:
    def anywhere(sandbox: FakeSandbox, command: str) -> tuple[int, bytes]:
        control = sandbox.spec.labels["role"] == "control"
        return kills(sandbox, KILL if command == "first" and control else command)

    async def work(agent: Any, task: Any, sandbox: Any, sample: int) -> Stop:
        await sandbox.run("first", timeout_s=1)
        return await last_call(sandbox, KILL if len(agent.runs) == 1 else "work")

    made = bench(1, agent=FakeAgent(behaviour=work), backend=FakeBackend(anywhere))
    assert (await made.run())["task-0", 0].outcome is Outcome.RESOLVED


async def test_losses_of_fresh_samples_in_a_row_beside_sound_controls_decide(bench: MakeBench) -> None:
    def original_only(sandbox: FakeSandbox, command: str) -> tuple[int, bytes]:
        return kills(sandbox, command if sandbox.spec.labels["role"] == "agent" else "")

    made = bench(1, agent=FakeAgent(behaviour=kill), backend=FakeBackend(original_only))
    one = (await made.run())["task-0", 0]
    assert (one.outcome, one.reward, one.attempt) == (Outcome.SANDBOX_KILLED, 0.0, ROUNDS_THAT_DECIDE)
    assert f"{ROUNDS_THAT_DECIDE} sandboxes in a row" in one.error
    assert len(made.agent.runs) == 1 + ROUNDS_THAT_DECIDE, "the first one has no companion"


async def test_a_loss_beside_a_companion_that_is_lost_too_begins_the_count_again(bench: MakeBench) -> None:
    async def work(agent: Any, task: Any, sandbox: Any, sample: int) -> Stop:
        if len(agent.runs) == ROUNDS_THAT_DECIDE:
            await close_all_with_a_control(made)
        return await last_call(sandbox, KILL if len(agent.runs) < ROUNDS_THAT_DECIDE + 5 else "work")

    def original_only(sandbox: FakeSandbox, command: str) -> tuple[int, bytes]:
        return kills(sandbox, command if sandbox.spec.labels["role"] == "agent" else "")

    made = bench(
        1, agent=FakeAgent(behaviour=work), backend=FakeBackend(original_only), scheduling={"max_attempts": 30}
    )
    one = (await made.run())["task-0", 0]
    assert (one.outcome, one.attempt) == (Outcome.RESOLVED, ROUNDS_THAT_DECIDE + 4)


async def test_samples_that_kill_at_the_same_time_do_not_excuse_each_other(bench: MakeBench) -> None:
    made = bench(
        3,
        agent=FakeAgent(behaviour=kill),
        backend=FakeBackend(kills),
        settings={"group_size": 4},
        scheduling={"concurrency": 12, "max_consecutive_failures": 2},
    )
    assert Counter(one.outcome for one in (await made.run()).values()) == {Outcome.SANDBOX_KILLED: 12}
    assert roles(made)["control"] == 1 + 2 * ROUNDS_THAT_DECIDE * 12, "one control for all, and replays with theirs"


@pytest.mark.parametrize(("every", "outcome"), [(True, Outcome.SANDBOX_KILLED), (False, Outcome.RESOLVED)])
async def test_the_sandboxs_own_counters_come_first(bench: MakeBench, every: bool, outcome: Outcome) -> None:
    def bomb(sandbox: FakeSandbox, command: str) -> tuple[int, bytes]:
        if command == KILL:
            sandbox.hits = LimitHits(oom_kills=1)
        return kills(sandbox, command if every or sandbox is made.backend.opened[0] else "")

    made = bench(1, agent=FakeAgent(behaviour=kill), backend=FakeBackend(bomb))
    made.backend.down = True  # nothing else excuses it
    assert (await made.run())["task-0", 0].outcome is outcome
    rounds = ROUNDS_THAT_DECIDE if every else 1
    assert roles(made)["control"] == 1 + 2 * rounds, "the control, and replays with theirs until one survives"


@pytest.mark.parametrize("exit_code", [137, 0])
async def test_a_limit_that_an_earlier_command_hit_is_no_evidence(bench: MakeBench, exit_code: int) -> None:
    def survives(sandbox: FakeSandbox, command: str) -> tuple[int, bytes]:
        if command == "fill":
            sandbox.hits = LimitHits(oom_kills=1)
            return exit_code, b""
        return kills(sandbox, command)

    async def fill_then_kill(agent: Any, task: Any, sandbox: Any, sample: int) -> Stop:
        await sandbox.run("fill", timeout_s=1)
        made.backend.down = len(agent.runs) == 1
        return await last_call(sandbox, KILL if made.backend.down else "work")

    made = bench(1, agent=FakeAgent(behaviour=fill_then_kill), backend=FakeBackend(survives))
    assert (await made.run())["task-0", 0].outcome is Outcome.RESOLVED


async def test_a_stopped_engine_is_no_policys_doing(bench: MakeBench) -> None:
    async def engine_stops(agent: Any, task: Any, sandbox: Any, sample: int) -> Stop:
        made.backend.down = len(agent.runs) == 1
        return await last_call(sandbox, KILL if made.backend.down else "work")

    made = bench(1, agent=FakeAgent(behaviour=engine_stops), backend=FakeBackend(kills))
    one = (await made.run())["task-0", 0]
    assert (one.outcome, one.attempt) == (Outcome.RESOLVED, 1)
    assert any("the engine does not answer" in line for line in made.progress.news)


async def test_a_host_out_of_memory_is_no_policys_doing(bench: MakeBench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HostMemory, "trouble", lambda self, since: "the host ran out of memory")
    made = bench(1, agent=FakeAgent(behaviour=kill), backend=FakeBackend(kills))
    one = (await made.run())["task-0", 0]
    assert (one.outcome, one.attempt) == (Outcome.INFRASTRUCTURE, 2)
    assert one.error == "agent: SandboxDead: connection lost (the host ran out of memory) (3 times)"


async def test_neighbours_that_were_lost_without_a_policy_in_them_say_infrastructure(bench: MakeBench) -> None:
    async def work(agent: Any, task: Any, sandbox: Any, sample: int) -> Stop:
        return await last_call(
            sandbox, KILL if task.id == "task-1" and agent.runs.count(("task-1", 0)) == 1 else "work"
        )

    async def prepare(sandbox: FakeSandbox, record: TaskRecord) -> str:
        if record.task.id == "task-0" and sandbox is made.backend.opened[0]:
            await sandbox.close()
        await sandbox.run("prepare", timeout_s=1)
        return ""

    made = bench(
        2,
        agent=FakeAgent(behaviour=work),
        backend=FakeBackend(kills),
        prepare=prepare,
        scheduling={"concurrency": 1},
    )
    stored = await made.run()
    assert {one.outcome for one in stored.values()} == {Outcome.RESOLVED}
    assert stored["task-1", 0].attempt == 1
    assert any("sandboxes beside it were lost within 30 s: 1" in line for line in made.progress.news)


async def test_an_image_whose_sandboxes_always_die_excuses_nobody_else(bench: MakeBench) -> None:
    async def dead_image(sandbox: FakeSandbox, record: TaskRecord) -> GivenTree:
        if record.task.id == "task-0":
            await sandbox.close()
        return await prepare(sandbox, record)

    made = bench(2, agent=FakeAgent(behaviour=kill), backend=FakeBackend(kills), prepare=dead_image)
    made.records = [
        one.model_copy(update={"task": one.task.model_copy(update={"image": one.task.id})}) for one in made.records
    ]
    made.scheduling["concurrency"] = 1
    outcomes = {task: one.outcome for (task, _), one in (await made.run()).items()}
    assert outcomes == {"task-0": Outcome.INFRASTRUCTURE, "task-1": Outcome.SANDBOX_KILLED}
    assert not any("sandboxes beside it" in line for line in made.progress.news)


async def test_a_control_that_fails_too_says_infrastructure_and_nothing_is_stored(bench: MakeBench) -> None:
    def all_die(sandbox: FakeSandbox, command: str) -> tuple[int, bytes]:
        return kills(sandbox, KILL if command in ("true", KILL) else command)

    made = bench(1, agent=FakeAgent(behaviour=kill), backend=FakeBackend(all_die))
    with pytest.raises(RunAborted, match="a control failed too"):
        await made.run()
    assert made.stored() == {}
    made.agent.behaviour, made.backend = FakeAgent().behaviour, FakeBackend()
    assert (await made.run())["task-0", 0].outcome is Outcome.RESOLVED


async def test_a_sandbox_that_is_gone_before_the_first_response_is_infrastructure(bench: MakeBench) -> None:
    class Mute(FakeAgent):
        async def run(self, *args: Any, **kwargs: Any) -> Any:
            return (await super().run(*args, **kwargs)).model_copy(update={"responses": ()})

    made = bench(1, agent=Mute(behaviour=kill), backend=FakeBackend(kills))
    one = (await made.run())["task-0", 0]
    assert (one.outcome, one.reward) == (Outcome.INFRASTRUCTURE, None)


@pytest.mark.parametrize("how", ["fails", "never ends"])
async def test_a_patch_that_cannot_be_captured_is_the_policys_doing(
    bench: MakeBench, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(attribution, "ROUNDS_THAT_DECIDE", 2)

    async def spoiled(sandbox: Any, workdir: str, given: Any) -> CapturedWork:
        if "/testbed/trap" in sandbox.files:
            if how == "never ends":
                await asyncio.sleep(60)
            raise InfrastructureError("the capture failed")
        return await capture(sandbox, workdir, given)

    made = bench(1, agent=FakeAgent(behaviour=trap), capture=spoiled, scheduling={"setup_limit_s": 0.8})
    one = (await made.run())["task-0", 0]
    assert (one.outcome, one.reward, one.stop) == (Outcome.SANDBOX_KILLED, 0.0, Stop.SUBMITTED)
    assert "captur" in one.error


@pytest.mark.parametrize(
    "error",
    [
        HostFailed("the host cannot keep files for git: No space left on device"),
        ImageLost("the image of a sandbox was lost: it has fewer bytes"),
    ],
)
async def test_a_host_that_fails_at_a_capture_convicts_nobody(bench: MakeBench, error: InfrastructureError) -> None:
    async def failing(sandbox: Any, workdir: str, given: Any) -> CapturedWork:
        if "/testbed/trap" in sandbox.files:
            raise error
        return await capture(sandbox, workdir, given)

    made = bench(1, agent=FakeAgent(behaviour=trap), capture=failing, scheduling={"max_attempts": 4})
    one = (await made.run())["task-0", 0]
    assert (one.outcome, one.reward) == (Outcome.INFRASTRUCTURE, None)
    assert one.error.endswith(f"{error} (4 times)")


async def test_a_call_that_the_time_limit_cut_off_hides_no_spoiled_capture(bench: MakeBench) -> None:
    hanging = asyncio.Event()

    async def spoiled(sandbox: Any, workdir: str, given: Any) -> CapturedWork:
        if "/testbed/trap" in sandbox.files:
            raise InfrastructureError("the capture failed")
        return await capture(sandbox, workdir, given)

    class Hangs(FakeSandbox):
        async def read_file(self, path: str, *, max_bytes: int = 64 << 20) -> bytes:
            if self.spec.labels["role"] == "agent":
                hanging.set()
                await asyncio.Event().wait()
            return b""

    async def trap(agent: Any, task: Any, sandbox: Any, sample: int) -> Stop:
        await sandbox.write_file("trap", b"")
        sandbox.sandbox.__class__ = Hangs
        call = asyncio.create_task(sandbox.read_file("x"))
        await hanging.wait()
        call.cancel()
        await asyncio.wait({call})
        return Stop.TIME_LIMIT

    made = bench(1, agent=FakeAgent(behaviour=trap), capture=spoiled)
    one = (await made.run())["task-0", 0]
    assert (one.outcome, one.reward, one.stop, one.attempt) == (Outcome.SANDBOX_KILLED, 0.0, Stop.TIME_LIMIT, 0)


async def test_a_call_that_was_cut_off_says_nothing_of_those_after_it() -> None:
    class Hangs(FakeSandbox):
        async def read_file(self, path: str, *, max_bytes: int = 64 << 20) -> bytes:
            raise asyncio.CancelledError

    recorded = RecordingSandbox(Hangs("one", SandboxSpec(image="fake")))
    with pytest.raises(asyncio.CancelledError):
        await recorded.read_file("x")
    assert (recorded.recording.unanswered, recorded.recording.lost_at) == (True, 0)
    await recorded.run("work", timeout_s=1)
    assert (recorded.recording.unanswered, recorded.recording.lost_at) == (False, 2)


async def test_a_capture_that_fails_once_is_retried(bench: MakeBench) -> None:
    async def once(sandbox: Any, workdir: str, given: Any) -> CapturedWork:
        if len(made.agent.runs) == 1 and sandbox.spec.labels["role"] == "agent":
            raise InfrastructureError("the capture failed")
        return await capture(sandbox, workdir, given)

    made = bench(1, capture=once)
    one = (await made.run())["task-0", 0]
    assert (one.outcome, one.attempt) == (Outcome.RESOLVED, 1)


@pytest.mark.parametrize("role", ["agent", "grader"])
async def test_a_sandbox_that_does_not_end_takes_no_finished_attempt_back(bench: MakeBench, role: str) -> None:
    class Stubborn(FakeBackend):
        @asynccontextmanager
        async def open(self, spec: SandboxSpec) -> AsyncIterator[FakeSandbox]:
            async with super().open(spec) as sandbox:
                yield sandbox
            if spec.labels["role"] == role:
                raise SandboxDead("a process group cannot be ended")

    one = (await bench(1, backend=Stubborn()).run())["task-0", 0]
    assert (one.outcome, one.attempt, one.error) == (Outcome.RESOLVED, 0, None)


async def test_a_failure_that_comes_last_is_stored_where_the_infrastructure_works(bench: MakeBench) -> None:
    async def odd(agent: Any, task: Any, sandbox: Any, sample: int) -> Stop:
        raise InfrastructureError("an odd failure of this task alone")

    made = bench(1, agent=FakeAgent(behaviour=odd))
    one = (await made.run())["task-0", 0]
    assert (one.outcome, one.reward, one.attempt) == (Outcome.INFRASTRUCTURE, None, 2)


async def test_an_odd_image_that_comes_last_costs_its_own_trajectory_only(bench: MakeBench) -> None:
    async def odd_image(sandbox: FakeSandbox, record: TaskRecord) -> GivenTree:
        if record.task.id == "task-1":
            await until(lambda: made.progress.totals.trajectories == 1 or not made.progress.news)
            raise InfrastructureError("no repository in this image")
        await until(lambda: any("task-1" in line for line in made.progress.news))  # it has begun to fail
        return await prepare(sandbox, record)

    made = bench(2, prepare=odd_image)
    outcomes = {task: one.outcome for (task, _), one in (await made.run()).items()}
    assert outcomes == {"task-0": Outcome.RESOLVED, "task-1": Outcome.INFRASTRUCTURE}


async def test_controls_use_nothing_of_the_trajectorys_budget(
    bench: MakeBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trajectory_run, "trajectory_s", lambda config: 1.0)

    async def slow_controls(sandbox: FakeSandbox, record: TaskRecord) -> str:
        await asyncio.sleep(1.2 if sandbox.spec.labels["role"] == "control" else 0)
        return ""

    async def killed_once(agent: Any, task: Any, sandbox: Any, sample: int) -> Stop:
        stop = await last_call(sandbox, "work")
        if len(agent.runs) == 1:
            await sandbox.close()
            return Stop.SANDBOX_DEAD
        return stop

    made = bench(1, agent=FakeAgent(behaviour=killed_once), prepare=slow_controls)
    one = (await made.run())["task-0", 0]
    assert (one.outcome, one.attempt) == (Outcome.RESOLVED, 1)


async def test_the_layers_that_sandboxes_start_on_are_chosen_in_one_place(
    bench: MakeBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, begin = [], StartLayers.__init__

    def counted(layers: StartLayers, backend: SandboxBackend) -> None:
        made.append(layers)
        begin(layers, backend)

    monkeypatch.setattr(StartLayers, "__init__", counted)
    await bench(1).run()
    assert len(made) == 1


# Grading


def unless_gold(fault: Callable[[FakeSandbox], Any]) -> Any:
    """A grading that goes wrong for every patch but the gold one."""

    async def grading(grader: Any, record: TaskRecord, patch: Any, sandbox: FakeSandbox) -> Verdict:
        if patch != record.key.gold_patch:
            fault(sandbox)
        return await resolve(grader, record, patch, sandbox)

    return grading


def raises(error: Exception) -> Callable[[FakeSandbox], None]:
    def fault(sandbox: FakeSandbox) -> None:
        raise error

    return fault


@pytest.mark.parametrize(
    "error",
    [
        GraderError("the evaluation script did not start"),
        ParseTimeout("the log parser took more than 10 s"),
        SandboxDead("connection lost"),
    ],
)
@pytest.mark.parametrize("attempts", [1, 3])
async def test_a_patch_that_fails_again_beside_a_sound_control_is_unresolved(
    bench: MakeBench, error: InfrastructureError, attempts: int
) -> None:
    grader = FakeGrader(grading=unless_gold(raises(error)))
    made = bench(1, grader=grader, scheduling={"max_attempts": attempts, "max_consecutive_failures": 3})
    one = (await made.run())["task-0", 0]
    assert (one.outcome, one.reward) == (Outcome.UNRESOLVED, 0.0)
    assert str(error) in one.verdict.cause
    assert one.verdict.fail_to_pass == {"t::a": TestStatus.MISSING}
    assert roles(made) == {"agent": 1, "grader": 1 + ROUNDS_THAT_DECIDE, "control": ROUNDS_THAT_DECIDE}


@pytest.mark.parametrize("when", ["with the patch in it", "before"])
async def test_nothing_else_excuses_a_grading_sandbox_whose_own_limits_its_patch_hit(
    bench: MakeBench, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    class Backend(FakeBackend):
        @asynccontextmanager
        async def open(self, spec: SandboxSpec) -> AsyncIterator[FakeSandbox]:
            async with super().open(spec) as sandbox:
                sandbox.hits = LimitHits(pids_refused=int(when == "before"))
                yield sandbox

    def bomb(sandbox: FakeSandbox) -> None:
        sandbox.hits = LimitHits(pids_refused=1)
        raise SandboxDead("connection lost")

    monkeypatch.setattr(HostMemory, "trouble", lambda self, since: "the host ran out of memory")
    made = bench(1, grader=FakeGrader(grading=unless_gold(bomb)), backend=Backend())
    wanted = Outcome.UNRESOLVED if when == "with the patch in it" else Outcome.GRADER_FAILURE
    assert (await made.run())["task-0", 0].outcome is wanted
    grades = 1 + ROUNDS_THAT_DECIDE if when == "with the patch in it" else 3
    assert roles(made)["grader"] == grades, "it may have been killed from outside, whatever its limits did"


@pytest.mark.parametrize(
    "error",
    [
        Starved("the evaluation got no processor"),
        HostFailed("the log cannot be kept: No space left"),
        ImageLost("the image of a sandbox was lost"),
    ],
)
async def test_what_the_host_lacked_convicts_nobody_whatever_the_limits_did(
    bench: MakeBench, error: InfrastructureError
) -> None:
    def fail(sandbox: FakeSandbox) -> None:
        sandbox.hits = LimitHits(pids_refused=sandbox.hits.pids_refused + 1)
        raise error

    made = bench(1, grader=FakeGrader(grading=unless_gold(fail)))
    one = (await made.run())["task-0", 0]
    assert (one.outcome, one.reward) == (Outcome.GRADER_FAILURE, None)
    assert roles(made)["grader"] == 3


async def test_a_control_that_fails_before_the_patch_is_graded_convicts_nobody(bench: MakeBench) -> None:
    async def fail(grader: FakeGrader) -> None:
        raise ControlFailed("the rule for new names is not known: SandboxDead: connection lost")

    made = bench(1, grader=FakeGrader(judging=fail), scheduling={"max_attempts": 4})
    one = (await made.run())["task-0", 0]
    assert (one.outcome, one.reward) == (Outcome.GRADER_FAILURE, None)
    assert one.error.endswith("connection lost (4 times)")


async def test_the_budget_of_a_grade_does_not_run_while_a_control_does(
    bench: MakeBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def slow(grader: FakeGrader) -> None:
        await asyncio.sleep(1.2)

    monkeypatch.setattr(patch_grading, "grade_attempt_s", lambda config, record: 1.0)
    one = (await bench(1, grader=FakeGrader(judging=slow)).run())["task-0", 0]
    assert (one.outcome, one.attempt) == (Outcome.RESOLVED, 0)


async def test_a_grading_sandbox_that_was_lost_while_it_waited_is_no_loss_of_the_patch(bench: MakeBench) -> None:
    async def lose_the_others(agent: Any, task: Any, sandbox: Any, sample: int) -> Stop:
        await asyncio.sleep(0.01)
        for one in made.backend.live:
            if one.spec.labels["role"] == "grader":
                await one.close()
        return Stop.SUBMITTED

    made = bench(1, agent=FakeAgent(behaviour=lose_the_others))
    one = (await made.run())["task-0", 0]
    assert (one.outcome, one.attempt) == (Outcome.RESOLVED, 1)
    assert "was lost while it waited" in made.progress.news[0]


@pytest.mark.parametrize("when", ["agents work", "patches are graded"])
async def test_what_takes_sandboxes_at_random_convicts_nobody(bench: MakeBench, when: str) -> None:
    """Ten in a row may be chance too, in one of 20,000 trajectories here. So what happens to a sandbox depends on which
    one of its trajectory's it is, not on what ran before it."""
    dice: dict[str, random.Random] = {}

    def taken(sandbox: FakeSandbox, command: str) -> tuple[int, bytes]:
        whose = f"{sandbox.spec.labels['trajectory']} {sandbox.spec.labels['role']}"
        falls = dice.setdefault(whose, random.Random(whose)).random()
        return kills(sandbox, KILL if command == hit and falls < 0.5 else command)

    hit = "work" if when == "agents work" else "grade"
    made = bench(
        40,
        agent=FakeAgent(behaviour=lambda agent, task, sandbox, sample: last_call(sandbox, "work")),
        backend=FakeBackend(taken),
        scheduling={"max_attempts": 60, "max_consecutive_failures": 999},
    )
    assert Counter(one.outcome for one in (await made.run()).values()) == {Outcome.RESOLVED: 40}


@pytest.mark.parametrize("taken", ["while it is graded", "while it is held"])
async def test_a_grade_that_fails_beside_a_companion_that_fails_too_begins_the_count_again(
    bench: MakeBench, taken: str
) -> None:
    async def grading(grader: Any, record: TaskRecord, patch: Any, sandbox: Any) -> Verdict:
        if patch == record.key.gold_patch:
            if taken == "while it is graded" and len(graded) == ROUNDS_THAT_DECIDE:
                raise SandboxDead("connection lost")
            return await resolve(grader, record, patch, sandbox)
        graded.append(sandbox)
        if taken == "while it is held" and len(graded) == ROUNDS_THAT_DECIDE:
            await close_all_with_a_control(made)
        if len(graded) < ROUNDS_THAT_DECIDE + 5:
            raise SandboxDead("connection lost")
        return await resolve(grader, record, patch, sandbox)

    graded: list[FakeSandbox] = []
    made = bench(1, grader=FakeGrader(grading=grading), scheduling={"max_attempts": 30})
    one = (await made.run())["task-0", 0]
    assert (one.outcome, one.attempt) == (Outcome.RESOLVED, ROUNDS_THAT_DECIDE + 4)


async def test_work_that_can_never_be_compared_is_unresolved(bench: MakeBench) -> None:
    def fail(times: int) -> None:
        raise GraderError("the host's git failed on it")

    one = (await bench(1, grader=FakeGrader(comparing=fail)).run())["task-0", 0]
    assert (one.outcome, one.reward) == (Outcome.UNRESOLVED, 0.0)
    assert "the host's git failed on it" in one.verdict.cause


async def test_a_sandbox_that_is_lost_while_work_is_compared_is_no_loss_of_the_patch(bench: MakeBench) -> None:
    def lost_at_first(times: int) -> None:
        if times <= 2:
            raise SandboxDead("connection lost")

    one = (await bench(1, grader=FakeGrader(comparing=lost_at_first)).run())["task-0", 0]
    assert (one.outcome, one.attempt) == (Outcome.RESOLVED, 2)


async def test_gradings_that_fail_with_gold_too_are_not_stored(bench: MakeBench) -> None:
    async def fail(*_: Any) -> Verdict:
        raise GraderError("container lost")

    made = bench(1, grader=FakeGrader(grading=fail))
    with pytest.raises(RunAborted, match="a control failed too: GraderError: container lost"):
        await made.run()
    assert made.stored() == {}


async def test_a_grade_that_could_not_start_is_stored_where_the_control_works(bench: MakeBench) -> None:
    class Backend(FakeBackend):
        def open(self, spec: SandboxSpec) -> Any:
            self.fail_starts = int(spec.labels["role"] == "grader")
            return super().open(spec)

    one = (await bench(1, backend=Backend()).run())["task-0", 0]
    assert (one.outcome, one.reward) == (Outcome.GRADER_FAILURE, None)
    assert one.error == "grading: StartError: the fake was told to fail this start (3 times)"


@pytest.mark.parametrize(("starved_s", "grades"), [(3.0, 2), (1.0, 1)])
async def test_an_unresolved_that_was_starved_is_graded_once_more(
    bench: MakeBench, starved_s: float, grades: int
) -> None:
    async def starved(grader: Any, record: Any, patch: Any, sandbox: Any) -> Verdict:
        return UNRESOLVED.model_copy(update={"eval_s": 10.0, "starved_s": starved_s})

    made = bench(1, grader=FakeGrader(grading=starved))
    one = (await made.run())["task-0", 0]
    assert (one.outcome, one.attempt, len(made.grader.graded)) == (Outcome.UNRESOLVED, 0, grades)


async def test_a_starved_patch_that_then_resolves_is_resolved(bench: MakeBench) -> None:
    async def at_first(grader: Any, record: Any, patch: Any, sandbox: Any) -> Verdict:
        if len(grader.graded) == 1:
            return UNRESOLVED.model_copy(update={"eval_s": 10.0, "starved_s": 9.0})
        return await resolve(grader, record, patch, sandbox)

    assert (await bench(1, grader=FakeGrader(grading=at_first)).run())["task-0", 0].outcome is Outcome.RESOLVED


async def test_the_budget_of_a_grade_begins_when_its_sandbox_is_ready(
    bench: MakeBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    class SlowGraders(FakeBackend):
        @asynccontextmanager
        async def open(self, spec: SandboxSpec) -> AsyncIterator[FakeSandbox]:
            await asyncio.sleep(1.2 if spec.labels["role"] == "grader" else 0)
            async with super().open(spec) as sandbox:
                yield sandbox

    monkeypatch.setattr(patch_grading, "grade_attempt_s", lambda config, record: 1.0)
    one = (await bench(1, backend=SlowGraders()).run())["task-0", 0]
    assert (one.outcome, one.attempt) == (Outcome.RESOLVED, 0)


# The parts


def proc(
    directory: Path,
    *,
    kills: int = 0,
    constraint: str = "CONSTRAINT_NONE",
    available: float = 0.5,
    stalled: float | None = None,
) -> HostMemory:
    with (directory / "kmsg").open("a") as log:
        log.writelines(f"6,{n},{n},-;oom-kill:constraint={constraint},nodemask=(null)\n" for n in range(kills))
    (directory / "meminfo").write_text(f"MemTotal: 1000 kB\nMemFree: 1 kB\nMemAvailable: {int(1000 * available)} kB\n")
    (directory / "pressure").mkdir(exist_ok=True)
    pressure = directory / "pressure" / "memory"
    pressure.unlink(missing_ok=True)
    if stalled is not None:
        pressure.write_text(f"some avg10=99.00 avg60=0 total=1\nfull avg10={stalled} avg60=0 avg300=0 total=1\n")
    return HostMemory(directory, directory / "kmsg")


@pytest.mark.parametrize(
    ("state", "says"),
    [
        ({}, None),
        ({"kills": 1}, "kernel killed: 1"),
        ({"kills": 1, "constraint": "CONSTRAINT_MEMCG"}, None),
        ({"available": 0.02}, "out of memory"),
        ({"available": 0.02, "stalled": 0.0}, None),
        ({"available": 0.08, "stalled": 40.0}, "short of memory"),
        ({"available": 0.5, "stalled": 40.0}, None),
    ],
)
def test_the_hosts_memory(tmp_path: Path, state: dict[str, Any], says: str | None) -> None:
    memory = proc(tmp_path)
    mark = memory.mark()
    proc(tmp_path, **state)
    found = memory.trouble(mark)
    assert found is None if says is None else says in (found or "")


def test_a_host_that_tells_nothing_is_no_evidence(tmp_path: Path) -> None:
    memory = HostMemory(tmp_path, tmp_path / "none")
    assert memory.trouble(memory.mark()) is None


def test_neighbours_count_for_half_a_minute() -> None:
    now = 100.0
    losses = InnocentLosses(clock=lambda: now)
    assert losses.near() is None
    losses.note(now)
    assert losses.near() == "sandboxes beside it were lost within 30 s: 1"
    now = 131.0
    assert losses.near() is None


async def test_calls_are_recorded_and_made_again_in_order() -> None:
    first, second = (FakeSandbox(id, SandboxSpec(image="fake")) for id in ("one", "two"))
    recorded = RecordingSandbox(first)
    await recorded.write_file("a", b"text")
    assert await recorded.read_file("a") == b"text"
    with pytest.raises(FileNotFoundError):
        await recorded.read_file("b")
    await recorded.run("ls", timeout_s=1)
    assert recorded.recording.lost_at == 4
    assert await recorded.recording.replay(second) is None
    assert (second.files, second.commands) == (first.files, first.commands)


async def test_a_sandbox_that_dies_after_the_last_call_is_found_out() -> None:
    recorded = RecordingSandbox(FakeSandbox("one", SandboxSpec(image="fake")))
    await recorded.run("leave a bomb", timeout_s=1)
    again = FakeSandbox("two", SandboxSpec(image="fake"))

    def late(sandbox: FakeSandbox, command: str) -> tuple[int, bytes]:
        sandbox.closed = True
        return 0, b""

    again.handler = late
    assert await recorded.recording.replay(again) == recorded.recording.lost_at == 1


async def test_an_engine_that_is_not_there_does_not_answer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/no.sock")
    assert await open_backend("docker").answers() is False


@pytest.mark.docker
@pytest.mark.slow
async def test_the_engine_answers(require_docker: None) -> None:
    assert await open_backend("docker").answers() is True
