"""Rewards that are handed over in Python."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import swe_aem as sa
from swe_aem.api import training
from swe_aem.reward import Rewards, setting_of
from swe_aem.testing.builders import make_trajectory

pytestmark = pytest.mark.usefixtures("require_bubblewrap")


def half(trajectory: sa.Trajectory, verdict: sa.Verdict) -> float:
    return 0.5


def fails(trajectory: sa.Trajectory, verdict: sa.Verdict) -> float:
    raise LookupError("no such thing")


def paying(value: float) -> Callable[..., float]:
    def pays(trajectory: sa.Trajectory, verdict: sa.Verdict) -> float:
        return value

    return pays


@pytest.mark.bubblewrap
def test_a_function_in_the_place_of_a_name(tmp_path: Path) -> None:
    tasks = sa.load_tasks("tasks/micro", limit=1)
    terms: dict[str, Any] = {"half": half, "same": {"type": half, "weight": 2}, "tests": "resolved"}
    run = sa.rollout(tasks, agent="gold", reward=terms, twins=False, out=tmp_path / "run")
    (paid,) = run.trajectories()
    assert (paid.reward, paid.reward_terms) == (2.5, {"half": 0.5, "same": 0.5, "tests": 1.0})
    assert (run.summary.resolved, run.summary.reward) == (1, 2.5)
    assert sa.evaluate(run).pass_at[0].estimate.value == 1.0, "a rate never reads the reward"
    with pytest.raises(
        sa.errors.ExtensionFailed, match=r"raised LookupError: no such thing\. Nothing is lost"
    ) as caught:
        sa.rollout(tasks, agent="noop", reward=fails, out=tmp_path / "fails")
    assert isinstance(caught.value.__cause__, LookupError)


def test_functions_that_share_a_name_are_not_taken_for_one_another() -> None:
    with pytest.raises(sa.errors.UserError, match="two rewards have the name python:paying_locals_pays"):
        setting_of({"a": paying(1), "b": paying(2)})
    assert Rewards(setting_of(paying(3)))(make_trajectory("t", 0)).reward == 3


def test_training_takes_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []
    monkeypatch.setattr(training, "start_training", lambda config, directory: given.append(config))
    sa.train("configs/quickstart.yaml", out=tmp_path, reward={"tests": "fraction", "half": half})
    sa.train("configs/quickstart.yaml", out=tmp_path)
    assert given[0].rollout.reward["tests"] == "fraction"
    assert given[0].rollout.reward["half"].endswith(":half")
    assert given[1].rollout.reward == "resolved"
