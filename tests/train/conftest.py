"""A tiny random policy, and a feed that plays the same rollouts to any trainer."""

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

VOCABULARY = 64
EOS, PAD = 1, 0
GROUP = 4


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """No notice that `rollout_func` is experimental."""
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")


@pytest.fixture
def make_model() -> Callable[[], Any]:
    """Makes the same Qwen3 of random weights each time; its outputs are scaled up, so that entropies differ."""
    torch = pytest.importorskip("torch", reason="needs the train extra")
    transformers = pytest.importorskip("transformers", reason="needs the train extra")

    def make() -> Any:
        torch.manual_seed(0)
        config = transformers.Qwen3Config(
            vocab_size=VOCABULARY,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=16,
            max_position_embeddings=256,
            eos_token_id=EOS,
            pad_token_id=PAD,
            bos_token_id=None,
            tie_word_embeddings=False,
        )
        model = transformers.Qwen3ForCausalLM(config)
        with torch.no_grad():
            model.lm_head.weight.mul_(40)
        return model

    return make


@pytest.fixture
def tokenizer() -> Any:
    """Turns `<n>` into the token n."""
    transformers = pytest.importorskip("transformers", reason="needs the train extra")
    tokenizers = pytest.importorskip("tokenizers", reason="needs the train extra")
    vocabulary = {"<pad>": PAD, "<eos>": EOS, **{f"<{n}>": n for n in range(2, VOCABULARY)}}
    inner = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="<2>"))
    inner.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", eos_token="<eos>", padding_side="left"
    )


class ScriptedFeed:
    """Not a policy: rollouts of one to three responses, drawn from a seed and the prompt, whatever the model is."""

    def __init__(self, *, ragged: bool = True, lost: Sequence[int] = ()) -> None:
        self.ragged = ragged
        self.lost = lost
        """Members of each group that do not count."""
        self.calls = 0

    def __call__(self, prompts: list[str], trainer: Any) -> dict[str, list[Any]]:
        """One completion per prompt; a row's content depends on its prompt, its call and its place in the group."""
        seen: dict[str, int] = {}
        rows = []
        first = trainer.accelerator.process_index * len(prompts)
        for index, prompt in enumerate(prompts):
            member = (first + index) % GROUP
            seen[prompt] = member
            rows.append(self._row(prompt, member, random.Random(f"{prompt} {self.calls} {member}")))
        self.calls += 1
        return {name: [row[name] for row in rows] for name in rows[0]}

    def _row(self, prompt: str, member: int, dice: random.Random) -> dict[str, Any]:
        ids: list[int] = []
        numbers: list[int] = []
        for response in range(dice.randint(1, 3) if self.ragged else 2):
            length = dice.randint(2, 9) if self.ragged else 6
            ids += [dice.randrange(2, VOCABULARY) for _ in range(length)]
            numbers += [response] * length
            ids += [dice.randrange(2, VOCABULARY) for _ in range(3)]
            numbers += [-1] * 3
        ids.append(EOS)
        numbers.append(-1)
        counts = member not in self.lost
        return {
            "prompt_ids": [int(word.strip("<>")) for word in prompt.split()],
            "completion_ids": ids,
            "logprobs": [-1.0] * len(ids),
            "env_mask": [int(number >= 0 and counts) for number in numbers],
            "response_of_token": [number if counts else -1 for number in numbers],
            "reward": float(dice.random() < 0.5) if counts else None,
            "counts": counts,
            "weight": 1.0,
        }


@pytest.fixture
def feed() -> Callable[..., ScriptedFeed]:
    """Makes a feed."""
    return ScriptedFeed


@pytest.fixture
def make_config(tmp_path: Path) -> Callable[..., Any]:
    """Makes the recipe's `GRPOConfig` for two groups a step on the CPU, with changes."""
    trl = pytest.importorskip("trl", reason="needs the train extra")

    def make(**changes: Any) -> Any:
        settings = {
            "output_dir": str(tmp_path / "out"),
            "per_device_train_batch_size": GROUP,
            "gradient_accumulation_steps": 1,
            "steps_per_generation": 2,
            "num_generations": GROUP,
            "max_completion_length": 64,
            "max_steps": 4,
            "learning_rate": 1e-2,
            "lr_scheduler_type": "constant",
            "loss_type": "dr_grpo",
            "scale_rewards": "none",
            "beta": 0.0,
            "epsilon": 0.2,
            "epsilon_high": 0.28,
            "mask_truncated_completions": False,
            "bf16": False,
            "gradient_checkpointing": False,
            "use_cpu": True,
            "report_to": "none",
            "logging_steps": 1,
            "save_strategy": "no",
            "disable_tqdm": True,
            "seed": 3,
        }
        return trl.GRPOConfig(**{**settings, **changes})

    return make


@pytest.fixture
def dataset() -> Any:
    """Prompts of different lengths."""
    datasets = pytest.importorskip("datasets")
    return datasets.Dataset.from_list([{"prompt": " ".join(f"<{n}>" for n in range(5, 8 + n))} for n in range(8)])
