"""Samples bug hunts from a causal language model, all rows together and one token of each row per forward pass.

Rows of a batch begin with prompts of one length, and each then grows by a token per pass, its own or the tool's, so
that nothing is padded. Entropies are exact: of the whole vocabulary, at temperature 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from study.hunts import END, MAX_RESPONSE_TOKENS, PAD, Hunt
from swe_aem.core import Response, Trajectory


@dataclass
class Row:
    """A hunt and its tokens."""

    hunt: Hunt
    token_ids: list[int]
    spans: list[tuple[int, int]] = field(default_factory=list)
    """Start and end of each response."""
    logprobs: list[list[float]] = field(default_factory=list)
    entropies: list[list[float]] = field(default_factory=list)
    """By response, of each of its tokens, in nats."""
    _told: list[int] = field(default_factory=list)
    """Tokens of the tool that are still to be read."""
    _response: int | None = None
    """Where the response begins that is being sampled."""

    @property
    def ended(self) -> bool:
        """Is nothing left to sample?"""
        return self.hunt.outcome is not None

    def take(self, token: int, logprob: float, entropy: float) -> int:
        """The token that comes next: of the tool if it has something to say, otherwise the one that was sampled."""
        if self.ended:
            return PAD
        if self._told:
            self.token_ids.append(self._told.pop(0))
            return self.token_ids[-1]
        if self._response is None:
            self._response = len(self.token_ids)
            self.logprobs.append([])
            self.entropies.append([])
        self.token_ids.append(token)
        self.logprobs[-1].append(logprob)
        self.entropies[-1].append(entropy)
        if token == END or len(self.logprobs[-1]) == MAX_RESPONSE_TOKENS:
            self.spans.append((self._response, len(self.token_ids)))
            self._told = self.hunt.answer(self.token_ids[self._response :])
            self._response = None
        return token

    def trajectory(self, sample: int, version: int) -> Trajectory:
        """What a trainer is given."""
        responses = [
            Response(
                start=start,
                end=end,
                logprobs=tuple(logprobs),
                version=version,
                finish_reason="stop" if self.token_ids[end - 1] == END else "length",
                sample_s=0.0,
            )
            for (start, end), logprobs in zip(self.spans, self.logprobs, strict=True)
        ]
        return Trajectory(
            task_id=self.hunt.task.id,
            sample=sample,
            agent="hunt",
            model="tiny",
            token_ids=tuple(self.token_ids),
            responses=tuple(responses),
            outcome=self.hunt.outcome,
            reward=float(self.hunt.resolved),
        )


@torch.inference_mode()
def hunt_all(model: Any, hunts: Sequence[Hunt], seed: int, *, greedy: bool = False) -> list[Row]:
    """Play all hunts to their end. The random numbers are of the `seed`, and a row's do not depend on the others'."""
    rows = [Row(hunt, hunt.prompt) for hunt in hunts]
    generator = torch.Generator().manual_seed(seed)
    stream = _Stream(model, torch.tensor([row.token_ids for row in rows]))
    alive = list(rows)
    while True:
        drawn = torch.rand(len(rows), generator=generator)
        if len(alive) < len(rows):
            drawn = drawn[[number for number, row in enumerate(rows) if not row.ended]]
        logprob = stream.logits.log_softmax(-1)
        tokens = logprob.argmax(-1) if greedy else _drawn(logprob, drawn)
        entropy = torch.special.entr(logprob.exp()).sum(-1)
        found = (tokens.tolist(), logprob.gather(1, tokens.unsqueeze(1)).squeeze(1).tolist(), entropy.tolist())
        taken = [row.take(*one) for row, one in zip(alive, zip(*found, strict=True), strict=True)]
        left = [number for number, row in enumerate(alive) if not row.ended]
        if not left:
            return rows
        if len(left) < len(alive):
            stream.keep(left)
        alive = [alive[number] for number in left]
        stream.read(torch.tensor([[taken[number]] for number in left]))


@torch.inference_mode()
def surprisals(model: Any, prompts: Sequence[Sequence[int]], copies: int, seed: int) -> Tensor:
    """(prompts, copies) float64: minus the log-probability of fresh responses, `copies` for each prompt."""
    generator = torch.Generator().manual_seed(seed)
    width = max(map(len, prompts))
    padded = [[PAD] * (width - len(one)) + list(one) for one in prompts]
    mask = torch.tensor([[0] * (width - len(one)) + [1] * len(one) for one in prompts])
    stream = _Stream(model, torch.tensor(padded), mask, copies)
    total = torch.zeros(len(prompts) * copies, dtype=torch.float64)
    open_ = torch.ones(total.numel(), dtype=torch.bool)
    for _ in range(MAX_RESPONSE_TOKENS):
        logprob = stream.logits.log_softmax(-1)
        tokens = _drawn(logprob, torch.rand(total.numel(), generator=generator))
        total -= torch.where(open_, logprob.gather(1, tokens.unsqueeze(1)).squeeze(1), 0.0)
        open_ &= tokens != END
        if not bool(open_.any()):
            break
        stream.read(tokens.unsqueeze(1))
    return total.view(len(prompts), copies)


@torch.inference_mode()
def mean_entropies(model: Any, rows: Sequence[Row]) -> Tensor:
    """(N,) float64: mean token entropy of each response of the rows under the model, in nats."""
    width = max(len(row.token_ids) for row in rows)
    ids = torch.tensor([row.token_ids + [PAD] * (width - len(row.token_ids)) for row in rows])
    entropy = torch.special.entr(model(input_ids=ids, use_cache=False).logits.softmax(-1)).sum(-1).double()
    return torch.stack([entropy[n, a - 1 : b - 1].mean() for n, row in enumerate(rows) for a, b in row.spans])


def _drawn(logprob: Tensor, numbers: Tensor) -> Tensor:
    """(B,) tokens by inverse distribution function from (B, V) log-probabilities and (B,) numbers in [0, 1)."""
    cumulative = logprob.double().exp().cumsum(-1)
    return torch.searchsorted(cumulative, numbers.double().unsqueeze(1) * cumulative[:, -1:], right=True).squeeze(1)


class _Stream:
    """A batch of token streams with the keys and values of what was read."""

    def __init__(self, model: Any, ids: Tensor, mask: Tensor | None = None, copies: int = 1) -> None:
        """`ids` and `mask` are (rows, tokens), padded on the left; each row is read once and kept `copies` times."""
        self._model = model
        self._cache = DynamicCache()
        self._mask = mask
        self.logits = self._forward(ids)
        """(rows, vocabulary), after the last token that was read."""
        if copies > 1:
            self._cache.batch_repeat_interleave(copies)
            self._mask = None if self._mask is None else self._mask.repeat_interleave(copies, 0)
            self.logits = self.logits.repeat_interleave(copies, 0)

    def read(self, ids: Tensor) -> None:
        """Read one more token of each row, (rows, 1)."""
        if self._mask is not None:
            self._mask = torch.cat([self._mask, torch.ones_like(ids)], 1)
        self.logits = self._forward(ids)

    def keep(self, rows: list[int]) -> None:
        """Continue without the other rows."""
        self._cache.batch_select_indices(torch.tensor(rows))

    def _forward(self, ids: Tensor) -> Tensor:
        where = {}
        if self._mask is not None:
            positions = (self._mask.cumsum(1) - 1).clamp(min=0)[:, -ids.size(1) :]
            where = {"attention_mask": self._mask, "position_ids": positions}
        found = self._model(input_ids=ids, past_key_values=self._cache, use_cache=True, logits_to_keep=1, **where)
        return found.logits[:, -1].float()
