"""Exact entropies and log-probabilities of stored responses under a model: one forward pass, nothing sampled.

    token_ids ──model, in segments with a KV cache──> logits before each sampled token ──/ temperature──> entropy, log p

Streams of similar length share a right-padded batch. A segment is as long as its logits may be large, so a vocabulary
of 150,000 and a stream of 40,000 tokens fit; columns that no response needs get no logits.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from swe_aem.errors import UserError

_BATCH_TOKENS = 16_384
"""Padded tokens of a batch, which a KV cache is kept for."""
_SEGMENT_LOGITS = 2**26
"""Logits of a segment: 256 MiB in float32, and three times that while they are reduced."""


class Stream(NamedTuple):
    """A trajectory's tokens and the half-open spans that were sampled."""

    token_ids: Tensor
    """(T,) int32."""
    spans: tuple[tuple[int, int], ...]
    """Start and end of each response, ascending; none starts at 0."""


class Scored(NamedTuple):
    """One response of n tokens under a model."""

    entropy: Tensor
    """(n,) float32, nats: of the full distribution that each token is drawn from, after the temperature."""
    logprob: Tensor
    """(n,) float32: of the tokens themselves under the same distributions."""


def context_tokens(model: Any) -> int:
    """Most tokens that the model has positions for."""
    return int(model.config.max_position_embeddings)


def require_vocabulary(model: Any, streams: Sequence[Stream], name: str) -> None:
    """Raises `UserError` if a stream has a token id that the model `name` does not have."""
    largest = max((int(stream.token_ids.max()) for stream in streams), default=0)
    if largest >= model.config.vocab_size:
        raise UserError(
            f"the store has the token id {largest}, but the model {name} has {model.config.vocab_size} ids; name the "
            "model that the store was sampled from, or one with the same tokenizer"
        )


@torch.inference_mode()
def score(
    model: Any,
    streams: Sequence[Stream],
    *,
    temperature: float = 1.0,
    batch_tokens: int = _BATCH_TOKENS,
    segment_logits: int = _SEGMENT_LOGITS,
    done: Callable[[int], None] = lambda count: None,
) -> list[list[Scored]]:
    """For each stream, each response of it in order. `model` is a Hugging Face causal language model in evaluation mode.

    `done` hears after each batch how many streams are. No stream may be longer than `context_tokens`.
    """
    result: list[list[Scored]] = [[] for _ in streams]
    finished = 0
    for batch in _batches(streams, batch_tokens):
        chosen = [streams[n] for n in batch]
        for n, scored in zip(batch, _score_batch(model, chosen, temperature, segment_logits), strict=True):
            result[n] = scored
        finished += len(batch)
        done(finished)
    return result


def _batches(streams: Sequence[Stream], batch_tokens: int) -> Iterator[list[int]]:
    """Numbers of the streams that have a response, the longest first."""
    order = sorted((n for n, one in enumerate(streams) if one.spans), key=lambda n: -streams[n].spans[-1][1])
    while order:
        rows = max(1, batch_tokens // streams[order[0]].spans[-1][1])
        yield order[:rows]
        order = order[rows:]


def _score_batch(model: Any, streams: list[Stream], temperature: float, segment_logits: int) -> list[list[Scored]]:
    ids, mask, wanted = _padded(streams)
    rows, width = ids.shape
    device = model.device
    entropy, logprob = torch.zeros(rows, width), torch.zeros(rows, width)
    step = max(1, segment_logits // (rows * model.config.vocab_size))
    cache = None
    for first in range(0, width, step):
        last = min(first + step, width)
        columns = wanted[:, first:last].any(0).nonzero().squeeze(1)
        output = model(
            input_ids=ids[:, first:last].to(device),
            attention_mask=mask[:, :last].to(device),
            position_ids=torch.arange(first, last, device=device).expand(rows, -1),
            past_key_values=cache,
            use_cache=width > step,
            logits_to_keep=columns.to(device),
        )
        cache = output.past_key_values
        # The logits of a column are those of the token after it.
        tokens = ids[:, (columns + first + 1).clamp(max=width - 1)].to(device)
        entropy[:, first + columns], logprob[:, first + columns] = _reduce(output.logits, tokens, temperature)
    return [
        [Scored(entropy[row, a - 1 : b - 1].clone(), logprob[row, a - 1 : b - 1].clone()) for a, b in stream.spans]
        for row, stream in enumerate(streams)
    ]


def _reduce(logits: Tensor, tokens: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """(B, K) entropies and log-probabilities of the tokens, on the CPU, from logits (B, K, V)."""
    logps = torch.log_softmax(logits.float() / temperature, dim=-1)
    chosen = logps.gather(-1, tokens.unsqueeze(-1)).squeeze(-1)
    return torch.special.entr(logps.exp()).sum(-1).cpu(), chosen.cpu()


def _padded(streams: list[Stream]) -> tuple[Tensor, Tensor, Tensor]:
    """(B, T) token ids up to the last response's end, attention mask, and whether the token after a column was sampled;
    the padding is to the right, id 0 and masked."""
    width = max(stream.spans[-1][1] for stream in streams)
    ids, mask = torch.zeros(len(streams), width, dtype=torch.long), torch.zeros(len(streams), width, dtype=torch.long)
    wanted = torch.zeros(len(streams), width, dtype=torch.bool)
    for row, stream in enumerate(streams):
        end = stream.spans[-1][1]
        ids[row, :end] = stream.token_ids[:end]
        mask[row, :end] = 1
        for start, stop in stream.spans:
            wanted[row, start - 1 : stop - 1] = True
    return ids, mask, wanted
