"""The script that solves `tasks/nano` by writing one line anew."""

from pathlib import Path

import pytest

from swe_aem.agent import TurnRenderer
from swe_aem.errors import UserError
from swe_aem.policy.demonstrator import demonstrator
from swe_aem.policy.tokenizer import load_tokenizer
from swe_aem.tasks import load_tasks


@pytest.fixture(scope="module")
def renderer() -> TurnRenderer:
    return TurnRenderer(load_tokenizer(None))


def test_every_bundled_task_can_be_shown(renderer: TurnRenderer) -> None:
    for record in load_tasks("nano"):
        assert demonstrator(record, renderer).name == "demo"


def test_tasks_of_other_sets_are_refused(renderer: TurnRenderer) -> None:
    record = load_tasks("micro", limit=1).records[0]
    with pytest.raises(UserError, match="the agent 'demo' is for tasks/nano"):
        demonstrator(record, renderer)


@pytest.mark.bubblewrap
def test_demonstrations_resolve(tmp_path: Path, require_bubblewrap: None) -> None:
    import asyncio

    from swe_aem.rollout.config import RolloutConfig
    from swe_aem.rollout.run import roll_out
    from swe_aem.rollout.wiring import chosen_tasks, open_crew
    from swe_aem.sandbox import open_backend

    config = RolloutConfig(tasks="nano", split="heldout", limit=14, agent="demo")
    tasks = chosen_tasks(config)
    finished = asyncio.run(roll_out(config, tasks, tmp_path / "out", open_backend("bubblewrap"), open_crew))
    assert finished.summary.outcomes == {"resolved": 14}
