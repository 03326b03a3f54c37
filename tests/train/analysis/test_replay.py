"""Replays of stored groups: the figures by hand, the command, and what it refuses."""

import json
import math
from pathlib import Path

import pytest
from typer.testing import CliRunner

pytest.importorskip("torch", reason="needs the transformers extra")
pytest.importorskip("matplotlib", reason="needs the train extra")

from swe_aem.advantage.config import ADVANTAGES, AEMConfig
from swe_aem.cli.replay_advantages import app
from swe_aem.core import OUTCOME_TABLE, Outcome, Response, Trajectory
from swe_aem.core.outcome import LimitsReward
from swe_aem.errors import UserError
from swe_aem.rollout import RolloutConfig, claim
from swe_aem.store import Store
from swe_aem.testing.builders import make_trajectory
from swe_aem.train.analysis.replay import Replay, comparison
from swe_aem.train.analysis.stored import read_trajectories, stored_groups

pytestmark = pytest.mark.torch


def trajectory(task: str, sample: int, outcome: Outcome, *surprisals: float) -> Trajectory:
    """One token of prompt, then responses of two tokens with the surprisals, a token apart."""
    spans = [(1 + 3 * turn, 3 + 3 * turn) for turn in range(len(surprisals))]
    responses = tuple(
        Response(start=start, end=end, logprobs=(-2 * value, 0.0), version=0, finish_reason="stop", sample_s=0.1)
        for (start, end), value in zip(spans, surprisals, strict=True)
    )
    return make_trajectory(
        task,
        sample,
        token_ids=tuple(range(2 + 3 * len(surprisals))),
        responses=responses,
        outcome=outcome,
        reward=float(outcome is Outcome.RESOLVED) if OUTCOME_TABLE[outcome].in_baseline else None,
    )


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Two groups: one with both rewards and a fault of ours, one with one reward."""
    with Store(tmp_path / "store").writer() as writer:
        writer.append(trajectory("a", 0, Outcome.RESOLVED, 0.0, 0.5))
        writer.append(trajectory("a", 1, Outcome.UNRESOLVED, 1.0))
        writer.append(trajectory("a", 2, Outcome.INFRASTRUCTURE, 9.0))
        writer.append(trajectory("a", 3, Outcome.TURN_LIMIT, 7.0))
        writer.append(trajectory("b", 0, Outcome.UNRESOLVED, 0.30))
        writer.append(trajectory("b", 1, Outcome.UNRESOLVED, 0.35))
    return tmp_path / "store"


def replays(store: Path) -> list[Replay]:
    return [one.replay for one in comparison(read_trajectories(store), AEMConfig())]


def test_figures(store: Path) -> None:
    base, paper, *_ = replays(store)
    assert (base.responses, base.groups, base.zero_variance_groups) == (5, 2, 1)
    assert (base.alpha_std, base.moved, base.unmodulated_share) == (0.0, 0.0, 1.0)
    weights = [1.0, math.exp(-0.5), math.exp(-1.0)]
    alpha = [weight / (sum(weights) / 3) for weight in weights]
    assert (paper.alpha_max, paper.alpha_min) == pytest.approx((alpha[0], alpha[2]))
    assert paper.unmodulated_share == pytest.approx(2 / 5)
    assert paper.confident_successes == pytest.approx((alpha[0] + alpha[1]) / 2)
    assert paper.confident_mistakes == pytest.approx(alpha[2])
    # Leave one out of rewards 1, 0, 0 (the limit counts in the baseline): 1, -1/2.
    moved = (abs(alpha[0] - 1) + abs(alpha[1] - 1) + abs(alpha[2] - 1) / 2) / 2.5
    assert paper.moved == pytest.approx(moved)


def test_limits_can_be_trained(store: Path) -> None:
    assert sum(len(one.spans) for one in read_trajectories(store, compact_filtering=False)) == 6


def test_a_limit_pays_what_training_lets_it_pay(tmp_path: Path) -> None:
    """A solved task that hit the turn limit beside a failure: a difference, or none."""
    with Store(tmp_path).writer() as writer:
        writer.append(trajectory("a", 0, Outcome.TURN_LIMIT, 1.0).model_copy(update={"reward": 1.0}))
        writer.append(trajectory("a", 1, Outcome.UNRESOLVED, 1.0))
    paid: tuple[tuple[LimitsReward, int], ...] = (("graded", 0), ("zero", 1))
    for limits_reward, zero_variance in paid:
        stored = read_trajectories(tmp_path, limits_reward=limits_reward)
        assert comparison(stored, AEMConfig())[0].replay.zero_variance_groups == zero_variance
        assert len({one.reward for one in stored}) == 2 - zero_variance


def test_of_an_oversampled_group_the_members_are_those_of_training(tmp_path: Path) -> None:
    config = RolloutConfig(agent="native", policy="m", group_size=2, oversample=2)
    with Store(tmp_path).writer() as writer:
        claim(tmp_path, config, [], stored_tasks=[], tokenizer="t")
        writer.append(trajectory("a", 0, Outcome.INFRASTRUCTURE))
        for sample, outcome in enumerate([Outcome.RESOLVED, Outcome.UNRESOLVED, Outcome.RESOLVED], start=1):
            writer.append(trajectory("a", sample, outcome, float(sample)))
        writer.append(trajectory("a", 4, Outcome.RESOLVED, 4.0))  # the task's next epoch
    assert [[one.sample for one in members] for _, members in stored_groups(tmp_path)] == [[1, 2], [4]]
    assert [one.sample for one in read_trajectories(tmp_path) if one.spans] == [1, 2, 4]


def test_command(store: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, [str(store), "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert "5 responses in 2 groups, 1 of them zero-variance groups" in done.output
    lines = [json.loads(line) for line in (tmp_path / "out" / "responses.jsonl").read_text().splitlines()]
    assert [(line["task_id"], line["sample"], line["response"]) for line in lines][:2] == [("a", 0, 0), ("a", 0, 1)]
    assert lines[0]["aem: base"] == 1.0
    assert lines[0]["aem: alpha"] > 1 > lines[2]["aem: alpha"]
    assert lines[2]["aem: advantage"] == pytest.approx(-0.5 * lines[2]["aem: alpha"])
    assert "aem/response_entropy" in done.output
    names = [one["name"] for one in json.loads((tmp_path / "out" / "summary.json").read_text())]
    assert names == ["base", "aem", "reversed", "shuffled", "scope trajectory", "scope batch"]
    assert (tmp_path / "out" / "alpha.png").read_bytes().startswith(b"\x89PNG")


def test_json(store: Path) -> None:
    done = CliRunner().invoke(app, [str(store), "--json", "--set", "lam=0"])
    assert [one["alpha_std"] for one in json.loads(done.output)] == [0.0] * 6


def test_a_store_without_sampled_tokens(tmp_path: Path) -> None:
    with Store(tmp_path / "store").writer() as writer:
        writer.append(trajectory("a", 0, Outcome.INFRASTRUCTURE))
    with pytest.raises(UserError, match="no trained response"):
        read_trajectories(tmp_path / "store")
    with pytest.raises(UserError, match="no such directory"):
        read_trajectories(tmp_path / "nothing")


@pytest.mark.parametrize("name", ADVANTAGES.names)
def test_every_estimator_is_replayed_by_its_name(store: Path, name: str) -> None:
    done = CliRunner().invoke(app, [str(store), "--estimator", name, "--json"])
    assert done.exit_code == 0, done.output
    base, mine, *variants = json.loads(done.output)
    assert (base["name"], base["moved"]) == ("base", 0.0)
    assert (mine["name"], mine["responses"]) == (name, 5)
    assert len(variants) == (4 if name == "aem" else 0)
    assert math.isfinite(mine["moved"])
    # STARE leaves a store of so high an entropy alone.
    assert (mine["moved"] > 0) is (name not in ("leave_one_out", "stare"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "scope=world"], 'advantage.scope is "world"'),
        (["--set", "baseline=median"], 'advantage.baseline is "median"'),
        (["--estimator", "apem"], "no advantage estimator 'apem'"),
    ],
)
def test_wrong_settings(store: Path, arguments: list[str], message: str) -> None:
    done = CliRunner().invoke(app, [str(store), *arguments])
    assert isinstance(done.exception, UserError)
    assert message in str(done.exception)
