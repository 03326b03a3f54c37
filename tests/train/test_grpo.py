"""The trainer against TRL's own, and AEM inside it against the formulas."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs the train extra")
pytest.importorskip("trl", reason="needs the train extra")

from datasets import Dataset  # noqa: E402
from transformers.models.qwen3.modeling_qwen3 import Qwen3Model  # noqa: E402
from trl.trainer.grpo_trainer import GRPOTrainer  # noqa: E402

from swe_aem.advantage.aem import coefficients  # noqa: E402
from swe_aem.advantage.baselines import group_mean, leave_one_out  # noqa: E402
from swe_aem.advantage.config import (  # noqa: E402
    AdvantageConfig,
    AEMConfig,
    BaselineConfig,
    EMPGConfig,
    ImportanceSamplingConfig,
    OwnAdvantageConfig,
    STAREConfig,
    label_of,
)
from swe_aem.advantage.estimators import estimate, estimator_of  # noqa: E402
from swe_aem.advantage.inputs import AdvantageInputs  # noqa: E402
from swe_aem.advantage.responses import responses  # noqa: E402
from swe_aem.errors import UserError  # noqa: E402
from swe_aem.testing.advantages import advantage_inputs  # noqa: E402
from swe_aem.testing.steps import ScriptedFeed, tiny_model, tiny_tokenizer  # noqa: E402
from swe_aem.train.grpo import AgentGRPOTrainer, _require_same, _sums, trimmed  # noqa: E402
from swe_aem.train.records import StepMetrics  # noqa: E402
from swe_aem.train.trl_config import CISPO_CAP, TrlConfig, recipe  # noqa: E402
from tests.train import processes  # noqa: E402
from tests.train.test_processes import run_both  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.slow, pytest.mark.contract(trl=True, transformers=True)]

LIKE_TRL = AEMConfig(baseline="group_mean", lam=0.0)
LOW, GEOMETRIC_LOW = 0.002, 0.00005
"""Small: the scripted tokens are unlikely under the tiny policy."""
EVEN: Any = {"responses": (2, 2), "tokens": (6, 6)}
"""Completions of one length; with `even_prompts` there is nothing to trim."""


def _reward(completions: list[Any], reward: list[float | None], **fields: Any) -> list[float | None]:
    return reward


@pytest.fixture
def train(make_config: Any, dataset: Any) -> Callable[..., Any]:
    """Trains with the scripted feed and returns the trainer; plain TRL if no settings are given."""

    def run(settings: AdvantageConfig | None, rollouts: Any = None, prompts: Any = dataset, **config: Any) -> Any:
        common = {
            "model": tiny_model(),
            "args": make_config(**config),
            "train_dataset": prompts,
            "processing_class": tiny_tokenizer(),
            "rollout_func": rollouts or ScriptedFeed(4),
        }
        if settings is None:
            trainer: Any = GRPOTrainer(reward_funcs=_reward, **common)
        else:
            trainer = AgentGRPOTrainer(advantage=settings, **common)
        trainer.train()
        return trainer

    return run


def even_prompts() -> Any:
    """Different prompts of one length."""
    return Dataset.from_dict({"prompt": [f"<{n}> <5> <6>" for n in range(10, 18)]})


def of_rows(rows: Any) -> AdvantageInputs:
    """A group of four after the other, for what looks at rewards alone."""
    reward = [row["reward"] if row["counts"] else float("nan") for row in rows]
    return advantage_inputs([None if math.isnan(one) else one for one in reward], group_size=4)


def _apart(one: Any, other: Any) -> float:
    return max(float((a - b).detach().abs().max()) for a, b in zip(one, other, strict=True))


def _difference(one: Any, other: Any) -> float:
    return _apart(one.model.parameters(), other.model.parameters())


@pytest.mark.parametrize("config", [{}, {"gradient_accumulation_steps": 2}, {"num_iterations": 2}])
def test_without_modulation_it_is_trl_bit_for_bit(train: Any, config: dict[str, Any]) -> None:
    def trained(settings: AdvantageConfig | None) -> Any:
        return train(settings, ScriptedFeed(4, **EVEN), even_prompts(), max_steps=10, **config)

    plain = trained(None)
    assert _difference(plain, trained(LIKE_TRL)) == 0.0
    assert _difference(plain, trained(LIKE_TRL.model_copy(update={"lam": 1.0}))) > 1e-4


def test_trimming_changes_rounding_only(train: Any) -> None:
    assert _difference(train(None), train(LIKE_TRL)) < 1e-4


def test_normalised_baseline_is_trls(train: Any) -> None:
    plain = train(None, ScriptedFeed(4, **EVEN), even_prompts(), scale_rewards="group")
    ours = train(BaselineConfig(estimator="group_normalised"), ScriptedFeed(4, **EVEN), even_prompts())
    assert _difference(plain, ours) < 1e-6


class _Recorded(AgentGRPOTrainer):
    """Keeps what a generation became."""

    def _generate_and_score_completions(self, inputs: Any) -> Any:
        output = super()._generate_and_score_completions(inputs)
        self.seen = (inputs, output)
        return output


@pytest.fixture
def recorded(make_config: Any, dataset: Any) -> Callable[..., Any]:
    """One generation of a trainer: rows, what became of them, and the old policy's entropies by a plain forward."""

    def run(settings: AdvantageConfig, rollouts: Any = None, **config: Any) -> tuple[Any, Any, Any, Any]:
        model = tiny_model()
        trainer = _Recorded(
            model=model,
            args=make_config(max_steps=1, learning_rate=0.0, **config),
            train_dataset=dataset,
            processing_class=tiny_tokenizer(),
            rollout_func=rollouts or ScriptedFeed(4),
            advantage=settings,
        )
        trainer.train()
        rows, output = trainer.seen
        ids = torch.cat([output["prompt_ids"], output["completion_ids"]], 1)
        mask = torch.cat([output["prompt_mask"], output["completion_mask"]], 1)
        model.eval()
        with torch.no_grad():
            logits = model(input_ids=ids, attention_mask=mask).logits[:, -output["completion_ids"].size(1) - 1 : -1]
        chances = logits.float().log_softmax(-1)
        return trainer, rows, output, -(chances.exp() * chances).sum(-1)

    return run


@pytest.mark.parametrize("aligned", [False, True])
def test_advantages_are_the_formulas_with_the_old_policys_entropies(recorded: Any, aligned: bool) -> None:
    schedule = {"gradient_accumulation_steps": 2, "steps_per_generation": 2} if aligned else {}
    trainer, rows, output, entropy = recorded(AEMConfig(), ScriptedFeed(4, lost=[2]), **schedule)
    span = torch.full(output["completion_ids"].shape, -1)
    for index, row in enumerate(rows):
        span[index, : len(row["response_of_token"])] = torch.tensor(row["response_of_token"])
    own = responses(entropy, span)
    alpha = coefficients(own.mean_entropy, own.row // 4)
    assert float(alpha.std()) > 0.1
    counts = torch.tensor([row["counts"] for row in rows])
    base = leave_one_out(of_rows(rows))
    expected = base.unsqueeze(1) * torch.where(own.of_token >= 0, alpha[own.of_token.clamp(min=0)], 1.0)
    assert torch.allclose(output["advantages"], expected.float(), atol=1e-4)
    assert output["advantages"][~counts].eq(0).all()
    assert trainer._metrics["train"]["aem/responses"] or trainer.state.log_history
    assert any("aem/alpha_std" in entry for entry in trainer.state.log_history)


@pytest.mark.parametrize(
    "config", [EMPGConfig(), STAREConfig(target_entropy=None), BaselineConfig(estimator="max_rl")], ids=label_of
)
def test_an_estimator_gets_the_old_policys_entropies_and_logs_under_its_name(recorded: Any, config: Any) -> None:
    trainer, rows, output, entropy = recorded(config, ScriptedFeed(4, lost=[2], weight=0.5))
    numbers = torch.full(output["completion_ids"].shape, -1)
    for index, row in enumerate(rows):
        numbers[index, : len(row["response_of_token"])] = torch.tensor(row["response_of_token"])
    inputs = AdvantageInputs(
        reward=torch.tensor([row["reward"] if row["counts"] else float("nan") for row in rows]),
        group=torch.arange(len(rows)) // 4,
        response_of_token=numbers,
        weight=torch.full((len(rows),), 0.5),
        scores=lambda: (entropy, output["old_per_token_logps"]),
    )
    expected = estimate(estimator_of(config), inputs, "it")
    assert torch.allclose(output["advantages"], expected.values, atol=1e-4)
    logged = {name.removeprefix(f"{label_of(config)}/") for name in trainer.state.log_history[0]}
    assert expected.metrics.keys() <= logged
    assert not any(name.startswith("aem/") for name in trainer.state.log_history[0])


def test_rewards_of_responses_reach_the_estimator(recorded: Any) -> None:
    """In every other trajectory the first of two responses is paid 1: what is sampled after it gets 2/3 less than the
    trajectory, and in those that are not paid 2/3 more."""

    def paid(prompts: Any, trainer: Any) -> Any:
        rows = ScriptedFeed(4, responses=(2, 2))(prompts, trainer)
        early = [float(number % 2) for number in range(len(prompts))]
        rows["response_rewards"] = [[one, reward - one] for one, reward in zip(early, rows["reward"], strict=True)]
        return rows

    _, rows, output, _ = recorded(BaselineConfig(estimator="leave_one_out"), paid)
    base = leave_one_out(of_rows(rows))
    for row, fields in enumerate(rows):
        numbers = torch.tensor(fields["response_of_token"])
        for number in (0, 1):
            tokens = output["advantages"][row, : len(numbers)][numbers == number]
            shift = number * (2 / 3 if row % 2 else -2 / 3)
            assert tokens.tolist() == pytest.approx([float(base[row]) - shift] * tokens.numel(), abs=1e-6)


OWN = """
import torch

def first_token(inputs):
    values = torch.zeros(inputs.response_of_token.shape)
    values[:, 0] = 1.0
    return values, {"rows": len(values)}
"""


def test_an_estimator_of_ones_own_trains_and_may_not_differ_within_a_row_of_one_ratio(
    recorded: Any, train: Any, tmp_path: Path
) -> None:
    (tmp_path / "mine.py").write_text(OWN)
    config = OwnAdvantageConfig(estimator=f"{tmp_path}/mine.py:first_token")
    trainer, rows, output, _ = recorded(config)
    assert output["advantages"].sum(1).tolist() == [1.0] * len(rows)
    assert trainer.state.log_history[0]["first_token/rows"] == len(rows)
    with pytest.raises(UserError, match="first_token gave tokens of one trajectory different advantages"):
        train(config, max_steps=1, importance_sampling_level="sequence")


def test_rows_that_do_not_count_are_in_no_figure(recorded: Any) -> None:
    trainer, rows, _, _ = recorded(AEMConfig(), ScriptedFeed(4, lost=[0, 1]))
    rewards = [row["reward"] for row in rows if row["counts"]]
    assert trainer.state.log_history[0]["reward"] == pytest.approx(sum(rewards) / len(rewards))


def test_a_batch_of_infrastructure_failures_changes_nothing(train: Any) -> None:
    trainer = train(AEMConfig(), ScriptedFeed(4, lost=range(4)), max_steps=2)
    for trained, fresh in zip(trainer.model.parameters(), tiny_model().parameters(), strict=True):
        assert torch.equal(trained, fresh)


def test_ablations_change_the_factors(recorded: Any) -> None:
    def advantages(**settings: Any) -> Any:
        return recorded(AEMConfig(**settings))[2]["advantages"]

    paper = advantages()
    for settings in ({"direction": "reversed"}, {"shuffle": True}, {"scope": "trajectory"}, {"scope": "batch"}):
        assert not torch.allclose(paper, advantages(**settings))
        assert torch.equal(paper.sign(), advantages(**settings).sign())
    assert torch.equal(advantages(shuffle=True), advantages(shuffle=True))


def test_weights_scale_advantages(recorded: Any) -> None:
    full = recorded(AEMConfig())[2]["advantages"]
    assert torch.allclose(recorded(AEMConfig(), ScriptedFeed(4, weight=0.5))[2]["advantages"], full / 2)


def test_a_feed_that_lacks_a_field_is_named(train: Any) -> None:
    def bare(prompts: Any, trainer: Any) -> Any:
        rows = ScriptedFeed(4)(prompts, trainer)
        del rows["weight"]
        return rows

    with pytest.raises(ValueError, match="no weight"):
        train(AEMConfig(), bare)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"importance_sampling_level": "sequence"}, "importance_sampling_level token"),
        ({"scale_rewards": "group"}, "set it to none"),
        ({"beta": 0.04}, "no KL term"),
        ({"mask_truncated_completions": True}, "last token only"),
        ({"multi_objective_aggregation": "normalize_then_sum"}, "one reward"),
        ({"reward_weights": [0.5]}, "one reward"),
        ({"loss_type": "cispo"}, "caps the ratio itself"),
    ],
)
def test_refused(train: Any, config: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        train(AEMConfig(), max_steps=0, **config)


def test_sequence_ratios_without_modulation_are_allowed(train: Any) -> None:
    train(LIKE_TRL, max_steps=1, importance_sampling_level="sequence")
    cispo = {"loss_type": "cispo", "epsilon_high": CISPO_CAP}
    train(AEMConfig(), max_steps=1, importance_sampling_level="sequence", **cispo)


def test_the_presets_cap_of_cispo_caps_no_ratio_of_an_unchanged_policy(train: Any) -> None:
    """Where the cap of the clipped losses, 0.28, would cap all of them."""
    preset = recipe(TrlConfig(loss_type="cispo"))
    trainer = train(AEMConfig(), max_steps=1, loss_type="cispo", epsilon_high=preset["epsilon_high"])
    assert trainer.state.log_history[0]["cispo_clip_ratio"] == 0


def test_trimmed() -> None:
    prompt_mask = torch.tensor([[0, 0, 1], [0, 1, 1]])
    completion_mask = torch.tensor([[1, 1, 0, 0], [1, 0, 0, 0]])
    batch = {
        "prompt_ids": prompt_mask * 7,
        "prompt_mask": prompt_mask,
        "completion_ids": completion_mask * 7,
        "completion_mask": completion_mask,
        "advantages": torch.ones(2),
        "old_per_token_logps": torch.ones(2, 4),
        "importance_sampling_ratio": torch.ones(2, 1),
        "num_items_in_batch": torch.tensor(3),
    }
    left = trimmed(batch)
    assert left["prompt_ids"].tolist() == [[0, 7], [7, 7]]
    assert left["completion_ids"].tolist() == [[7, 7], [7, 0]]
    assert left["old_per_token_logps"].shape == (2, 2)
    assert left["importance_sampling_ratio"].shape == (2, 1)
    assert left["advantages"].shape == (2,)
    assert left["num_items_in_batch"] == 3


@pytest.mark.parametrize(
    ("settings", "aligned"),
    [(AEMConfig(), False), (AEMConfig(), True), (BaselineConfig(estimator="leave_one_out"), False)],
)
def test_no_pass_computes_padding(
    recorded: Any, monkeypatch: pytest.MonkeyPatch, settings: AdvantageConfig, aligned: bool
) -> None:
    """With one row a micro batch every pass is as wide as its row: the old policy's, and those of the update."""
    widths: list[int] = []
    forward = Qwen3Model.forward

    def seen(self: Any, input_ids: Any, *args: Any, **kwargs: Any) -> Any:
        widths.append(input_ids.size(1))
        return forward(self, input_ids, *args, **kwargs)

    monkeypatch.setattr(Qwen3Model, "forward", seen)
    accumulated = 8 if aligned else 4
    schedule = {"gradient_accumulation_steps": accumulated, "per_device_train_batch_size": 1, "steps_per_generation": 8}
    _, _, output, _ = recorded(settings, **schedule)
    lengths = (output["prompt_mask"].sum(1) + output["completion_mask"].sum(1)).tolist()
    assert len(set(lengths)) > 2
    assert widths[:8] == lengths
    assert set(widths[8 : 8 + accumulated]) <= set(lengths)


def test_group_relative_is_what_trl_logs(recorded: Any) -> None:
    trainer, rows, _, _ = recorded(BaselineConfig(estimator="group_mean"))
    expected = group_mean(of_rows(rows))
    assert list(trainer._logs["advantages"]) == pytest.approx(expected.tolist(), abs=1e-6)


def test_two_processes_are_one(tmp_path: Path) -> None:
    processes.train(str(tmp_path / "1"), rows=4)
    both = run_both("processes", 60, str(tmp_path / "2"), "2")
    assert [status for status, _ in both] == [0, 0], both
    one, two = (torch.load(tmp_path / str(count)) for count in (1, 2))
    figures = one["figures"]
    aliases = {field.alias for field in StepMetrics.model_fields.values() if field.alias}
    assert {alias for alias in aliases if alias.startswith(("aem/", "importance/"))} <= figures.keys()
    assert figures.keys() == two["figures"].keys()
    for name, values in figures.items():
        assert values == pytest.approx(two["figures"][name], rel=1e-4), name
    assert 0 < figures["importance/low_share"][0] < 1
    assert figures["aem/alpha_std"][0] > 0.05
    assert figures["aem/entropy_range"][0] > 0.1
    fresh = [parameter.detach() for parameter in tiny_model().parameters()]
    assert _apart(one["parameters"], two["parameters"]) < 1e-5
    assert _apart(one["parameters"], fresh) > 1e-4


@pytest.mark.parametrize("mode", ["truncate", "mask", "sequence_geometric_mask"])
def test_importance_weights_are_of_the_old_policy_over_the_sampler(make_config: Any, dataset: Any, mode: str) -> None:
    """The scripted feed says that every token was sampled with log-probability -1."""
    seen: dict[str, dict[str, Any]] = {}
    bounds = {"low": GEOMETRIC_LOW if mode == "sequence_geometric_mask" else LOW, "high": 1.0}

    class Watched(AgentGRPOTrainer):
        def _generate_and_score_completions(self, inputs: Any) -> dict[str, Any]:
            output = super()._generate_and_score_completions(inputs)
            seen.setdefault(self.importance_sampling.mode, output)
            return output

    for config in (ImportanceSamplingConfig(), ImportanceSamplingConfig.model_validate({"mode": mode, **bounds})):
        trainer = Watched(
            model=tiny_model(),
            args=make_config(max_steps=1),
            train_dataset=dataset,
            processing_class=tiny_tokenizer(),
            rollout_func=ScriptedFeed(4),
            advantage=AEMConfig(),
            importance_sampling=config,
        )
        trainer.train()
    free, weighted = seen["none"], seen[mode]
    sampled = free["completion_mask"].bool() & free["tool_mask"].bool()
    log_ratio = (free["old_per_token_logps"] + 1.0) * sampled
    ratio = log_ratio.exp()
    mean = torch.exp(log_ratio.sum(1, keepdim=True) / sampled.sum(1, keepdim=True))
    inside = (mean if mode == "sequence_geometric_mask" else ratio).expand_as(ratio)
    inside = (inside >= bounds["low"]) & (inside <= bounds["high"])
    assert bool(inside[sampled].any())
    assert not bool(inside[sampled].all())
    weight = {
        "truncate": ratio.clamp(bounds["low"], bounds["high"]),
        "mask": ratio * inside,
        "sequence_geometric_mask": inside.float(),
    }[mode]
    assert torch.allclose(weighted["advantages"][sampled], (free["advantages"] * weight)[sampled], atol=1e-7)
    logged = trainer.state.log_history[0].keys()
    aliases = {field.alias for field in StepMetrics.model_fields.values() if field.alias}
    by_trainer = {alias for alias in aliases if not alias.startswith(("compile/", "branches/"))}  # with a setting only
    by_trainer |= {"loss", "grad_norm", "learning_rate", "reward", "positive_share"}
    assert by_trainer <= logged, "a record has a name that the trainer does not log"


def test_processes_whose_advantages_differ_are_refused() -> None:
    values = torch.tensor([[0.5, -0.5], [0.25, 0.0]])
    _require_same([_sums(values), _sums(values + 1e-7)], "mine")
    for other in (values.flip(0), 2 * values):
        with pytest.raises(UserError, match="mine gave process 1 other advantages than the first one"):
            _require_same([_sums(values), _sums(other)], "mine")
