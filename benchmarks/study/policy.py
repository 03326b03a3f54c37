"""The policy before training: a tiny Qwen3 that imitates demonstrations of bug hunts, as sharp as the demonstrator."""

import random
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from study.hunts import MAX_TOKENS, PAD, PROMPT_TOKENS, Demonstration, Demonstrator, demonstration, tasks
from study.settings import WarmStart
from swe_aem.testing.steps import tiny_model, tiny_tokenizer


def warm_start(config: WarmStart, directory: Path) -> None:
    """Write the policy and its tokenizer; what a killed process left is written again."""
    done = directory / "complete"
    if done.exists():
        return
    model = imitated(config)
    model.save_pretrained(directory)
    tiny_tokenizer().save_pretrained(directory)
    done.touch()


def imitated(config: WarmStart) -> Any:
    """The policy, trained in this process."""
    dice = random.Random(f"warm start {config.seed}")
    demonstrator = Demonstrator(config.skill, dice)
    source = tasks(dice, heldout=False)
    ids, sampled = _tensors([demonstration(next(source), demonstrator) for _ in range(config.demonstrations)])
    model = _model(config)
    optimiser = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, config.learning_rate, config.steps, pct_start=0.1)
    generator = torch.Generator().manual_seed(config.seed)
    for _ in range(config.steps):
        rows = torch.randint(len(ids), (config.batch,), generator=generator)
        logits = model(input_ids=ids[rows, :-1], use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(logits[sampled[rows, 1:]], ids[rows, 1:][sampled[rows, 1:]])
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
    return model.eval()


def _model(config: WarmStart) -> Any:
    heads = 4
    return tiny_model(
        seed=config.seed,
        sharpness=1.0,
        hidden_size=config.hidden_size,
        intermediate_size=2 * config.hidden_size,
        num_hidden_layers=config.layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        head_dim=config.hidden_size // heads,
        max_position_embeddings=2 * MAX_TOKENS,
    )


def _tensors(rows: list[Demonstration]) -> tuple[Tensor, Tensor]:
    """(rows, tokens) ids, and which of them are trained; padded on the right."""
    width = max(len(row.token_ids) for row in rows)
    ids = torch.full((len(rows), width), PAD)
    sampled = torch.zeros(len(rows), width, dtype=torch.bool)
    for number, row in enumerate(rows):
        assert not any(row.sampled[:PROMPT_TOKENS])
        ids[number, : len(row.token_ids)] = torch.tensor(row.token_ids)
        sampled[number, : len(row.sampled)] = torch.tensor(row.sampled)
    return ids, sampled
