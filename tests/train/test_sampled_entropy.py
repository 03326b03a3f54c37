"""`advantage.entropy: sampler`: no pass over the rows, entropies per response, ratios against the sampler."""

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs the train extra")
pytest.importorskip("trl", reason="needs the train extra")

from transformers.models.qwen3.modeling_qwen3 import Qwen3Model  # noqa: E402

from swe_aem.advantage.aem import coefficients  # noqa: E402
from swe_aem.advantage.config import (  # noqa: E402
    AEMConfig,
    BaselineConfig,
    EMPGConfig,
    ImportanceSamplingConfig,
    OwnAdvantageConfig,
    advantage_of,
)
from swe_aem.advantage.responses import responses  # noqa: E402
from swe_aem.core import Response  # noqa: E402
from swe_aem.errors import UserError  # noqa: E402
from swe_aem.testing.steps import ScriptedFeed, ScriptedSteps, save_tiny, tiny_model, tiny_tokenizer  # noqa: E402
from swe_aem.train.grpo import AgentGRPOTrainer  # noqa: E402
from swe_aem.train.loop import train  # noqa: E402
from swe_aem.train.refusals import refuse_silent_changes  # noqa: E402
from swe_aem.train.training_row import entropy_estimator, training_row  # noqa: E402
from tests.train.killable import configuration  # noqa: E402
from tests.train.outcome import metrics  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.slow, pytest.mark.contract(trl=True, transformers=True)]

SAMPLER = AEMConfig(entropy="sampler")


class Recorded(AgentGRPOTrainer):
    """Keeps what a generation became, and the number of passes before it was."""

    passes = 0

    def _generate_and_score_completions(self, inputs: Any) -> Any:
        before = Recorded.passes
        output = super()._generate_and_score_completions(inputs)
        self.seen = (inputs, dict(output), Recorded.passes - before)
        return output


@pytest.fixture
def generated(make_config: Any, dataset: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Rows, what became of them, and how many passes that took."""
    forward = Qwen3Model.forward

    def counted(self: Any, *args: Any, **kwargs: Any) -> Any:
        Recorded.passes += 1
        return forward(self, *args, **kwargs)

    monkeypatch.setattr(Qwen3Model, "forward", counted)

    def run(advantage: Any, **config: Any) -> Any:
        trainer = Recorded(
            model=tiny_model(),
            args=make_config(max_steps=1, **config),
            train_dataset=dataset,
            processing_class=tiny_tokenizer(),
            rollout_func=ScriptedFeed(4),
            advantage=advantage,
        )
        trainer.train()
        return trainer.seen

    return run


@pytest.mark.parametrize("schedule", [{}, {"gradient_accumulation_steps": 2, "steps_per_generation": 2}])
def test_advantages_are_those_of_the_samplers_entropies_and_nothing_is_scored(
    generated: Any, schedule: dict[str, int]
) -> None:
    rows, output, passes = generated(SAMPLER, **schedule)
    assert passes == 0
    assert torch.equal(output["old_per_token_logps"], output["sampling_per_token_logps"])
    numbers = torch.full(output["completion_ids"].shape, -1)
    for index, row in enumerate(rows):
        numbers[index, : len(row["response_of_token"])] = torch.tensor(row["response_of_token"])
    own = responses((1.0 + numbers).float(), numbers)
    alpha = coefficients(own.mean_entropy, own.row // 4)
    assert float(alpha.std()) > 0.1
    for row, values in enumerate(output["advantages"]):
        tokens = numbers[row] >= 0
        factors = alpha[own.of_token[row][tokens]]
        base = values[tokens] / factors
        assert torch.allclose(base, base[:1].expand_as(base), atol=1e-6)


def test_the_exact_way_scores(generated: Any) -> None:
    assert generated(AEMConfig())[2] > 0
    assert generated(BaselineConfig(estimator="leave_one_out", entropy="sampler"))[2] == 0


def response(estimator: Any, entropy: float | None) -> Response:
    return Response(
        start=1, end=3, logprobs=(-0.5, -1.5), version=0, finish_reason="stop", sample_s=0.0, entropy=entropy,
        entropy_estimator=estimator,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("estimators", "used", "values"),
    [
        (["top20", "top20"], "top20", [0.7]),
        (["top20", "surprisal"], "surprisal", [1.0]),
        ([None, None], "surprisal", [1.0]),
    ],
)
def test_a_step_uses_one_estimator(estimators: list[Any], used: Any, values: list[float]) -> None:
    step = ScriptedSteps(configuration(Path("m"), 1), Path("d"), None).step(1)
    trajectories = [
        one.model_copy(update={"token_ids": (2, 3, 4), "responses": (response(name, 0.7),)})
        for one, name in zip(step.groups[0], estimators, strict=False)
    ]
    assert entropy_estimator(trajectories) == used
    assert training_row(trajectories[0], entropy=used)["response_entropies"] == values


def test_a_run_says_which_estimator_it_used(tmp_path: Path) -> None:
    save_tiny(tmp_path / "model")
    for given, said in (("sampler", "surprisal"), ("exact", "exact")):
        settings = f"advantage={{estimator: aem, entropy: {given}}}"
        train(configuration(tmp_path / "model", 1, settings), tmp_path / given, ScriptedSteps)
        (line,) = metrics(tmp_path / given)
        assert line["entropy_estimator"] == said


def test_what_needs_the_old_policy_is_refused(make_config: Any) -> None:
    weighed = ImportanceSamplingConfig(mode="truncate", high=2)
    with pytest.raises(UserError, match="takes the one for the other"):
        refuse_silent_changes(make_config(), SAMPLER, weighed)
    refuse_silent_changes(make_config(), AEMConfig(), weighed)
    with pytest.raises(UserError, match="is for training: entropies are exact here"):
        advantage_of({"estimator": "aem", "entropy": "sampler"})


def test_the_setting_is_not_one_of_the_estimators() -> None:
    assert OwnAdvantageConfig.model_validate({"estimator": "a.b:c", "k": 2, "entropy": "sampler"}).of_estimator() == {
        "estimator": "a.b:c",
        "k": 2,
    }
    assert "entropy" not in EMPGConfig(entropy="sampler").of_estimator()
