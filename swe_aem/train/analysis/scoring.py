"""Exact entropies and log-probabilities of stored responses under a model: one forward pass, nothing sampled.

    token_ids ──model, in segments with a KV cache──> logits before each sampled token ──/ temperature──> entropy, log p

Trajectories of similar length share a right-padded batch. A segment is as long as its logits may be large, so that a
vocabulary of 150,000 and a trajectory of 40,000 tokens fit; columns that no response needs get no logits.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from swe_aem.errors import UserError
from swe_aem.train.analysis.stored import TrajectoryTensors

_BATCH_TOKENS = 16_384
"""Padded tokens of a batch, which a KV cache is kept for."""
_SEGMENT_LOGITS = 2**26
"""Logits of a segment: 256 MiB in float32, and three times that while they are reduced."""


class ScoredResponse(NamedTuple):
    """One response of n tokens under a model."""

    entropy: Tensor
    """(n,) float32, nats: of the full distribution that each token is drawn from, after the temperature."""
    logprob: Tensor
    """(n,) float32: of the tokens themselves under the same distributions."""


def context_tokens(model: Any) -> int:
    """Most tokens that the model has positions for."""
    return int(model.config.max_position_embeddings)


def require_vocabulary(model: Any, trajectories: Sequence[TrajectoryTensors], name: str) -> None:
    """Raises `UserError` if a trajectory has a token id that the model `name` does not have."""
    largest = max((int(one.token_ids.max()) for one in trajectories if one.spans), default=0)
    if largest >= model.config.vocab_size:
        raise UserError(
            f"the store has the token id {largest}, but the model {name} has {model.config.vocab_size} ids; name the "
            "model that the store was sampled from, or one with the same tokenizer"
        )


@torch.inference_mode()
def score(
    model: Any,
    trajectories: Sequence[TrajectoryTensors],
    *,
    temperature: float = 1.0,
    batch_tokens: int = _BATCH_TOKENS,
    segment_logits: int = _SEGMENT_LOGITS,
    done: Callable[[int], None] = lambda count: None,
) -> list[list[ScoredResponse]]:
    """For each trajectory, its responses in order. `model` is a Hugging Face causal language model in evaluation mode.

    `done` hears after each batch how many trajectories are scored. None may be longer than `context_tokens`.
    """
    result: list[list[ScoredResponse]] = [[] for _ in trajectories]
    finished = 0
    for batch in _batches(trajectories, batch_tokens):
        chosen = [trajectories[n] for n in batch]
        for n, scored in zip(batch, _score_batch(model, chosen, temperature, segment_logits), strict=True):
            result[n] = scored
        finished += len(batch)
        done(finished)
    return result


def _batches(trajectories: Sequence[TrajectoryTensors], batch_tokens: int) -> Iterator[list[int]]:
    """Numbers of the trajectories that have a response, the longest first."""
    order = sorted((n for n, one in enumerate(trajectories) if one.spans), key=lambda n: -trajectories[n].spans[-1][1])
    while order:
        rows = max(1, batch_tokens // trajectories[order[0]].spans[-1][1])
        yield order[:rows]
        order = order[rows:]


def _score_batch(
    model: Any, trajectories: list[TrajectoryTensors], temperature: float, segment_logits: int
) -> list[list[ScoredResponse]]:
    ids, mask, wanted = _padded(trajectories)
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
        [
            ScoredResponse(entropy[row, a - 1 : b - 1].clone(), logprob[row, a - 1 : b - 1].clone())
            for a, b in trajectory.spans
        ]
        for row, trajectory in enumerate(trajectories)
    ]


def _reduce(logits: Tensor, tokens: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """(B, K) entropies and log-probabilities of the tokens, on the CPU, from logits (B, K, V)."""
    logps = torch.log_softmax(logits.float() / temperature, dim=-1)
    chosen = logps.gather(-1, tokens.unsqueeze(-1)).squeeze(-1)
    return torch.special.entr(logps.exp()).sum(-1).cpu(), chosen.cpu()


def _padded(trajectories: list[TrajectoryTensors]) -> tuple[Tensor, Tensor, Tensor]:
    """(B, T) token ids up to the last response's end, attention mask, and whether the token after a column was sampled;
    the padding is to the right, id 0 and masked."""
    width = max(trajectory.spans[-1][1] for trajectory in trajectories)
    rows = len(trajectories)
    ids, mask = torch.zeros(rows, width, dtype=torch.long), torch.zeros(rows, width, dtype=torch.long)
    wanted = torch.zeros(rows, width, dtype=torch.bool)
    for row, trajectory in enumerate(trajectories):
        end = trajectory.spans[-1][1]
        ids[row, :end] = trajectory.token_ids[:end]
        mask[row, :end] = 1
        for start, stop in trajectory.spans:
            wanted[row, start - 1 : stop - 1] = True
    return ids, mask, wanted
