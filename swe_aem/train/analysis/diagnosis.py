"""Settings and results of the diagnostics of AEM, as plain records. `diagnose.py` measures."""

from typing import NamedTuple

from pydantic import Field

from swe_aem.advantage.config import AdvantageConfig, AEMConfig
from swe_aem.core.base import Frozen
from swe_aem.core.outcome import LimitsReward

PAPER_R = 0.63
"""The paper's r of alpha - 1 and relative surprisal, for Qwen3-32B, read as that of alpha - 1 and H - S: the paper's
own definition could not be read, and only this sign fits its theory and its results."""
PAPER_SIGNS = (55, 64)
"""The paper's number of states in which their signs agree, read the same way, and of all states."""


class DiagnoseConfig(Frozen):
    """What is measured, and how much of it is sampled."""

    states: int = Field(default=64, ge=0)
    samples: int = Field(default=32, ge=2)
    """Fresh responses per state."""
    seed: int = Field(default=0, ge=0, le=2**31)
    """Seed of the states drawn, the samples and the bootstrap."""
    max_tokens: int | None = Field(default=None, ge=1)
    """Per response, sampled or stored: a longer one counts up to here. None: what the run allowed."""
    version: int | None = None
    """Only groups whose trained responses are all of this version of the weights."""
    compact_filtering: bool = True
    """Leave out the responses of trajectories that ended at a limit."""
    limits_reward: LimitsReward = "graded"
    """Reward of those trajectories in the baseline."""
    advantage: AdvantageConfig = AEMConfig()


class VersionShare(Frozen):
    """Trained trajectories whose first response is of one version of the weights."""

    version: int
    trajectories: int
    positive: int
    """Trajectories with a base advantage above 0."""


class GroupShare(Frozen):
    """The trained trajectories of one group."""

    task_id: str
    first_sample: int
    trajectories: int
    positive: int
    zero_variance: bool
    """Do all members that count have the same reward?"""


class Relation(Frozen):
    """How well one number predicts another. Points whose first number is 0 (unmodulated, no advantage) are not used."""

    name: str
    points: int
    r: float | None
    """Pearson's; None below 3 points, or if either number is constant."""
    r_low: float | None
    r_high: float | None
    """95 %, from a bootstrap over groups."""
    agree: int
    """Points in which both numbers have the same sign."""
    signs: int
    """Points in which both numbers have a sign: neither is 0."""


class ResponseRow(Frozen):
    """A trained response under the policy; entropies and surprisal in nats per token."""

    task_id: str
    sample: int
    response: int
    version: int
    tokens: int
    entropy: float
    surprisal: float
    base: float
    """A: base advantage times the task's weight."""
    alpha: float
    foretold: float
    """A (1 - alpha): above 0 where AEM's theory foretells rising entropy, below 0 where falling."""
    change: float | None = None
    """Mean token entropy under the policy after training minus `entropy`, on the same tokens."""


class StateRow(Frozen):
    """A state that was sampled from, and the stored response to it. Sums are over a response's tokens, in nats."""

    task_id: str
    sample: int
    response: int
    prompt_tokens: int
    tokens: int
    max_tokens: int
    samples: int
    cut: int
    """Samples that did not end by themselves within `max_tokens`."""
    base: float
    alpha: float
    surprisal: float
    """S of the stored response."""
    response_entropy: float
    """Monte Carlo estimate of H_resp: mean S of the samples."""
    response_entropy_se: float
    """Standard error of `response_entropy`."""
    relative: float
    """S - H_resp; alpha - 1 stands for its negative."""
    relative_per_token: float
    """S - H_resp with each S, the stored one and the samples', divided by its own number of tokens."""
    change: float | None = None


class Diagnosis(Frozen):
    """The diagnostics of a store, without the rows of single responses and states."""

    store: str
    model: str
    after: str | None
    settings: DiagnoseConfig
    temperature: float
    max_tokens: int
    stop_token_ids: tuple[int, ...]
    trajectories: int
    """Trained trajectories."""
    too_long: int
    """Trained trajectories longer than the model's context; they count in the shares of part 1 only."""
    positive: tuple[VersionShare, ...]
    groups: tuple[GroupShare, ...]
    """Groups that have trained trajectories."""
    responses: int
    unmodulated: int
    """Responses whose factor is exactly 1."""
    foretold_up: int
    """Responses whose entropy is foretold to rise: A (alpha - 1) is below 0."""
    foretold_down: int
    """Responses whose entropy is foretold to fall: A (alpha - 1) is above 0."""
    logprob_gap: float
    """Mean over tokens of |stored log-probability - the model's|, nats: near 0 if the model sampled the store."""
    change: float | None
    """Mean over responses, nats per token."""
    change_relations: tuple[Relation, ...]
    states: int
    cut_share: float | None
    """Share of samples that were cut off: their surprisal is of what there is."""
    state_relations: tuple[Relation, ...]


class DiagnosisResult(NamedTuple):
    """What `diagnose` found."""

    diagnosis: Diagnosis
    responses: list[ResponseRow]
    states: list[StateRow]
