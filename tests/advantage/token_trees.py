"""Tabular policies over token trees, whose entropies can be enumerated, and their training with AEM.

A response is a path of four tokens, each one of four, so that a state has 256 responses. Some prefixes are nearly
certain of the next token, others are not. A natural-gradient step of rate eta on a response b adds eta A / pi(b) to its
logit, and so, over the whole policy, eta A(b) to that of each response b.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from swe_aem.advantage.aem import coefficients
from swe_aem.advantage.config import AdvantageConfig
from swe_aem.advantage.estimators import estimate, estimator_of
from swe_aem.advantage.inputs import AdvantageInputs

TOKENS, DEPTH = 4, 4
RESPONSES = TOKENS**DEPTH
_LIKE_THE_POLICY = 2048
"""Members of a group that holds every response about as often as the policy would sample it."""
_LEAST_PROBABILITY = 0.02
"""A sampled response counts at most the inverse of this in an update."""


def policies(states: int, seed: int) -> Tensor:
    """(states, RESPONSES) float64: log-probabilities of random policies."""
    generator = torch.Generator().manual_seed(seed)
    logprob = torch.zeros(states, 1, dtype=torch.float64)
    for depth in range(DEPTH):
        prefixes = TOKENS**depth
        sharpness = torch.exp(0.9 * torch.randn(states, prefixes, 1, generator=generator, dtype=torch.float64))
        logits = sharpness * torch.randn(states, prefixes, TOKENS, generator=generator, dtype=torch.float64)
        logprob = (logprob.unsqueeze(2) + logits.log_softmax(2)).flatten(1)
    return logprob


def response_entropy(logprob: Tensor) -> Tensor:
    """(...) H of each state from (..., RESPONSES)."""
    return torch.special.entr(logprob.exp()).sum(-1)


def mean_token_entropy(logprob: Tensor) -> Tensor:
    """(states, RESPONSES): mean over each response's tokens of the entropy that the token was drawn with."""
    probability = logprob.exp()
    total = torch.zeros_like(logprob)
    for depth in range(DEPTH):
        joint = probability.unflatten(1, (TOKENS**depth, TOKENS, -1)).sum(3)  # of each prefix and its next token
        entropy = torch.special.entr(joint / joint.sum(2, keepdim=True)).sum(2)
        total += entropy.repeat_interleave(RESPONSES // TOKENS**depth, dim=1)
    return total / DEPTH


def winning(logprob: Tensor, mass: float, seed: int) -> Tensor:
    """(states, RESPONSES) bool: random responses that resolve a state, of at most `mass` of its policy together, and
    at least one."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.rand(logprob.shape, generator=generator).argsort(1)
    within = logprob.exp().gather(1, order).cumsum(1) <= mass
    within[:, 0] = True
    return torch.zeros_like(within).scatter(1, order, within)


def population_factors(logprob: Tensor) -> Tensor:
    """(states, RESPONSES): AEM's factors of a group that is distributed as the policy; 1 for responses that are too
    rare to be in it."""
    copies = (logprob.exp() * _LIKE_THE_POLICY).round().long()
    state, response = copies.nonzero(as_tuple=True)
    times = copies[state, response]
    alpha = coefficients(
        mean_token_entropy(logprob)[state, response].repeat_interleave(times), state.repeat_interleave(times)
    )
    result = torch.ones_like(logprob)
    result[state, response] = alpha[times.cumsum(0) - 1]
    return result


class Step(NamedTuple):
    """One training step, before its update."""

    resolved: float
    """Chance that a trajectory resolves its task."""
    entropy: float
    """Mean H of the states."""


class Training:
    """Trajectories of up to four turns in groups of eight: each turn is a state, and the first response that wins
    resolves the trajectory and ends it, so that failures have more responses."""

    TASKS, TURNS, GROUPS, SIZE = 6, 4, 24, 8
    RATE = 0.3

    def __init__(self, config: AdvantageConfig, seed: int) -> None:
        """Trainings of one seed have the same policies, tasks and random numbers."""
        self._estimator = estimator_of(config)
        states = policies(self.TASKS * self.TURNS, 9000 + seed)
        self._win = winning(states, 0.03, 31 + seed)
        self._logprob = states
        self._generator = torch.Generator().manual_seed(seed)

    def step(self) -> Step:
        """Roll out, update, and say how it was before the update."""
        task = torch.arange(self.GROUPS) % self.TASKS
        state = (task.unsqueeze(1) * self.TURNS + torch.arange(self.TURNS)).flatten()  # of (group, turn)
        drawn = torch.multinomial(self._logprob.exp()[state], self.SIZE, True, generator=self._generator)
        shape = (self.GROUPS, self.TURNS, self.SIZE)
        won = self._win[state].gather(1, drawn).view(shape)
        before = won.cumsum(1) - won.long()  # wins in earlier turns
        resolved = won.any(1).flatten()
        group, turn, member = (before == 0).nonzero(as_tuple=True)
        row = group * self.SIZE + member
        where = state.view(self.GROUPS, self.TURNS)[group, turn]
        response = drawn.view(shape)[group, turn, member]
        advantage = self._advantages(resolved, row, turn, mean_token_entropy(self._logprob)[where, response])
        chance = self._logprob.exp()[where, response].clamp(min=_LEAST_PROBABILITY)
        found = Step(self._resolved(), float(response_entropy(self._logprob).mean()))
        push = torch.zeros_like(self._logprob).index_put((where, response), advantage / chance, accumulate=True)
        of_task = self.SIZE * self.GROUPS / self.TASKS
        self._logprob = (self._logprob + self.RATE * push / of_task).log_softmax(1)
        return found

    def _advantages(self, resolved: Tensor, row: Tensor, turn: Tensor, entropy: Tensor) -> Tensor:
        """(N,) advantages of responses, by row and turn; each is one token of its trajectory here."""
        numbers = torch.full((resolved.numel(), self.TURNS), -1)
        numbers[row, turn] = turn
        entropies = torch.zeros(numbers.shape, dtype=torch.float64).index_put((row, turn), entropy)
        inputs = AdvantageInputs(
            reward=resolved.double(),
            group=torch.arange(resolved.numel()) // self.SIZE,
            response_of_token=numbers,
            weight=torch.ones(resolved.numel(), dtype=torch.float64),
            scores=lambda: (entropies, -entropies),
        )
        values = estimate(self._estimator, inputs, "token trees").values.double()
        return values[row, turn] if values.dim() == 2 else values[row]

    def _resolved(self) -> float:
        lost = 1 - (self._logprob.exp() * self._win).sum(1)
        return float(1 - lost.view(self.TASKS, self.TURNS).prod(1).mean())
