"""Which weights a `RolloutWorker` gives to its policy, and when: only for what is still to be rolled out."""

import asyncio
import random
import shutil
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("trl", reason="needs the train extra")

from swe_aem.core import Sandbox, Stop, Task, TaskRecord
from swe_aem.core.settings import check
from swe_aem.errors import PolicyError, RunAborted, TaskUnusable, UserError
from swe_aem.rollout import RolloutConfig
from swe_aem.tasks import TaskSet
from swe_aem.testing.builders import make_record
from swe_aem.train import rollout_worker
from swe_aem.train.config import TrainConfig
from swe_aem.train.consumed import CONSUMED, read_consumed
from swe_aem.train.loop import train
from swe_aem.train.models import tokenizer_of
from swe_aem.train.policies import LoadedLater
from swe_aem.train.refusals import reasons_at_start, refuse_other_tokenizer
from swe_aem.train.rollout_worker import RolloutWorker
from swe_aem.train.steps import Step
from swe_aem.train.task_samplers import TASK_SAMPLERS, TaskSamplerInputs
from tests.rollout.fakes import Bench, FakeAgent, FakePolicy, submit

pytestmark = pytest.mark.torch

MODEL = "configs/quickstart/policy"


class Given(FakePolicy):
    """A policy that notes which versions it is given; it has version `begun` before."""

    def __init__(self, begun: int | None) -> None:
        super().__init__()
        self.version = begun
        self.versions: list[int] = []

    async def update(self, weights: Mapping[str, Any], version: int) -> None:
        assert weights == {"of": version}
        self.version = version
        self.versions.append(version)


def configuration(steps: int, **changes: Any) -> TrainConfig:
    """Steps of one group of two."""
    rollout = {"group_size": 2, "time_limit_s": 5.0, "scheduling": {"backoff_s": 0.0}}
    values = {
        "model": MODEL,
        "steps": steps,
        "groups_per_step": 1,
        "heldout": None,
        "rollout": rollout,
        "device": "cpu",
    }
    return check(TrainConfig, {**values, **changes})


Work = Callable[..., list[int]]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "unused", [make_record(f"task-{n}") for n in range(3)])


@pytest.fixture
def work(tmp_path: Path, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Work:
    """Opens a worker on fakes in one and the same directory, calls `use` with it, and returns the versions that its
    policy was given."""

    @asynccontextmanager
    async def nothing(*_: Any) -> AsyncIterator[Any]:
        yield lambda config: None

    monkeypatch.setattr(rollout_worker, "open_backend", lambda name: bench.backend)
    monkeypatch.setattr(rollout_worker, "chosen_tasks", lambda config: TaskSet("fakes", tuple(bench.records)))
    monkeypatch.setattr(rollout_worker, "SwebenchParser", nothing)
    monkeypatch.setattr(rollout_worker, "open_agents", nothing)
    monkeypatch.setattr(rollout_worker, "components_of", lambda *_: bench.components())

    def work(
        config: TrainConfig, use: Callable[[RolloutWorker], None], begun: int | None = None, **named: Any
    ) -> list[int]:
        given = Given(begun)

        @asynccontextmanager
        async def opened(*_: Any, **__: Any) -> AsyncIterator[Any]:
            yield given, given

        monkeypatch.setattr(rollout_worker, "open_policy", opened)
        with RolloutWorker(config, tmp_path / "run", None, **named) as worker:
            use(worker)
        return given.versions

    return work


EVALUATION = RolloutConfig.model_validate({"agent": "native", "policy": MODEL, "scheduling": {"backoff_s": 0.0}})


def evaluate(worker: RolloutWorker, version: int, *names: str) -> None:
    """Evaluate the policy of that version under each name, as training does."""
    if worker.evaluation_wants_weights(dict.fromkeys(names, EVALUATION), version):
        worker.load({"of": version}, version)
    for name in names:
        worker.evaluate(EVALUATION, version, name)


def take(worker: RolloutWorker, number: int) -> Step:
    """Step `number`, as training takes it."""
    if worker.wants_weights(number):
        worker.load({"of": number - 1}, number - 1)
    return worker.step(number)


def whole_run(steps: int) -> Callable[[RolloutWorker], None]:
    """What a training run asks of its worker."""

    def use(worker: RolloutWorker) -> None:
        evaluate(worker, 0, "step-0-sampled", "step-0-greedy")
        for number in range(1, steps + 1):
            step = take(worker, number)
            assert (step.number, len(step.groups), len(step.groups[0])) == (number, 1, 2)
        evaluate(worker, steps, f"step-{steps}-sampled", f"step-{steps}-greedy")

    return use


def test_a_run_is_not_resumed_with_another_tokenizer_under_the_same_name(work: Work, tmp_path: Path) -> None:
    model = shutil.copytree(MODEL, tmp_path / "model")
    work(configuration(1, model=str(model)), lambda worker: take(worker, 1))
    tokenizer = model / "tokenizer.json"
    tokenizer.write_text(tokenizer.read_text().replace('"<think>"', '"<thought>"'))
    with pytest.raises(UserError, match=rf"holds token ids of the tokenizer .*, and {model} is now"):
        work(configuration(2, model=str(model)), lambda worker: None)


def test_prompts_are_not_encoded_by_another_tokenizer_than_the_models(tmp_path: Path) -> None:
    def given(tokenizer: str) -> TrainConfig:
        rollout = {"group_size": 2, "tokenizer": tokenizer}
        return configuration(1, rollout=rollout)

    same = str(shutil.copytree(MODEL, tmp_path / "same"))
    assert list(reasons_at_start(configuration(1), sharded=False)) == []
    assert list(reasons_at_start(given(same), sharded=False)) == []
    refuse_other_tokenizer(given(same), tokenizer_of(MODEL))
    with pytest.raises(UserError, match=r"rollout.tokenizer bytes is the tokenizer .*: leave rollout.tokenizer out"):
        train(given("bytes"), tmp_path / "run")


def test_each_version_is_sent_once_whatever_is_rolled_out_with_it(work: Work) -> None:
    assert work(configuration(2), whole_run(2)) == [0, 1, 2]


def test_a_policy_that_has_the_first_weights_is_not_given_them_again(work: Work) -> None:
    assert work(configuration(2), whole_run(2), begun=0) == [1, 2]


def test_nothing_is_sent_for_what_the_store_has(work: Work) -> None:
    work(configuration(2), whole_run(2))
    assert work(configuration(2), whole_run(2)) == []
    assert work(configuration(3), whole_run(3)) == [2, 3]


FIRST: dict[str, RolloutConfig] = dict.fromkeys(("step-0-sampled", "step-0-greedy"), EVALUATION)


def test_the_first_evaluations_begin_unasked_where_the_policy_has_the_weights(work: Work, bench: Bench) -> None:
    held = bench.agent.behaviour = Held("task-0")

    def use(worker: RolloutWorker) -> None:
        worker._wait(worker._submit(until(lambda: set(held.began) == {"task-0", "task-1", "task-2"})))
        assert not worker.evaluation_wants_weights(FIRST, 0)
        held.held.clear()
        evaluate(worker, 0, *FIRST)
        assert len(held.began) == 6, "each task of both, once"
        take(worker, 1)

    assert work(configuration(1), use, begun=0, first=FIRST) == []


@pytest.mark.parametrize("begun", [None, 3])
def test_the_first_evaluations_wait_for_weights_that_the_policy_may_not_have(
    work: Work, bench: Bench, begun: int | None
) -> None:
    held = bench.agent.behaviour = Held()

    def use(worker: RolloutWorker) -> None:
        assert worker.evaluation_wants_weights(FIRST, 0)
        assert not held.began
        evaluate(worker, 0, *FIRST)
        assert len(held.began) == 6

    assert work(configuration(1), use, begun=begun, first=FIRST) == [0]


def test_an_evaluation_that_fails_unasked_fails_who_asks_for_it(work: Work, bench: Bench) -> None:
    async def fail(agent: FakeAgent, task: Task, sandbox: Sandbox, sample: int) -> Stop:
        raise PolicyError("the server is gone")

    bench.agent.behaviour = fail
    with pytest.raises(RunAborted, match="the server is gone"):
        work(configuration(1), lambda worker: evaluate(worker, 0, *FIRST), begun=0, first=FIRST)


def test_an_evaluation_leaves_out_once_what_cannot_be_had(work: Work, bench: Bench) -> None:
    """It is asked for after it has ended, and again by a rerun."""
    prepare, tried = bench.prepare, []

    async def without_task_1(sandbox: Sandbox, record: TaskRecord) -> Any:
        if record.task.id == "task-1":
            tried.append(record.task.id)
            raise TaskUnusable("there is no image of it")
        return await prepare(sandbox, record)

    bench.prepare = without_task_1
    work(configuration(1), lambda worker: evaluate(worker, 0, "step-0-sampled"), begun=0, first=FIRST)
    assert len(tried) == 2, "once for each of both"
    work(configuration(1), lambda worker: evaluate(worker, 0, "step-0-sampled"), begun=0)
    assert len(tried) == 3


def test_a_worker_that_is_closed_while_it_opens_begins_nothing(
    work: Work, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = bench.agent.behaviour = Held()
    opening = RolloutWorker._open

    async def closed_meanwhile(worker: RolloutWorker) -> None:
        worker.begin_closing()
        await asyncio.sleep(0)
        await opening(worker)

    monkeypatch.setattr(RolloutWorker, "_open", closed_meanwhile)
    work(configuration(1), lambda worker: None, begun=0, first=FIRST)
    assert not held.began


def test_closing_does_not_wait_until_the_model_is_loaded(
    work: Work, tmp_path: Path, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.agent.behaviour = Held("task-0")
    work(configuration(1), lambda worker: None)  # has the worker open fakes

    @asynccontextmanager
    async def never_loaded(*_: Any, **__: Any) -> AsyncIterator[Any]:
        policy = LoadedLater("m", asyncio.get_running_loop().create_future())
        yield policy, policy

    monkeypatch.setattr(rollout_worker, "open_policy", never_loaded)
    worker = RolloutWorker(configuration(1), tmp_path / "run", lambda: None, first=FIRST)

    async def close() -> None:
        await until(lambda: bool(bench.backend.live))
        worker.begin_closing()

    closing = worker._submit(close())
    with pytest.raises(rollout_worker.Interrupted, match="the model was not loaded"):
        worker.__enter__()
    closing.result()
    assert not bench.backend.live


def test_a_worker_that_closes_ends_an_evaluation_that_nobody_asked_for(work: Work, bench: Bench) -> None:
    held = bench.agent.behaviour = Held("task-0")
    work(
        configuration(1),
        lambda worker: worker._wait(worker._submit(until(lambda: "task-0" in held.began))),
        begun=0,
        first=FIRST,
    )
    assert not bench.backend.live


STALE: dict[str, Any] = {"max_staleness": 1, "importance_sampling": {"mode": "truncate", "high": 2.0}}


def test_a_step_that_an_earlier_process_decided_is_sent_nothing(work: Work) -> None:
    work(configuration(2, **STALE), whole_run(2))

    def use(worker: RolloutWorker) -> None:
        for number in (1, 2, 3):
            take(worker, number)

    assert work(configuration(3, **STALE), use) == [2]


class Held:
    """What agents do: those of a held task wait."""

    def __init__(self, *held: str) -> None:
        self.held = set(held)
        self.began: list[str] = []

    async def __call__(self, agent: FakeAgent, task: Task, sandbox: Sandbox, sample: int) -> Stop:
        self.began.append(task.id)
        while task.id in self.held:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        return await submit(agent, task, sandbox, sample)


def in_order(inputs: TaskSamplerInputs) -> list[str]:
    first = (inputs.step - 1) * inputs.count
    return [f"task-{number % 3}" for number in range(first, first + inputs.count)]


def ordered(steps: int, **changes: Any) -> TrainConfig:
    return configuration(steps, task_sampler=TASK_SAMPLERS.add(in_order), **STALE, **changes)


def ids(step: Step) -> list[str]:
    return [group[0].id for group in step.groups]


async def until(happened: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not happened():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


def test_a_step_takes_what_is_complete_and_then_waits_for_what_would_get_too_old(
    work: Work, bench: Bench, tmp_path: Path
) -> None:
    held = bench.agent.behaviour = Held("task-0")

    def use(worker: RolloutWorker) -> None:
        first = take(worker, 1)
        assert ids(first) == ["task-1.0"], "task-0 is held"

        async def release() -> None:
            await until(lambda: worker._groups._open_queue.held_back)
            held.held.clear()

        released = worker._submit(release())
        second = take(worker, 2)
        released.result()
        assert ids(second) == ["task-0.0"], "although task-2 is complete"
        assert second.held_back_s > 0
        assert ids(take(worker, 3)) == ["task-2.0"]

    work(ordered(3), use)
    lines = read_consumed(tmp_path / "run")
    assert [(line.step, line.groups[0].task_id) for line in lines] == [(1, "task-1"), (2, "task-0"), (3, "task-2")]

    def again(worker: RolloutWorker) -> None:
        assert [ids(take(worker, n)) for n in (2, 3)] == [["task-0.0"], ["task-2.0"]]

    assert work(ordered(3), again) == [], "what was decided is read"


def test_rollouts_go_on_while_a_step_is_trained_and_while_the_policy_is_evaluated(work: Work, bench: Bench) -> None:
    held = bench.agent.behaviour = Held()

    def use(worker: RolloutWorker) -> None:
        take(worker, 1)
        worker._wait(worker._submit(until(lambda: held.began.count("task-1") == 2)))
        evaluate(worker, 1, "step-1-sampled")  # the policy has the weights, so another group may begin
        worker._wait(worker._submit(until(lambda: held.began.count("task-2") == 3)))
        assert take(worker, 2).rollout_s > 0

    assert work(ordered(3), use) == [0, 1]


def test_where_nothing_works_a_step_fails_and_does_not_wait(work: Work, bench: Bench) -> None:
    async def fail(agent: FakeAgent, task: Task, sandbox: Sandbox, sample: int) -> Stop:
        raise PolicyError("the server is gone")

    bench.agent.behaviour = fail
    with pytest.raises(RunAborted, match="the server is gone"):
        work(ordered(3), lambda worker: take(worker, 1))


def test_a_run_whose_decisions_are_lost_is_not_resumed(work: Work, tmp_path: Path) -> None:
    work(ordered(2), lambda worker: take(worker, 1))
    (tmp_path / "run" / CONSUMED).unlink()
    with pytest.raises(UserError, match=r"consumed\.jsonl ends with step 0, and step 1 is trained: restore the file"):
        work(ordered(2), lambda worker: take(worker, 2))


def test_a_torn_line_was_never_acted_upon(work: Work, tmp_path: Path) -> None:
    work(ordered(2), lambda worker: take(worker, 1))
    path = tmp_path / "run" / CONSUMED
    path.write_bytes(path.read_bytes()[:-20])
    taken: list[str] = []
    work(ordered(2), lambda worker: taken.extend(ids(take(worker, 1))))
    (line,) = read_consumed(tmp_path / "run")
    assert taken == [f"{line.groups[0].task_id}.0"]


def test_what_a_closing_worker_had_not_begun_is_not_begun(work: Work) -> None:
    """A step whose tasks were being chosen when the worker was closed; its rollout would outlive the event loop."""

    def use(worker: RolloutWorker) -> None:
        worker._closing.set()
        with pytest.raises(rollout_worker.Interrupted, match="step 2 was not begun"):
            worker._wait(worker._submit(worker._roll_out(worker._rollout, worker._groups, "step 2")))

    work(configuration(2), use)


class Noted:
    """A task sampler that notes what it was given, and what it saw; its dice are not ours."""

    def __init__(self) -> None:
        self.seen: dict[int, list[int]] = {}

    def __call__(self, inputs: TaskSamplerInputs) -> list[str]:
        self.seen[inputs.step] = [group.step for group in inputs.history]
        assert all(len(group.outcomes) == 2 and group.solve_rate is not None for group in inputs.history)
        return random.SystemRandom().choices([record.task.id for record in inputs.tasks], k=inputs.count)


@pytest.mark.parametrize("max_staleness", [0, 1])
def test_a_task_sampler_sees_what_is_trained_and_a_rerun_repeats_its_choices(
    work: Work, max_staleness: int, tmp_path: Path
) -> None:
    correction = {"importance_sampling": {"mode": "truncate", "high": 2.0}} if max_staleness else {}
    more: dict[str, Any] = {"max_staleness": max_staleness, **correction}

    def steps(sampler: Noted, first: int, last: int) -> list[tuple[str, ...]]:
        chosen: list[tuple[str, ...]] = []

        def use(worker: RolloutWorker) -> None:
            for number in range(first, last + 1):
                step = take(worker, number)
                chosen.append(tuple(group[0].id for group in (*step.groups, *step.rejected)))

        name = TASK_SAMPLERS.add(lambda inputs: sampler(inputs))
        work(configuration(5, oversampled_groups=2, task_sampler=name, **more), use)
        return chosen

    first, second = Noted(), Noted()
    before = steps(first, 1, 3)
    assert sorted(first.seen) == list(range(1, 4 + max_staleness))
    assert steps(second, 2, 4)[:2] == before[1:], "what was trained after the last checkpoint is trained again"
    assert sorted(second.seen) == list(range(4 + max_staleness, 5 + max_staleness))
    for step, seen in (*first.seen.items(), *second.seen.items()):
        decided = max(seen, default=0)
        assert step - 1 - max_staleness <= decided < step, "as many as were decided when it was asked"
        assert seen == [number for number in range(1, decided + 1) for _ in range(2)]
