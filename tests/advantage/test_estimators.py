"""What a configuration of advantages may name has an implementation."""

from typing import Any, get_args

import pytest

pytest.importorskip("torch", reason="needs the transformers extra")

import torch

from swe_aem.advantage.config import AdvantageConfig, Baseline, Direction, Scope
from swe_aem.advantage.estimators import BASELINES, base_advantages, factors
from swe_aem.core.settings import check
from swe_aem.errors import UserError

REWARD = torch.tensor([1.0, 0.0, 0.0, float("nan"), 1.0, 1.0, 0.0, 1.0])
GROUP = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])
ENTROPY = torch.tensor([0.1, 0.9, 0.4, 0.7, 0.2, 1.5, 0.3, 0.6], dtype=torch.float64)


def test_every_baseline_that_may_be_named_is_implemented_and_no_other() -> None:
    assert set(BASELINES) == set(get_args(Baseline))


@pytest.mark.parametrize(
    ("name", "value", "known"),
    [("baseline", "max_rl", get_args(Baseline)), ("scope", "token", get_args(Scope)),
     ("direction", "sideways", get_args(Direction))],
)  # fmt: skip
def test_an_unknown_name_is_refused_at_start(name: str, value: str, known: tuple[str, ...]) -> None:
    with pytest.raises(UserError, match=f'{name} is "{value}": give one of {", ".join(known)}'):
        check(AdvantageConfig, {name: value})


def test_no_two_baselines_are_the_same() -> None:
    found = [base_advantages(REWARD, GROUP, AdvantageConfig(baseline=name)) for name in get_args(Baseline)]
    for number, one in enumerate(found):
        assert one[3] == 0, "a trajectory that does not count has no advantage"
        assert not any(torch.equal(one, other) for other in found[:number])


@pytest.mark.parametrize(("name", "names"), [("scope", get_args(Scope)), ("direction", get_args(Direction))])
def test_no_two_ablations_are_the_same(name: str, names: tuple[str, ...]) -> None:
    row = torch.arange(8) // 2

    def alpha(**changed: Any) -> torch.Tensor:
        return factors(ENTROPY, row, GROUP, AdvantageConfig(min_range=0.0, **changed))

    found = [alpha(**{name: value}) for value in names]
    for number, one in enumerate(found):
        assert not any(torch.equal(one, other) for other in found[:number])


def test_an_implementation_that_is_missing_is_an_error_and_no_other_baseline() -> None:
    unchecked = AdvantageConfig.model_construct(baseline="max_rl")
    with pytest.raises(KeyError, match="max_rl"):
        base_advantages(REWARD, GROUP, unchecked)
    for name in ("scope", "direction"):
        with pytest.raises(AssertionError, match="unknown"):
            factors(ENTROPY, GROUP, GROUP, AdvantageConfig.model_construct(**{name: "unknown"}))
