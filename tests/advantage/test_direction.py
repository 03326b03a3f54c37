"""AEM's direction on tabular policies: α-1 stands for H-S, and A(α-1) > 0 foretells falling entropy.

`pytest -s tests/advantage/test_direction.py` prints the figures of docs/diagnose.md; `-m nightly` has more seeds.
"""

import itertools
import math
import statistics
from collections.abc import Sequence

import pytest

torch = pytest.importorskip("torch", reason="needs the transformers extra")

from swe_aem.advantage.aem import coefficients  # noqa: E402
from swe_aem.advantage.config import AdvantageConfig, AEMConfig, BaselineConfig  # noqa: E402
from swe_aem.advantage.diagnostics import pearson, sign_agreement  # noqa: E402
from tests.advantage.token_trees import (  # noqa: E402
    Step,
    Training,
    mean_token_entropy,
    policies,
    population_factors,
    response_entropy,
    winning,
)

pytestmark = pytest.mark.torch

ARMS = {
    "without": BaselineConfig(estimator="leave_one_out"),
    "AEM": AEMConfig(),
    "reversed": AEMConfig(direction="reversed"),
}
STEPS = 22
"""Until about four of five trajectories are resolved: beyond, little is left to learn."""


def test_the_factor_goes_with_entropy_minus_surprisal() -> None:
    """In 64 states, each with a group of 64 responses."""
    states, size = 64, 64
    logprob = policies(states, seed=0)
    drawn = torch.multinomial(logprob.exp(), size, True, generator=torch.Generator().manual_seed(1))
    entropy = mean_token_entropy(logprob).gather(1, drawn)
    alpha = coefficients(entropy.flatten(), torch.arange(states).repeat_interleave(size)).view(states, size) - 1
    relative = response_entropy(logprob).unsqueeze(1) + logprob.gather(1, drawn)  # H - S
    found = [pearson(one, other) for one, other in zip(alpha, relative, strict=True)]
    first, everything = sign_agreement(alpha[:, 0], relative[:, 0]), sign_agreement(alpha.flatten(), relative.flatten())
    print(f"\nr(α-1, H-S) in a state: mean {statistics.mean(found):+.2f}, {min(found):+.2f} to {max(found):+.2f}")
    print(f"signs agree in {first[0]} of {first[1]} states, {everything[0] / everything[1]:.0%} of all responses")
    assert statistics.mean(found) > 0.2
    assert sum(r > 0 for r in found) > 0.8 * states
    assert everything[0] > 0.55 * everything[1]


@pytest.mark.parametrize("success", [0.1, 0.85])
def test_one_step_under_a_mask_moves_entropy_as_foretold(success: float) -> None:
    """A natural-gradient step of the whole policy, on the responses of one sign of A(α-1)."""
    rate = 0.1
    logprob = policies(256, seed=0)
    win = winning(logprob, success, seed=7).double()
    base = win - (logprob.exp() * win).sum(1, keepdim=True)
    alpha = population_factors(logprob)
    sign = base * (alpha - 1)
    change = {}
    for name, factor in {
        "A": torch.ones_like(alpha),
        "αA": alpha,
        "αA where A(α-1) > 0": alpha * (sign > 0),
        "αA where A(α-1) < 0": alpha * (sign < 0),
    }.items():
        moved = (logprob + rate * base * factor).log_softmax(1)
        change[name] = (response_entropy(moved) - response_entropy(logprob)).tolist()
    change["αA minus A"] = [one - other for one, other in zip(change["αA"], change["A"], strict=True)]
    print(f"\nchange of H by a step of {rate}, success {float((logprob.exp() * win).sum(1).mean()):.0%}:")
    for name, values in change.items():
        print(f"  {name}: {_mean(values)}")
    falling, rising = change["αA where A(α-1) > 0"], change["αA where A(α-1) < 0"]
    assert statistics.mean(falling) < -2 * _error(falling)
    assert statistics.mean(rising) > 2 * _error(rising)


@pytest.mark.parametrize(("seeds", "shown"), [(6, STEPS), pytest.param(24, 60, marks=pytest.mark.nightly)])
def test_training_ends_with_lower_entropy_and_reversed_with_higher(seeds: int, shown: int) -> None:
    """Than training without AEM, from the same policies with the same random numbers."""
    runs = {name: [_trained(config, seed, shown) for seed in range(seeds)] for name, config in ARMS.items()}
    for step in sorted({5, *range(0, shown + 1, 10), STEPS}):
        print(f"\nafter {step:2} steps", end="")
        for name, several in runs.items():
            resolved = statistics.mean(run[step].resolved for run in several)
            entropy = statistics.mean(run[step].entropy for run in several)
            print(f"  {name}: resolved {resolved:.2f}, H {entropy:.3f}", end="")
            if name != "without":
                print(f", difference {_mean(_apart(several, runs['without'], step))}", end="")
    reached = min(run[-1].resolved for several in runs.values() for run in several)
    for rate in (rate for rate in (0.25, 0.5, 0.75) if rate < reached):
        print(f"\nH at the same resolved rate {rate}, difference", end="")
        for name in ("AEM", "reversed"):
            pairs = zip(runs[name], runs["without"], strict=True)
            apart = [_entropy_at(one, rate) - _entropy_at(other, rate) for one, other in pairs]
            print(f"  {name}: {_mean(apart)}", end="")
    print()
    lower, higher = (_apart(runs[name], runs["without"], STEPS) for name in ("AEM", "reversed"))
    assert statistics.mean(lower) < -2 * _error(lower)
    assert statistics.mean(higher) > 2 * _error(higher)


def _trained(config: AdvantageConfig, seed: int, steps: int) -> list[Step]:
    training = Training(config, seed)
    return [training.step() for _ in range(steps + 1)]


def _apart(several: Sequence[Sequence[Step]], others: Sequence[Sequence[Step]], step: int) -> list[float]:
    return [one[step].entropy - other[step].entropy for one, other in zip(several, others, strict=True)]


def _entropy_at(run: Sequence[Step], resolved: float) -> float:
    """H when a run first reaches a resolved rate, interpolated between steps."""
    before, after = next(pair for pair in itertools.pairwise(run) if pair[1].resolved >= resolved)
    part = (resolved - before.resolved) / (after.resolved - before.resolved)
    return before.entropy + part * (after.entropy - before.entropy)


def _error(values: Sequence[float]) -> float:
    return statistics.stdev(values) / math.sqrt(len(values))


def _mean(values: Sequence[float]) -> str:
    return f"{statistics.mean(values):+.4f} ± {_error(values):.4f}"
