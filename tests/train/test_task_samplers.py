"""Task samplers: the built-in ones, what a sampler is given, and how a configuration names one."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import swe_aem as sa
from swe_aem.core import Outcome
from swe_aem.core.base import Frozen
from swe_aem.core.settings import check
from swe_aem.errors import UserError
from swe_aem.testing.builders import make_record, make_trajectory
from swe_aem.train.config import TrainConfig, differences, read_config
from swe_aem.train.refusals import reasons_at_start
from swe_aem.train.task_samplers import TASK_SAMPLERS, SampledGroup, TaskSamplerInputs, sampled_group
from swe_aem.train.task_samplers.difficulty import Difficulty
from swe_aem.train.task_samplers.epochs import epochs

RESOLVED, UNRESOLVED, BROKEN = Outcome.RESOLVED, Outcome.UNRESOLVED, Outcome.BROKEN_TASK
QUICKSTART = Path(__file__).parents[2] / "configs" / "quickstart.yaml"


def inputs(count: int, *, tasks: int = 5, step: int = 1, seed: int = 0, history: Any = ()) -> TaskSamplerInputs:
    """Inputs for a set of tasks t0, t1, ..."""
    return TaskSamplerInputs([make_record(f"t{n}") for n in range(tasks)], step, count, seed, history)


def group(task_id: str, solved: int, of: int, *, step: int = 1) -> SampledGroup:
    """What came of a group of `of` trajectories, `solved` of which resolved the task."""
    resolved = tuple(n < solved for n in range(of))
    outcomes = tuple(RESOLVED if one else UNRESOLVED for one in resolved)
    return SampledGroup(
        step=step, task_id=task_id, outcomes=outcomes, resolved=resolved, rewards=tuple(map(float, resolved))
    )


def test_epochs_are_those_of_every_run_before_samplers_were_a_setting() -> None:
    chosen = [epochs(inputs(4, step=step, seed=3)) for step in (1, 2, 3)]
    assert chosen == [["t4", "t3", "t1", "t2"], ["t0", "t3", "t2", "t0"], ["t1", "t4", "t1", "t4"]]


@given(count=st.integers(1, 12), per_step=st.integers(1, 20), seed=st.integers(0, 3))
def test_in_epochs_every_task_comes_once_before_any_comes_again(count: int, per_step: int, seed: int) -> None:
    steps = [epochs(inputs(per_step, tasks=count, step=step, seed=seed)) for step in range(1, count + 1)]
    everything = [id for step in steps for id in step]
    for epoch in range(per_step):
        assert sorted(everything[epoch * count : (epoch + 1) * count]) == sorted(f"t{n}" for n in range(count))


def test_another_seed_is_another_order() -> None:
    assert len({tuple(epochs(inputs(20, tasks=20, seed=seed))) for seed in range(3)}) == 3


def test_tasks_of_middling_difficulty_come_first() -> None:
    """Of five tasks seen often, the two that are solved half of the time come in nearly every step."""
    history = [group(f"t{n}", solved, 64) for n, solved in enumerate((0, 30, 64, 35, 2))]
    chosen = Counter(id for step in range(2, 42) for id in Difficulty()(inputs(2, step=step, history=history)))
    assert chosen["t1"] + chosen["t3"] > 0.9 * 80
    rare = Difficulty(target=0.05)
    chosen = Counter(id for step in range(2, 42) for id in rare(inputs(2, step=step, history=history)))
    assert chosen["t0"] + chosen["t4"] > 0.9 * 80


def test_what_was_seen_long_ago_counts_less() -> None:
    """t0 failed long ago, t1 just now: t0 is tried again much more often."""
    history = [group("t0", 0, 16, step=1), group("t1", 0, 16, step=100)]
    sampler = Difficulty(half_life_steps=10)
    chosen = Counter(sampler(inputs(1, tasks=2, step=101, seed=seed, history=history))[0] for seed in range(60))
    assert chosen["t0"] > 45


def test_a_task_that_was_never_seen_gets_its_turn() -> None:
    history = [group(f"t{n}", 8, 16) for n in range(4)]
    chosen = {id for step in range(2, 60) for id in Difficulty()(inputs(1, step=step, history=history))}
    assert "t4" in chosen


def test_broken_tasks_are_left_out_while_there_are_others() -> None:
    broken = [
        SampledGroup(step=1, task_id=f"t{n}", outcomes=(BROKEN,), resolved=(None,), rewards=(None,)) for n in (1, 2)
    ]
    assert sorted(Difficulty()(inputs(5, step=2, tasks=3, history=broken))) == ["t0"] * 5
    everything = [*broken, SampledGroup(step=1, task_id="t0", outcomes=(BROKEN,), resolved=(None,), rewards=(None,))]
    assert sorted(Difficulty()(inputs(3, step=2, tasks=3, history=everything))) == ["t0", "t1", "t2"]


@given(count=st.integers(1, 9), tasks=st.integers(1, 6), step=st.integers(1, 5), seed=st.integers(0, 3))
def test_the_same_inputs_are_the_same_choice(count: int, tasks: int, step: int, seed: int) -> None:
    history = [group("t0", 1, 4), group("t0", 4, 4)]
    first, second = (Difficulty()(inputs(count, tasks=tasks, step=step, seed=seed, history=history)) for _ in range(2))
    assert first == second
    assert max(Counter(first).values()) - min(Counter(first).values()) <= 1, "a task comes twice only if all have come"


def test_a_group_says_what_a_sampler_needs() -> None:
    """A cheat counts as unresolved whatever its tests say, and infrastructure failures say nothing."""
    verdict = sa.Verdict(resolved=True, patch_applied=True)
    ends = [
        (RESOLVED, 1.0, verdict),
        (UNRESOLVED, 0.0, verdict.model_copy(update={"resolved": False})),
        (Outcome.TURN_LIMIT, 1.0, verdict),
        (Outcome.TURN_LIMIT, 0.0, None),
        (Outcome.INTEGRITY_VIOLATION, 0.0, verdict),
        (Outcome.INFRASTRUCTURE, None, None),
    ]
    trajectories = [
        make_trajectory("t", sample).model_copy(update={"outcome": outcome, "reward": reward, "verdict": verdict})
        for sample, (outcome, reward, verdict) in enumerate(ends)
    ]
    found = sampled_group(3, "t", trajectories)
    assert (found.step, found.task_id, found.outcomes) == (3, "t", tuple(outcome for outcome, _, _ in ends))
    assert found.resolved == (True, False, True, False, False, None)
    assert found.rewards == (1.0, 0.0, 1.0, 0.0, 0.0, None)
    assert found.solve_rate == 0.4
    assert not found.broken
    assert sampled_group(3, "t", trajectories, "zero").rewards == (1.0, 0.0, 0.0, 0.0, 0.0, None)
    nothing = sampled_group(3, "t", trajectories[-1:])
    assert nothing.solve_rate is None
    assert SampledGroup.model_validate_json(found.model_dump_json()) == found


def test_dice_are_those_of_seed_and_step() -> None:
    one = inputs(1, step=2, seed=1)
    assert one.random.random() != one.random.random()
    assert [inputs(1, step=2, seed=1).random.random() for _ in range(2)] == [
        inputs(1, step=2, seed=1).random.random()
    ] * 2
    assert inputs(1, step=3, seed=1).random.random() != inputs(1, step=2, seed=1).random.random()


def configured(sampler: Any) -> TrainConfig:
    rollout = {"group_size": 4}
    return check(
        TrainConfig, {"model": "m", "steps": 2, "groups_per_step": 4, "rollout": rollout, "task_sampler": sampler}
    )


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("epochs", {"type": "epochs"}),
        ({"type": "difficulty"}, {"type": "difficulty", "target": 0.5, "half_life_steps": 10.0}),
        ({"type": "mine.py:easy", "limit": 3}, {"type": "mine.py:easy", "limit": 3}),
        ("not_installed_here.samplers:easy", {"type": "not_installed_here.samplers:easy"}),
    ],
)
def test_a_configuration_is_read_without_the_user_s_code(given: Any, kept: dict[str, Any]) -> None:
    config = configured(given)
    assert config.task_sampler == kept
    assert differences(check(TrainConfig, config.model_dump(mode="json")), config) == []


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("epoch", r"task_sampler: no task sampler 'epoch' \(did you mean epochs\?\)"),
        ("mine.py", r"say which object of the file, as in mine\.py:NAME"),
        ({"type": "difficulty", "target": 1}, "task sampler difficulty: target is 1: give a number"),
        ({"type": "difficulty", "taget": 0.3}, r"taget is unknown \(did you mean target\?\)"),
        ({"type": "epochs", "target": 0.3}, "epochs takes no settings, but target"),
        ({"target": 0.3}, "needs type: one of epochs, difficulty"),
        (3, r"give a name, or a mapping \{type: NAME, \.\.\.\}"),
    ],
)
def test_a_wrong_setting_is_told(given: Any, said: str) -> None:
    with pytest.raises(UserError, match=said):
        configured(given)


def test_another_sampler_is_another_run() -> None:
    stored, wanted = configured("epochs"), configured({"type": "difficulty", "target": 0.3})
    assert 'task_sampler.type was "epochs" and is now "difficulty"' in differences(stored, wanted)


def test_assignments_choose_a_sampler_with_its_settings() -> None:
    config = read_config(QUICKSTART, ["task_sampler.type=difficulty", "task_sampler.target=0.3"])
    assert TASK_SAMPLERS.make(config.task_sampler) == Difficulty(target=0.3)
    assert TASK_SAMPLERS.make(read_config(QUICKSTART).task_sampler) is epochs


def test_a_sampler_of_ones_own_that_cannot_be_made_is_told_before_anything_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text("def easy(inputs): ...\nimport nothing_of_that_name\n")
    assert "there is no file others.py" in next(reasons_at_start(configured("others.py:easy"), sharded=False))
    with pytest.raises(ModuleNotFoundError, match="nothing_of_that_name"):
        list(reasons_at_start(configured("mine.py:easy"), sharded=False))


class Every(Frozen):
    """A sampler with settings."""

    nth: int = 1

    def __call__(self, inputs: TaskSamplerInputs) -> list[str]:
        return [inputs.tasks[0].task.id] * inputs.count


@pytest.mark.parametrize(("given", "nth"), [(Every, 1), (Every(nth=3), 3)])
def test_a_sampler_is_handed_over_from_python(given: Any, nth: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from swe_aem.api import training

    seen: list[TrainConfig] = []
    monkeypatch.setattr(training, "start_training", lambda config, directory: seen.append(config))
    sa.train(QUICKSTART, task_sampler=given, report=False)
    assert TASK_SAMPLERS.make(seen[0].task_sampler) == Every(nth=nth)
    sa.train(QUICKSTART, task_sampler={"type": "difficulty", "target": 0.3}, report=False)
    assert TASK_SAMPLERS.make(seen[1].task_sampler) == Difficulty(target=0.3)
