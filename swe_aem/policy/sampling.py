"""Sampling from a causal language model in a left-padded batch with a KV cache (torch, Hugging Face models).

    logits of the last position ──/ temperature──> log p ──top-p, inverse CDF with the row's own generator──> token

Every row draws one number per token from a generator of its own, so what a row samples depends on its seed and not on
its neighbours. The log-probabilities are those of the whole temperature-scaled distribution, also where top-p cuts it;
at temperature 0 the best token is taken and the distribution is the unscaled one.

Rows join and leave a batch between two tokens. A cached prefix of a prompt is not computed again. A model that keeps
more than keys and values (`row_cache.keeps_rows`) reads its rows one by one, each with a cache of the model's own.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import DynamicCache

from swe_aem.core import SamplingParams
from swe_aem.policy.prefix_cache import PrefixCache
from swe_aem.policy.row_cache import RowCache, keeps_rows


@dataclass(eq=False)
class BatchRow:
    """One request of a batch, and what has been sampled for it."""

    prompt_ids: list[int]
    params: SamplingParams
    cancelled: Callable[[], bool] = lambda: False
    """Called before every step; a cancelled row leaves the batch."""
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    stopped: bool = False
    """True if it ended with a stop token."""

    def __post_init__(self) -> None:
        self.generator = torch.Generator()
        if self.params.seed is None:
            self.generator.seed()
        else:
            self.generator.manual_seed(self.params.seed)

    @property
    def done(self) -> bool:
        """Is the response complete, or cancelled?"""
        return self.stopped or len(self.token_ids) >= self.params.max_tokens or self.cancelled()

    def take(self, token: int, logprob: float) -> None:
        """Append a sampled token."""
        self.token_ids.append(token)
        self.logprobs.append(logprob)
        self.stopped = token in self.params.stop_token_ids


def choose(rows: list[BatchRow], logits: torch.Tensor) -> tuple[list[int], list[float]]:
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
    """A token of the nucleus: the smallest set of likeliest tokens whose probabilities add up to at least `top_p`."""
    ordered, tokens = logprobs.sort(descending=True, stable=True)
    cumulative = ordered.exp().cumsum(-1)
    kept = cumulative[: int((cumulative < top_p).sum()) + 1]
    return tokens[torch.searchsorted(kept, draw.to(kept.device) * kept[-1], right=True)]


class SamplingBatch:
    """Rows that are sampled together, a token for each row per step."""

    def __init__(self, model: Any, prefixes: PrefixCache | None = None) -> None:
        """`prefixes` outlives the batch; None computes every prompt from its first token."""
        self.rows: list[BatchRow] = []
        """Rows that are not done."""
        self._model = model
        self._prefixes = prefixes or PrefixCache(max_bytes=0)
        self._cache = RowCache(model)

    @torch.inference_mode()
    def join(self, rows: list[BatchRow]) -> None:
        """Read the prompts of `rows`, those of similar length together, and sample a first token for each row."""
        rows = [row for row in rows if not row.done]
        prompts = dict.fromkeys(tuple(row.prompt_ids) for row in rows)
        alike: dict[int, dict[tuple[int, ...], torch.Tensor | None]] = {}
        for prompt in prompts:
            known = self._prefixes.longest(prompt)
            unread = len(prompt) - (0 if known is None else known.shape[3])
            alike.setdefault(unread.bit_length(), {})[prompt] = known
        for some in alike.values():
            self._read(some, [row for row in rows if tuple(row.prompt_ids) in some])
        self._remove_done()

    @torch.inference_mode()
    def step(self) -> None:
        """Sample one token for each row."""
        inputs = torch.tensor([[row.token_ids[-1]] for row in self.rows], device=self._model.device)
        logits = self._forward(inputs, self._cache.mask(), self._cache.positions(), self._cache)
        self._cache.advance()
        _take(self.rows, logits)
        self._remove_done()

    def _read(self, prompts: dict[tuple[int, ...], torch.Tensor | None], rows: list[BatchRow]) -> None:
        """Read `prompts`, each with its cached states, and sample a first token for the `rows` that have them."""
        inputs, mask, cache = _padded(prompts, self._model.device)
        positions = (mask.cumsum(-1) - 1).clamp(min=0)[:, -inputs.shape[1] :]
        logits = self._forward(inputs, mask, positions, cache)
        states = {prompt: _states(cache, mask, n) for n, prompt in enumerate(prompts)}
        numbers = {prompt: n for n, prompt in enumerate(prompts)}
        for prompt, one in states.items():
            self._prefixes.add(prompt, one)
        for row in rows:
            self._cache.add(states[tuple(row.prompt_ids)])
        _take(rows, logits[[numbers[tuple(row.prompt_ids)] for row in rows]])
        self.rows += rows

    def _forward(self, inputs: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor, cache: Any) -> torch.Tensor:
        """Logits (rows, vocabulary) after the last of `inputs` (rows, tokens); the new states are added to `cache`."""
        output = self._model(
            input_ids=inputs,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        return output.logits[:, -1]

    def _remove_done(self) -> None:
        """Remove the rows that are done, and keep their states in the prefix cache."""
        for n in reversed([n for n, row in enumerate(self.rows) if row.done]):
            row = self.rows[n]
            self._prefixes.add([*row.prompt_ids, *row.token_ids[:-1]], self._cache.take(n))
            self.rows[n] = self.rows[-1]
            del self.rows[-1]


class OneByOneBatch:
    """Rows whose states only the model itself can keep, a token for each row per step, one row after the other."""

    def __init__(self, model: Any) -> None:
        self.rows: list[BatchRow] = []
        """Rows that are not done."""
        self._model = model
        self._caches: dict[BatchRow, Any] = {}

    def join(self, rows: list[BatchRow]) -> None:
        """Read the prompts of `rows`, and sample a first token for each row."""
        rows = [row for row in rows if not row.done]
        for row in rows:
            self._read(row, row.prompt_ids)
        self.rows += rows
        self._remove_done()

    def step(self) -> None:
        """Sample one token for each row."""
        for row in self.rows:
            self._read(row, row.token_ids[-1:])
        self._remove_done()

    @torch.inference_mode()
    def _read(self, row: BatchRow, token_ids: list[int]) -> None:
        output = self._model(
            input_ids=torch.tensor([token_ids], device=self._model.device),
            past_key_values=self._caches.get(row),
            use_cache=True,
            logits_to_keep=1,
        )
        self._caches[row] = output.past_key_values
        _take([row], output.logits[:, -1])

    def _remove_done(self) -> None:
        self.rows = [row for row in self.rows if not row.done]
        self._caches = {row: self._caches[row] for row in self.rows}


def sample_batch(model: Any, rows: list[BatchRow]) -> None:
    """Sample all `rows` to their end, in place."""
    batch = SamplingBatch(model) if keeps_rows(model) else OneByOneBatch(model)
    batch.join(rows)
    while batch.rows:
        batch.step()


def _take(rows: list[BatchRow], logits: torch.Tensor) -> None:
    for row, token, logprob in zip(rows, *choose(rows, logits), strict=True):
        row.take(token, logprob)


def _padded(
    prompts: dict[tuple[int, ...], torch.Tensor | None], device: torch.device
) -> tuple[torch.Tensor, torch.Tensor, DynamicCache]:
    """Ids without cached states (prompts, longest such part), a mask of all columns of cache and ids, and the cache.

    Cached states and ids are both padded on the left, with zeros and with id 0; padding is masked.
    """
    lengths = [0 if known is None else known.shape[3] for known in prompts.values()]
    past, width = max(lengths), max(len(prompt) - length for prompt, length in zip(prompts, lengths, strict=True))
    inputs = torch.zeros(len(prompts), width, dtype=torch.long)
    mask = torch.zeros(len(prompts), past + width, dtype=torch.long)
    for n, (prompt, length) in enumerate(zip(prompts, lengths, strict=True)):
        unread = len(prompt) - length
        inputs[n, width - unread :] = torch.tensor(prompt[length:])
        mask[n, past - length : past] = 1
        mask[n, past + width - unread :] = 1
    cache = DynamicCache()
    like = next((known for known in prompts.values() if known is not None), None)
    if like is not None:
        layers, _, heads, _, size = like.shape
        states = like.new_zeros(layers, 2, len(prompts), heads, past, size)
        for n, known in enumerate(prompts.values()):
            if known is not None:
                states[:, :, n, :, past - lengths[n] :] = known
        for number, (keys, values) in enumerate(states):
            cache.update(keys, values, number)
    return inputs.to(device), mask.to(device), cache


def _states(cache: DynamicCache, mask: torch.Tensor, row: int) -> torch.Tensor:
    """Keys and values of the tokens of one row, as `prefix_cache.CachedSequence` holds them."""
    columns = mask[row].nonzero().squeeze(1)
    layers: list[Any] = cache.layers
    return torch.stack([torch.stack([layer.keys[row, :, columns], layer.values[row, :, columns]]) for layer in layers])
