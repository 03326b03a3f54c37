"""Sampling from a causal language model in a left-padded batch with a KV cache (torch, Hugging Face models).

    logits of the last position ──/ temperature──> log p ──top-p, inverse CDF with the row's own generator──> token

Every row draws one number per token from a generator of its own, so what a row samples depends on its seed and not on
its neighbours. The log-probabilities are those of the whole temperature-scaled distribution, also where top-p cuts it;
at temperature 0 the best token is taken and the distribution is the unscaled one.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from swe_aem.nouns import SamplingParams


@dataclass(eq=False)
class Row:
    """One request of a batch, and what has been sampled for it."""

    prompt_ids: list[int]
    params: SamplingParams
    cancelled: Callable[[], bool] = lambda: False
    """Asked before every step; a cancelled row leaves the batch."""
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    stopped: bool = False
    """Did it end with a stop token?"""

    def __post_init__(self) -> None:
        self.generator = torch.Generator()
        if self.params.seed is None:
            self.generator.seed()
        else:
            self.generator.manual_seed(self.params.seed)

    @property
    def done(self) -> bool:
        """Is there nothing more to sample?"""
        return self.stopped or len(self.token_ids) >= self.params.max_tokens or self.cancelled()

    def take(self, token: int, logprob: float) -> None:
        """Append a sampled token."""
        self.token_ids.append(token)
        self.logprobs.append(logprob)
        self.stopped = token in self.params.stop_token_ids


def choose(rows: list[Row], logits: torch.Tensor) -> tuple[list[int], list[float]]:
    """The next token of each row and its log-probability, from `logits` of shape (rows, vocabulary)."""
    scale = torch.tensor([row.params.temperature or 1.0 for row in rows], dtype=torch.float64, device=logits.device)
    logprobs = torch.log_softmax(logits.double() / scale.unsqueeze(1), dim=-1)
    draws = [torch.rand((), generator=row.generator, dtype=torch.float64) for row in rows]
    cumulative = logprobs.exp().cumsum(-1)
    thresholds = torch.stack(draws).to(logits.device).unsqueeze(1) * cumulative[:, -1:]
    tokens = torch.searchsorted(cumulative, thresholds, right=True)
    for n, row in enumerate(rows):
        if row.params.temperature == 0:
            tokens[n] = logprobs[n].argmax()
        elif row.params.top_p < 1:
            tokens[n] = _from_nucleus(logprobs[n], draws[n], row.params.top_p)
    return tokens.squeeze(1).tolist(), logprobs.gather(1, tokens).squeeze(1).tolist()


def _from_nucleus(logprobs: torch.Tensor, draw: torch.Tensor, top_p: float) -> torch.Tensor:
    """A token of the smallest set of best ones that has at least `top_p` in all."""
    ordered, tokens = logprobs.sort(descending=True, stable=True)
    cumulative = ordered.exp().cumsum(-1)
    kept = cumulative[: int((cumulative < top_p).sum()) + 1]
    return tokens[torch.searchsorted(kept, draw.to(kept.device) * kept[-1], right=True)]


@torch.inference_mode()
def sample_batch(model: Any, rows: list[Row]) -> None:
    """Sample all `rows` to their end, in place. Rows that are done leave the batch, so it only gets smaller."""
    rows = [row for row in rows if not row.done]
    if not rows:
        return
    inputs, mask = _left_padded(rows, model.device)
    cache = None
    while rows:
        positions = (mask.cumsum(-1) - 1).clamp(min=0)[:, -inputs.shape[1] :]
        output = model(
            input_ids=inputs,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        cache = output.past_key_values
        tokens, logprobs = choose(rows, output.logits[:, -1])
        for row, token, logprob in zip(rows, tokens, logprobs, strict=True):
            row.take(token, logprob)
        kept = [n for n, row in enumerate(rows) if not row.done]
        if not kept:
            return
        if len(kept) < len(rows):
            chosen = torch.tensor(kept, device=model.device)
            cache.batch_select_indices(chosen)
            mask, rows = mask[chosen], [rows[n] for n in kept]
        inputs = torch.tensor([[tokens[n]] for n in kept], device=model.device)
        mask = torch.cat([mask, mask.new_ones(len(rows), 1)], dim=1)


def _left_padded(rows: list[Row], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Prompt ids and attention mask, both (rows, longest prompt); the padding is id 0 and masked."""
    width = max(len(row.prompt_ids) for row in rows)
    inputs = torch.zeros(len(rows), width, dtype=torch.long)
    mask = torch.zeros(len(rows), width, dtype=torch.long)
    for n, row in enumerate(rows):
        inputs[n, width - len(row.prompt_ids) :] = torch.tensor(row.prompt_ids)
        mask[n, width - len(row.prompt_ids) :] = 1
    return inputs.to(device), mask.to(device)
