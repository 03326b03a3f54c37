"""The script that solves `tasks/nano` by writing one line new."""

import asyncio
from pathlib import Path
from typing import Literal

import pytest

from swe_aem.agent import TurnRenderer
from swe_aem.core import SamplingParams
from swe_aem.errors import UserError
from swe_aem.policy.demonstrator import HASTY_LOOKS, demonstrator
from swe_aem.policy.scripted import ScriptedPolicy
from swe_aem.policy.tokenizer import load_tokenizer
from swe_aem.tasks import load_tasks


@pytest.fixture(scope="module")
def renderer() -> TurnRenderer:
    return TurnRenderer(load_tokenizer(None))


def test_every_bundled_task_can_be_shown(renderer: TurnRenderer) -> None:
    for record in load_tasks("nano"):
        assert demonstrator(record, renderer).name == "demo"


def test_a_task_that_takes_more_than_a_line_is_refused(renderer: TurnRenderer) -> None:
    record = load_tasks("nano", limit=1).records[0]
    longer = record.key.model_copy(update={"gold_patch": 2 * record.key.gold_patch})
    with pytest.raises(UserError, match="the policies demo and hasty are for tasks/nano"):
        demonstrator(record.model_copy(update={"key": longer}), renderer)


def test_a_hasty_demonstrator_mostly_edits_without_looking(renderer: TurnRenderer) -> None:
    records = load_tasks("nano").records[::8]
    looked = [_looks_first(demonstrator(record, renderer, looks=HASTY_LOOKS)) for record in records]
    assert 0.3 < sum(looked) / len(looked) < 0.5
    assert all(_looks_first(demonstrator(record, renderer)) for record in records)


def _looks_first(policy: ScriptedPolicy) -> bool:
    first = asyncio.run(policy.sample([], SamplingParams(max_tokens=1), trajectory_id=""))
    return "grep -n" in load_tokenizer(None).decode(list(first.token_ids))


@pytest.mark.slow
@pytest.mark.bubblewrap
@pytest.mark.parametrize(("agent", "tasks"), [("demo", 14), ("hasty", 4)])
def test_demonstrations_resolve(
    tmp_path: Path, agent: Literal["demo", "hasty"], tasks: int, require_bubblewrap: None
) -> None:
    """Both make the same edit; the hasty one only looks less."""
    from swe_aem.rollout import RolloutConfig, RolloutRun, chosen_tasks
    from swe_aem.store import Store

    config = RolloutConfig(tasks="nano", split="heldout", limit=tasks, agent=agent)
    with RolloutRun(config, chosen_tasks(config), Store(tmp_path / "out")) as rollout:
        finished = asyncio.run(rollout.run())
    assert finished.summary.outcomes == {"resolved": tasks}
