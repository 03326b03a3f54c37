"""Inputs for the tests of advantage estimators: batches that are random and repeat with their seed."""

import random
from collections.abc import Sequence

import torch

from swe_aem.advantage.inputs import AdvantageInputs


def advantage_inputs(
    rewards: Sequence[float | None],
    *,
    group_size: int | None = None,
    responses: tuple[int, int] = (1, 4),
    tokens: tuple[int, int] = (1, 6),
    untrained: Sequence[int] = (),
    weights: Sequence[float] | None = None,
    response_rewards: Sequence[Sequence[float] | None] | None = None,
    seed: int = 0,
    step: int = 0,
    dtype: torch.dtype = torch.float32,
) -> AdvantageInputs:
    """A batch of one trajectory per reward, None for one that does not count, in groups of `group_size` in their order
    (one group if not given). Each has a number of responses within bounds, of a number of tokens within bounds, with
    tokens of tool answers between them, and entropies and log-probabilities that depend on the seed alone. Rows in
    `untrained` count and have no trained token, as after a limit; so has a row that does not count."""
    dice = random.Random(seed)
    rows: list[list[int]] = []
    for number, reward in enumerate(rewards):
        paid = response_rewards[number] if response_rewards is not None else None
        row: list[int] = []
        for response in range(len(paid) if paid else dice.randint(*responses)):
            row += [response] * dice.randint(*tokens) + [-1] * dice.randint(1, 2)
        rows.append([-1] * len(row) if reward is None or number in untrained else row)
    width = max(map(len, rows))
    entropy, logprob = torch.zeros(len(rows), width, dtype=dtype), torch.zeros(len(rows), width, dtype=dtype)
    for number, row in enumerate(rows):
        level = dice.uniform(0.1, 2.0)
        entropy[number, : len(row)] = torch.tensor([dice.uniform(0, level) for _ in row], dtype=dtype)
        logprob[number, : len(row)] = torch.tensor([-dice.expovariate(1 / level) for _ in row], dtype=dtype)
    paid_table = None
    if response_rewards is not None:
        most = max(len(one or ()) for one in response_rewards)
        table = [[*(one or ()), *[float("nan")] * (most - len(one or ()))] for one in response_rewards]
        paid_table = torch.tensor(table, dtype=dtype)
    return AdvantageInputs(
        reward=torch.tensor([float("nan") if one is None else one for one in rewards], dtype=dtype),
        group=torch.arange(len(rows)) // (group_size or len(rows)),
        response_of_token=torch.tensor([row + [-1] * (width - len(row)) for row in rows]),
        weight=torch.tensor(list(weights) if weights is not None else [1.0] * len(rows), dtype=dtype),
        scores=lambda: (entropy, logprob),
        response_rewards=paid_table,
        step=step,
    )
