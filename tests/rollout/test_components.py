"""From settings to tasks and components, with the real agent, policies and tokenizer; only the sandbox is a fake."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from swe_aem.core import Deadline, SandboxSpec, Stop, TrajectoryKey
from swe_aem.errors import UserError
from swe_aem.policy import tokenizer_fingerprint
from swe_aem.rollout import RolloutConfig, chosen_tasks, claim, open_components
from swe_aem.rollout.components import StoredTrajectories
from swe_aem.store import Store
from swe_aem.tasks import TaskSet
from swe_aem.testing.builders import make_record, make_trajectory
from swe_aem.testing.sandbox import FakeBackend


async def play(config: RolloutConfig, record: Any, handler: Callable[..., Any] | None = None) -> Any:
    """The trajectory of one task, and the sandbox in which it happened."""
    backend = FakeBackend(handler) if handler else FakeBackend()
    opened = backend.open(SandboxSpec(image="fake"))
    async with open_components(config, TaskSet("t", (record,))) as components, opened as sandbox:
        policy = components.policies(record, 0)
        trajectory = await components.agent.run(record.task, sandbox, policy, sample=0, deadline=Deadline.after(30))
    return trajectory, backend.opened[0]


async def test_gold_and_noop_act_through_the_tools() -> None:
    gold, sandbox = await play(RolloutConfig(agent="gold"), make_record())
    assert gold.stop is Stop.SUBMITTED
    assert any("git apply" in command for command in sandbox.commands)
    noop, sandbox = await play(RolloutConfig(agent="noop"), make_record())
    assert noop.stop is Stop.SUBMITTED
    assert len(noop.responses) == 1
    assert not sandbox.commands


async def test_replay_repeats_the_stored_actions(tmp_path: Path) -> None:
    gold, first = await play(RolloutConfig(agent="gold"), make_record())
    with Store(tmp_path).writer() as writer:
        writer.append(gold.model_copy(update={"outcome": "resolved", "reward": 1.0}))
    claim(tmp_path, RolloutConfig(agent="gold"), [], stored_tasks=[], tokenizer=tokenizer_fingerprint(None))
    again, second = await play(RolloutConfig(agent="replay", replay_from=tmp_path), make_record())
    assert second.commands == first.commands
    assert again.token_ids == gold.token_ids
    assert again.stop is Stop.SUBMITTED
    other = RolloutConfig(agent="replay", replay_from=tmp_path, tokenizer="configs/quickstart/policy")
    with pytest.raises(UserError, match=r"\(bytes\), and that of configs/quickstart/policy is .* with --tokenizer"):
        await play(other, make_record())


async def test_a_long_gold_patch_is_not_stopped_by_the_models_limits() -> None:
    record = make_record()
    long = record.model_copy(update={"key": record.key.model_copy(update={"gold_patch": "+x\n" * 30_000})})
    gold, _ = await play(RolloutConfig(agent="gold"), long)
    assert gold.stop is Stop.SUBMITTED
    asked = RolloutConfig.model_validate({"agent": "gold", "native": {"max_context_tokens": 20_000}})
    limited, _ = await play(asked, long)
    assert limited.stop is Stop.CONTEXT_LIMIT


def test_replay_takes_the_tasks_that_the_store_has(tmp_path: Path, dataset_rows: Path) -> None:
    source = str(dataset_rows / "verified_sample.jsonl")
    every = [record.task.id for record in chosen_tasks(RolloutConfig(tasks=source))]
    with Store(tmp_path).writer() as writer:
        for task_id, sample in [(every[2], 0), (every[1], 0), (every[1], 1)]:
            writer.append(make_trajectory(task_id, sample))

    def replayed(**settings: Any) -> list[str]:
        config = RolloutConfig(tasks=source, agent="replay", replay_from=tmp_path, **settings)
        return [record.task.id for record in chosen_tasks(config)]

    assert replayed() == every[1:3]
    assert replayed(limit=1) == every[1:2]
    assert replayed(group_size=2) == every[1:2]
    with pytest.raises(UserError, match="samples 0 to 2"):
        replayed(group_size=3)


def test_replay_of_an_empty_store_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no trajectories to replay"):
        chosen_tasks(RolloutConfig(agent="replay", replay_from=tmp_path))


def test_stored_trajectories_are_a_mapping(tmp_path: Path) -> None:
    made = [make_trajectory("t", sample) for sample in range(2)]
    with Store(tmp_path).writer() as writer:
        for one in made:
            writer.append(one)
    found = StoredTrajectories(Store(tmp_path))
    assert dict(found) == {one.key: one for one in made}
    assert found.get(TrajectoryKey("u", 0)) is None
