"""Fakes for tests and benchmarks of trainers: a tiny random policy, and rollouts generated from a seed.

`ScriptedFeed` replaces a `rollout_func`, `ScriptedSteps` replaces live rollouts. Neither samples the policy, so their
data do not depend on the model and two trainers see the same data.
"""

import random
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from swe_aem.core import Outcome, Response, Trajectory
from swe_aem.rollout import RolloutConfig
from swe_aem.train.config import TrainConfig
from swe_aem.train.steps import Step

VOCABULARY = 64
PAD, EOS = 0, 1


TINY_SHAPE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "max_position_embeddings": 256,
}
"""The shape of a tiny model, as transformers names its fields."""


def tiny_model(*, seed: int = 0, sharpness: float = 40.0, **shape: Any) -> Any:
    """A Qwen3 model with random weights that depend on `seed` alone; `sharpness` scales its logits, so that entropies
    differ."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(seed)
    config = Qwen3Config(
        **{**TINY_SHAPE, **shape}, eos_token_id=EOS, pad_token_id=PAD, bos_token_id=None, tie_word_embeddings=False
    )
    model = Qwen3ForCausalLM(config)
    with torch.no_grad():
        model.lm_head.weight.mul_(sharpness)
    return model


def tiny_tokenizer() -> Any:
    """A tokenizer that turns the word `<n>` into the token n."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from transformers import PreTrainedTokenizerFast

    vocabulary = {"<pad>": PAD, "<eos>": EOS, **{f"<{n}>": n for n in range(2, VOCABULARY)}}
    inner = Tokenizer(WordLevel(vocabulary, unk_token="<2>"))
    inner.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<pad>", eos_token="<eos>", padding_side="left")


def tiny_prompts(count: int) -> list[dict[str, str]]:
    """Rows of a dataset: prompts of different lengths."""
    return [{"prompt": " ".join(f"<{token}>" for token in range(5, 8 + n % 8))} for n in range(count)]


class ScriptedFeed:
    """A `rollout_func` whose rows depend on the prompt, the place in the group and the number of the call alone."""

    def __init__(
        self,
        group: int,
        *,
        responses: tuple[int, int] = (1, 3),
        tokens: tuple[int, int] = (2, 9),
        lost: Collection[int] = (),
        weight: float = 1.0,
    ) -> None:
        self.group = group
        self.responses, self.tokens = responses, tokens
        """Fewest and most responses of a row, and tokens of a response."""
        self.lost = lost
        """Members of each group that do not count, as after an infrastructure failure."""
        self.weight = weight
        self.calls = 0

    def __call__(self, prompts: list[str], trainer: Any) -> dict[str, list[Any]]:
        """One row per prompt."""
        first = trainer.accelerator.process_index * len(prompts)
        rows = [
            {**self._row(prompt, (first + index) % self.group), "place": first + index, "trajectory": first + index}
            for index, prompt in enumerate(prompts)
        ]
        self.calls += 1
        return {name: [row[name] for row in rows] for name in rows[0]}

    def _row(self, prompt: str, member: int) -> dict[str, Any]:
        dice = random.Random(f"{prompt} {self.calls} {member}")
        ids: list[int] = []
        numbers: list[int] = []
        for response in range(dice.randint(*self.responses)):
            length = dice.randint(*self.tokens)
            ids += [dice.randrange(2, VOCABULARY) for _ in range(length + 3)]
            numbers += [response] * length + [-1] * 3
        counts = member not in self.lost
        return {
            "prompt_ids": [int(word.strip("<>")) for word in prompt.split()],
            "completion_ids": [*ids, EOS],
            "logprobs": [-1.0] * (len(ids) + 1),
            "env_mask": [int(number >= 0 and counts) for number in [*numbers, -1]],
            "response_of_token": [number if counts else -1 for number in [*numbers, -1]],
            "reward": float(dice.random() < 0.5) if counts else None,
            "response_rewards": None,
            "response_entropies": [1.0 + response for response in range(1 + max(numbers))],
            "counts": counts,
            "weight": self.weight,
        }


class ScriptedSteps:
    """A `StepSource` whose trajectories depend on the number of the step and the place in it alone."""

    def __init__(self, config: TrainConfig, directory: Path, model: Any) -> None:
        self._config = config

    def __enter__(self) -> "ScriptedSteps":
        return self

    def __exit__(self, *exc: object) -> None:
        """Nothing to release."""

    def wants_weights(self, number: int) -> bool:
        """Nothing is sampled."""
        return False

    def evaluation_wants_weights(self, rollouts: Mapping[str, RolloutConfig], version: int) -> bool:
        """Nothing is sampled."""
        return False

    def step(self, number: int) -> Step:
        """The groups of step `number`."""
        size = self._config.rollout.group_size
        groups = [
            tuple(self._trajectory(number, group, sample) for sample in range(size))
            for group in range(self._config.groups_per_step)
        ]
        return Step(number=number, groups=tuple(groups), rollout_s=1.0)

    def _trajectory(self, number: int, group: int, sample: int) -> Trajectory:
        dice = random.Random(f"{number} {group} {sample}")
        ids = [dice.randrange(2, VOCABULARY) for _ in range(dice.randint(2, 6))]
        responses = []
        for _ in range(dice.randint(1, 3)):
            start, length = len(ids), dice.randint(2, 9)
            ids += [dice.randrange(2, VOCABULARY) for _ in range(length + 2)]
            responses.append(
                Response(
                    start=start,
                    end=start + length,
                    logprobs=(-1.0,) * length,
                    version=number - 1,
                    finish_reason="stop",
                    sample_s=0.0,
                )
            )
        resolved = dice.random() < 0.5
        return Trajectory(
            task_id=f"task-{group}",
            sample=sample,
            agent="scripted",
            model="tiny",
            token_ids=tuple(ids),
            responses=tuple(responses),
            outcome=Outcome.RESOLVED if resolved else Outcome.UNRESOLVED,
            reward=float(resolved),
        )


def save_tiny(directory: Path, *, dtype: Any = None, **shape: Any) -> None:
    """Write the tiny policy and its tokenizer as a model directory, in another `torch.dtype` than float32 if given."""
    tiny_model(**shape).to(dtype=dtype).save_pretrained(directory)
    tiny_tokenizer().save_pretrained(directory)
