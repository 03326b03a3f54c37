"""What a token's advantage, weight and clip become in TRL's losses: gradients against numbers worked out by hand.

The gradient is that of the loss with respect to each token's log-probability. Two rows of three and two trained tokens:

    row   trained tokens   advantage   old / sampler
    0     t0 t1 t2         +1          2, 1/4, 1
    1     t0 t1            -2          1, 9
"""

import math
from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs the train extra")
pytest.importorskip("trl", reason="needs the train extra")

from swe_aem.advantage.config import AEMConfig, ImportanceSamplingConfig  # noqa: E402
from swe_aem.errors import UserError  # noqa: E402
from swe_aem.testing.steps import ScriptedFeed, tiny_model, tiny_tokenizer  # noqa: E402
from swe_aem.train.grpo import AgentGRPOTrainer  # noqa: E402
from swe_aem.train.refusals import refuse_silent_changes  # noqa: E402
from swe_aem.train.trl_config import TrlConfig, recipe  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.contract(trl=True)]

ADVANTAGES = [1.0, -2.0]
RATIOS = [[2.0, 0.25, 1.0], [1.0, 9.0, 5.0]]
TRAINED = [[1, 1, 1], [1, 1, 0]]
OLD = -3.0
LENGTH = 64
"""`max_completion_length` of `make_config`."""
DENOMINATORS = {
    "grpo": [[6, 6, 6], [4, 4, 4]],  # tokens of the row, times rows
    "sapo": [[6, 6, 6], [4, 4, 4]],
    "bnpo": [[5, 5, 5], [5, 5, 5]],  # tokens of the micro-batch
    "dapo": [[5, 5, 5], [5, 5, 5]],  # tokens of the step
    "cispo": [[5, 5, 5], [5, 5, 5]],
    "dr_grpo": [[2 * LENGTH] * 3, [2 * LENGTH] * 3],  # a constant, times rows
    "luspo": [[2, 2, 2], [2, 2, 2]],  # rows
}

Gradient = Callable[..., Any]


def importance(mode: str, **bounds: float) -> ImportanceSamplingConfig:
    return ImportanceSamplingConfig.model_validate({"mode": mode, **bounds})


TRUNCATE, MASK = importance("truncate", high=2), importance("mask", low=0.5, high=5)
GEOMETRIC = importance("sequence_geometric_mask", low=0.7, high=1.4)
"""The geometric means of the rows are 0.79 and 3."""
WEIGHTS = {
    "none": (importance("none"), [[1, 1, 1], [1, 1, 0]]),
    "truncate": (TRUNCATE, [[2, 0.25, 1], [1, 2, 0]]),
    "mask": (MASK, [[2, 0, 1], [1, 0, 0]]),
    "sequence_geometric_mask": (GEOMETRIC, [[1, 1, 1], [0, 0, 0]]),
}


TRAINERS: dict[tuple[Any, ...], Any] = {}
"""By the fields of `GRPOConfig`: to make one takes a tenth of a second."""


@pytest.fixture
def make_trainer(make_config: Any, dataset: Any) -> Callable[..., Any]:
    """Makes a trainer, or gives an earlier one another importance sampling."""

    def make(config: ImportanceSamplingConfig, **grpo: Any) -> Any:
        key = tuple(sorted(grpo.items()))
        if key not in TRAINERS:
            high = recipe(TrlConfig(loss_type=grpo.get("loss_type")))["epsilon_high"]
            TRAINERS[key] = AgentGRPOTrainer(
                model=tiny_model(),
                args=make_config(steps_per_generation=1, **{"epsilon_high": high} | grpo),
                train_dataset=dataset,
                processing_class=tiny_tokenizer(),
                rollout_func=ScriptedFeed(4),
                advantage=AEMConfig(),
                importance_sampling=config,
            )
            TRAINERS[key].current_gradient_accumulation_steps = 1
        TRAINERS[key].importance_sampling = config
        return TRAINERS[key]

    return make


@pytest.fixture
def gradient(make_trainer: Callable[..., Any]) -> Gradient:
    """(2, 3): what the trainer's loss says of each token when its probability is `ratio` times the old one."""

    def run(
        config: ImportanceSamplingConfig,
        *,
        ratio: Any = 1.0,
        advantages: Any = ADVANTAGES,
        ratios: Any = RATIOS,
        aem: Any = None,
        **grpo: Any,
    ) -> Any:
        trainer = make_trainer(config, **grpo)
        trained = torch.tensor(TRAINED)
        old = torch.full((2, 3), OLD)
        output: dict[str, Any] = {
            "prompt_ids": torch.ones(2, 1, dtype=torch.long),
            "prompt_mask": torch.ones(2, 1, dtype=torch.long),
            "completion_ids": torch.ones(2, 3, dtype=torch.long),
            "completion_mask": torch.ones(2, 3, dtype=torch.long),
            "tool_mask": trained,
            "old_per_token_logps": old,
            "sampling_per_token_logps": old - torch.tensor(ratios).log(),
            "num_items_in_batch": trained.sum(),
        }
        base = torch.tensor(advantages)
        given = base if aem is None else base.unsqueeze(1) * torch.tensor(aem)
        output["advantages"] = trainer._corrected(given, old, output)
        logps = (old + torch.as_tensor(ratio).log()).requires_grad_()
        trainer._get_per_token_logps_and_entropies = lambda *args, **kwargs: (logps, torch.ones(2, 3), None)
        trainer._compute_loss(trainer.model, output).backward()
        return logps.grad

    return run


def divided(weights: list[list[float]], loss_type: str) -> Any:
    """(2, 3): minus advantage times weight over the loss's denominator."""
    return -torch.tensor(ADVANTAGES).unsqueeze(1) * torch.tensor(weights) / torch.tensor(DENOMINATORS[loss_type])


@pytest.mark.parametrize("loss_type", DENOMINATORS)
@pytest.mark.parametrize("mode", WEIGHTS)
def test_a_weight_scales_its_own_token_and_no_other(gradient: Gradient, mode: str, loss_type: str) -> None:
    """A masked token stays in the denominator of every loss."""
    config, weights = WEIGHTS[mode]
    assert torch.allclose(gradient(config, loss_type=loss_type), divided(weights, loss_type), rtol=1e-5)


def test_weights_multiply_aems_factors(gradient: Gradient) -> None:
    aem = [[1.5, 1.5, 0.5], [0.75, 1.25, 1.0]]
    expected = divided(WEIGHTS["mask"][1], "dr_grpo") * torch.tensor(aem)
    assert torch.allclose(gradient(MASK, aem=aem), expected, rtol=1e-5)


def test_luspo_at_token_level_is_the_sum_that_dr_grpo_divides(gradient: Gradient) -> None:
    """DeepSWE's aggregation: the sum over a row's tokens, the mean over rows. Gradient clipping sees its units."""
    assert torch.allclose(gradient(TRUNCATE, loss_type="luspo"), LENGTH * gradient(TRUNCATE), rtol=1e-5)


@pytest.mark.parametrize(
    ("ratio", "delta", "expected"),
    [
        (2.0, None, [[0, 0, 0], [4, 4, 0]]),  # above 1.28: clipped where the token would be raised
        (2.0, 3.0, [[0, 0, 0], [4, 4, 0]]),
        (4.0, None, [[0, 0, 0], [8, 8, 0]]),  # one token that has become much likelier, and failed
        (4.0, 3.0, [[0, 0, 0], [0, 0, 0]]),
        (1.0, 3.0, [[-1, -1, -1], [2, 2, 0]]),
    ],
)
def test_dual_clip_bounds_what_a_failure_can_do(
    gradient: Gradient, ratio: float, delta: float | None, expected: list[list[float]]
) -> None:
    found = gradient(importance("none"), ratio=ratio, loss_type="luspo", epsilon_high=0.28, delta=delta)
    assert torch.allclose(found, torch.tensor(expected) / 2, rtol=1e-5)


@pytest.mark.parametrize(
    ("advantages", "kept"),
    [([1.0, -2.0], [True, False]), ([-1.0, 2.0], [True, True]), ([-1.0, -2.0], [True, False])],
)
def test_opsm_drops_failures_that_are_far_from_their_sampler(
    gradient: Gradient, advantages: list[float], kept: list[bool]
) -> None:
    """Rows whose mean of log sampler - log policy is above the threshold: -0.1 and +0.2 here, and the threshold 0.15.
    Advantages are (B, T) under AEM."""
    ratios = [[math.exp(0.1)] * 3, [math.exp(-0.2)] * 3]
    found = gradient(
        importance("none"), advantages=advantages, ratios=ratios, aem=[[1.0] * 3] * 2, loss_type="luspo",
        off_policy_mask_threshold=0.15,
    )  # fmt: skip
    expected = -torch.tensor(advantages).unsqueeze(1) * torch.tensor(TRAINED) * torch.tensor(kept).unsqueeze(1) / 2
    assert torch.allclose(found, expected, rtol=1e-5)


def test_vespo_takes_truncated_ratios_into_its_gamma(gradient: Gradient) -> None:
    """w is the product of a row's ratios and φ(w) = exp(λ + k log w - λ w), with k, λ of 2, 3 for success and 3, 2
    for failure. Row 0: w = 2/4 = 0.5; row 1: w = 1 * 2."""
    phi = [math.exp(3 + 2 * math.log(0.5) - 1.5), math.exp(2 + 3 * math.log(2) - 4)]
    expected = -torch.tensor(ADVANTAGES).unsqueeze(1) * torch.tensor(phi).unsqueeze(1) * torch.tensor(TRAINED) / 5
    assert torch.allclose(gradient(TRUNCATE, loss_type="vespo"), expected, rtol=1e-5)
    alone = -torch.tensor(ADVANTAGES).unsqueeze(1) * torch.tensor(TRAINED) / 5
    assert torch.allclose(gradient(importance("none"), loss_type="vespo"), alone, rtol=1e-5), "the sampler is ignored"


@pytest.mark.parametrize(
    ("config", "grpo", "said"),
    [
        (MASK, {"loss_type": "vespo"}, "one masked token would silence its trajectory"),
        (TRUNCATE, {"delta": 1.2, "epsilon_high": 0.28}, r"ends at 1 \+ epsilon_high = 1\.28"),
        (TRUNCATE, {"delta": 3.0, "loss_type": "sapo"}, "loss_type sapo is none: leave delta out"),
    ],
)
def test_what_would_be_ignored_is_refused(make_config: Any, config: Any, grpo: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        refuse_silent_changes(make_config(**grpo), AEMConfig(), config)


def test_a_mode_needs_the_samplers_probabilities(make_trainer: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match="needs the logprobs of rollout_func"):
        make_trainer(TRUNCATE)._corrected(torch.ones(2), torch.ones(2, 3), {"completion_mask": torch.ones(2, 3)})
