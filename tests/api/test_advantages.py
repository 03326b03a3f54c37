"""`sa.advantages`: what the tokens of stored trajectories are worth, and the example that trains with it."""

import importlib.util
import math
from pathlib import Path
from types import ModuleType

import pytest

pytest.importorskip("torch", reason="needs the transformers extra")

import torch

import swe_aem as sa
from swe_aem.core import Response
from swe_aem.testing.builders import make_trajectory

pytestmark = pytest.mark.torch
EXAMPLE = Path(__file__).parents[2] / "examples" / "minimal_rl.py"


def trajectory(sample: int, outcome: sa.Outcome, *spans: tuple[int, int]) -> sa.Trajectory:
    """Eight tokens, some of them sampled."""
    responses = [
        Response(start=a, end=b, logprobs=(-0.5,) * (b - a), version=0, finish_reason="stop", sample_s=0.1)
        for a, b in spans
    ]
    reward = None if outcome is sa.Outcome.INFRASTRUCTURE else float(outcome is sa.Outcome.RESOLVED)
    return make_trajectory(
        "a", sample, token_ids=tuple(range(8)), responses=tuple(responses), outcome=outcome, reward=reward
    )


GROUP = [
    trajectory(0, sa.Outcome.RESOLVED, (2, 4), (5, 8)),
    trajectory(1, sa.Outcome.UNRESOLVED, (3, 6)),
    trajectory(2, sa.Outcome.TURN_LIMIT, (1, 8)),
    trajectory(3, sa.Outcome.INFRASTRUCTURE, (1, 8)),
]
ENTROPIES = [torch.tensor([9.0, 9, 0, 0, 9, 1, 1, 1]), torch.full((8,), 0.5), torch.full((8,), 9.0), torch.zeros(8)]


def test_every_token_gets_the_advantage_of_its_response() -> None:
    values, metrics = sa.advantages(GROUP, ENTROPIES)
    weights = [1.0, math.exp(-1.0), math.exp(-0.5)]
    first, second, failed = (weight / (sum(weights) / 3) for weight in weights)
    assert values[0].tolist() == pytest.approx([0, 0, first, first, 0, second, second, second])
    assert values[1].tolist() == pytest.approx([0, 0, 0, *[-failed / 2] * 3, 0, 0])  # beside rewards of 1 and 0
    assert values[2].tolist() == values[3].tolist() == [0.0] * 8
    assert metrics["alpha_max"] == pytest.approx(first)


def test_another_estimator_and_one_of_your_own() -> None:
    plain, _ = sa.advantages(GROUP, ENTROPIES, advantage="leave_one_out")
    assert plain[0].tolist() == [0, 0, 1, 1, 0, 1, 1, 1]
    unmodulated, _ = sa.advantages(GROUP, ENTROPIES, advantage={"estimator": "aem", "lam": 0})
    assert [one.tolist() for one in unmodulated] == [one.tolist() for one in plain]
    own, metrics = sa.advantages(GROUP, ENTROPIES, advantage=lambda inputs: (-inputs.logprob, {"seen": 3}))
    assert own[1].tolist() == [0, 0, 0, 0.5, 0.5, 0.5, 0, 0]
    assert metrics == {"seen": 3.0}


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(sa.errors.UserError, match="4 trajectories and 1 tensors of entropies"):
        sa.advantages(GROUP, ENTROPIES[:1])
    with pytest.raises(sa.errors.UserError, match=r"give \(8,\), one per token"):
        sa.advantages(GROUP, [one[:7] for one in ENTROPIES])
    with pytest.raises(sa.errors.UserError, match="no advantage estimator 'aen'"):
        sa.advantages(GROUP, ENTROPIES, advantage="aen")


def tasks_of(trajectories: list[sa.Trajectory]) -> set[str]:
    return {one.task_id for one in trajectories}


@pytest.fixture
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("minimal_rl", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.bubblewrap
def test_the_example_trains(
    require_bubblewrap: None, example: ModuleType, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    differing: list[bool] = []

    def noting(trajectories: list[sa.Trajectory], entropies: list[torch.Tensor]) -> object:
        values, metrics = advantages_of(trajectories, entropies)
        rewards = [{one.reward for one in trajectories if one.task_id == task} for task in tasks_of(trajectories)]
        differing.append(any(len(one) > 1 for one in rewards) == (max(float(one.abs().max()) for one in values) > 0))
        return values, metrics

    advantages_of = sa.advantages
    monkeypatch.setattr(sa, "advantages", noting)
    curve = example.main(["--steps", "2", "--tasks", "1", "--group", "4"])
    assert len(curve) == 2
    assert differing == [True, True], "advantages where the rewards of a group differ, and only there"
    assert [line.split()[:2] for line in capsys.readouterr().out.splitlines()] == [["step", "1"], ["step", "2"]]
    assert len(EXAMPLE.read_text(encoding="utf-8").splitlines()) < 100


@pytest.mark.nightly
@pytest.mark.bubblewrap
@pytest.mark.timeout(1800)
def test_the_example_learns(require_bubblewrap: None, example: ModuleType) -> None:
    curve = example.main([])
    assert sum(curve[-3:]) / 3 > curve[0] + 0.2
