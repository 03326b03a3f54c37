"""A step of eight rows of the tiny policy in float64, packed or one after the other. Needs trl."""

from typing import Any

from swe_aem.advantage.config import AEMConfig, ImportanceSamplingConfig
from swe_aem.testing.steps import ScriptedFeed, tiny_model, tiny_tokenizer
from swe_aem.train.config import LoraConfig
from swe_aem.train.grpo import AgentGRPOTrainer
from swe_aem.train.models import adapted
from swe_aem.train.trl_config import TrlConfig, recipe
from tests.train.adapters import disturbed

MICRO_STEPS = [0, 0, 0, 1, 2, 2, 3, 3]
"""Of the eight rows of a step; the first four are a minibatch, where there are two."""

TRUNCATE = ImportanceSamplingConfig(mode="truncate", high=2)
"""Not for vespo: it multiplies a row's ratios, and the scripted tokens are unlikely under the tiny policy."""


class Recorded(AgentGRPOTrainer):
    """Keeps what the rows of the step became."""

    seen: Any

    def _generate_and_score_completions(self, inputs: Any) -> Any:
        self.seen = super()._generate_and_score_completions(inputs)
        return self.seen


def policy(*, adapter: bool = False) -> Any:
    """The policy before the step. An adapter alone is trained, and is not the one that adds nothing."""
    model = tiny_model(sharpness=4.0).double()
    if not adapter:
        return model
    return disturbed(adapted(model, LoraConfig(r=4)), std=0.1)


def trained_weights(model: Any) -> list[Any]:
    """What the step changes."""
    return [one.detach() for one in model.parameters() if one.requires_grad]


def one_step(
    make_config: Any, dataset: Any, *, packed: bool, minibatches: int, adapter: bool = False, advantage: Any = None,
    passes: Any = None, **grpo: Any,
) -> Any:  # fmt: skip
    """The trainer after the step, with plain gradient descent, so that weights show gradients as they are."""
    rows = 8 // minibatches
    sizes = (rows, 1, minibatches) if packed else (1, rows, 8)
    names = ("per_device_train_batch_size", "gradient_accumulation_steps", "steps_per_generation")
    loss = grpo.get("loss_type")
    high = recipe(TrlConfig(loss_type=loss))["epsilon_high"]
    feed = ScriptedFeed(4, lost=[1])
    advantage = advantage or AEMConfig()
    uncorrected = loss == "vespo" or advantage.entropy == "sampler"
    trainer = Recorded(
        model=policy(adapter=adapter),
        args=make_config(
            max_steps=minibatches, optim="sgd", learning_rate=1.0, max_grad_norm=0.0,
            **dict(zip(names, sizes, strict=True)), **{"epsilon_high": high} | grpo,
        ),
        train_dataset=dataset,
        processing_class=tiny_tokenizer(),
        rollout_func=lambda prompts, trainer: {**feed(prompts, trainer), "micro_step": MICRO_STEPS},
        advantage=advantage,
        importance_sampling=ImportanceSamplingConfig() if uncorrected else TRUNCATE,
        packed=packed,
        **({} if passes is None else {"passes": passes}),
    )  # fmt: skip
    trainer.train()
    return trainer
