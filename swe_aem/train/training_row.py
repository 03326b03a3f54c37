"""`training_row`: one trajectory as a row of a `rollout_func`, with the ids and log-probabilities as stored;
`branch_rows`: its branches as further rows."""

from collections.abc import Iterable
from statistics import fmean
from typing import NamedTuple, NotRequired, TypedDict, assert_never

from swe_aem.core import Branch, Response, RoutedExperts, Trajectory
from swe_aem.core.outcome import OUTCOME_TABLE, LimitsReward
from swe_aem.core.policy import EntropyEstimator
from swe_aem.errors import UserError


class RowFields(TypedDict):
    """Fields of a row that `AgentGRPOTrainer` needs beyond those of TRL."""

    reward: float | None
    """Reward of the trajectory; None if it does not count."""
    response_rewards: list[float] | None
    """The reward by response, which sums to `reward`; the numbers in `response_of_token` are its indices. None where
    the reward is one number."""
    response_entropies: list[float]
    """The sampler's estimate of the mean entropy of each response, by the numbers in `response_of_token`, nats; those
    of the row's own responses are read."""
    counts: bool
    """Does the trajectory count in the baseline of its group?"""
    weight: float
    """Factor of the trajectory's advantage."""
    response_of_token: list[int]
    """Number of the response that each completion token belongs to, -1 where `env_mask` is 0. Those of a trajectory's
    branches count on after its own."""


class ResponseRoutes(NamedTuple):
    """To which experts the tokens went that one response of a row was sampled from."""

    start: int
    """Place of the response's first token in `completion_ids`."""
    experts: RoutedExperts


class _StreamFields(TypedDict):
    """Fields of a row that say what its tokens are."""

    prompt_ids: list[int]
    """Token ids before the first sampled token."""
    completion_ids: list[int]
    """Token ids from the first sampled one to the end, those of tool answers included."""
    logprobs: list[float]
    """Log-probability of each completion token when it was sampled; 0 where the policy did not sample it."""
    env_mask: list[int]
    """1 for completion tokens that are trained, else 0."""
    response_of_token: list[int]
    """Number of the response that each completion token belongs to, as `RowFields` says."""


class TrainingRow(_StreamFields, RowFields):
    """One row that a `rollout_func` returns, as TRL takes it. Per completion token: `logprobs`, `env_mask`."""

    routes: NotRequired[list[ResponseRoutes]]
    """With routing replay: those of the responses that are trained."""


class DealtRow(TrainingRow):
    """A row on its way to the process that trains it."""

    place: int
    """Where the row is in the step, however rows are dealt. Those of trajectories come first, group after group: the
    group is place // group size. Then come those of branches."""
    trajectory: int
    """The place of its trajectory's row: its own, but for a branch's row."""
    micro_step: int
    """Number of the micro-step of the step, over all minibatches, that it is trained in."""


def entropy_estimator(trajectories: Iterable[Trajectory], branches: int = 0) -> EntropyEstimator:
    """The best estimator of entropies that all responses have: values of two do not compare. `branches` are counted as
    in `trained_branches`."""
    found = {
        response.entropy_estimator
        for one in trajectories
        for stream in (one, *trained_branches(one, branches))
        for response in stream.responses
    }
    return "top20" if found == {"top20"} else "surprisal"


def _entropy(response: Response, estimator: EntropyEstimator) -> float:
    if estimator == "top20" and response.entropy is not None:
        return response.entropy
    return -fmean(response.logprobs) if response.logprobs else 0.0


def baseline_reward(trajectory: Trajectory, limits_reward: LimitsReward = "graded") -> float | None:
    """Reward of a trajectory in its group's baseline, None if it does not count. `limits_reward` decides what a
    trajectory gets that ended at a limit: what was graded, or 0."""
    rule = OUTCOME_TABLE[trajectory.outcome] if trajectory.outcome is not None else None
    if rule is None or not rule.in_baseline:
        return None
    match limits_reward:
        case "graded":
            return trajectory.reward
        case "zero":
            return trajectory.reward if rule.trained else 0.0
        case _:
            assert_never(limits_reward)


def baseline_response_rewards(trajectory: Trajectory, limits_reward: LimitsReward = "graded") -> list[float] | None:
    """The rewards of the responses, which sum to `baseline_reward`; None where that is one number for all of them."""
    if trajectory.response_rewards is None or baseline_reward(trajectory, limits_reward) != trajectory.reward:
        return None
    return list(trajectory.response_rewards)


def training_row(
    trajectory: Trajectory,
    *,
    compact_filtering: bool = True,
    limits_reward: LimitsReward = "graded",
    entropy: EntropyEstimator = "surprisal",
    routing_replay: bool = False,
) -> TrainingRow:
    """The row of a trajectory, by the outcome table. `entropy` is the estimator that `response_entropies` are of.

    The completion begins with the first sampled token, and is empty if there is none. Tokens that the policy did not
    sample have log-probability 0 and mask 0. Trajectories that ended at a limit are trained only without
    `compact_filtering`, and their reward is that of `baseline_reward`. Raises `ValueError` for a trajectory that was
    not graded, that counts and has no reward, or that the policy ended without a response, and `UserError` if its
    routes are to be replayed and are not known.
    """
    if trajectory.outcome is None:
        raise ValueError(f"{trajectory.id} was not graded")
    rule = OUTCOME_TABLE[trajectory.outcome]
    counts = rule.in_baseline
    if (counts and trajectory.reward is None) or (rule.trained and not trajectory.responses):
        raise ValueError(f"{trajectory.id} ended as {trajectory.outcome} without a response or without a reward")
    reward = baseline_reward(trajectory, limits_reward)
    trained = rule.trained or (counts and not compact_filtering)
    row: TrainingRow = {
        **_stream_fields(trajectory, trained=trained),
        "reward": reward,
        "response_rewards": baseline_response_rewards(trajectory, limits_reward),
        "response_entropies": [_entropy(response, entropy) for response in trajectory.responses],
        "counts": counts,
        "weight": trajectory.weight,
    }
    if routing_replay:
        row["routes"] = _routes(trajectory, len(row["prompt_ids"])) if trained else []
    return row


def trained_branches(trajectory: Trajectory, most: int) -> tuple[Branch, ...]:
    """The branches that are trained on with a trajectory that is: the first `most` of those that the agent certainly
    asked for."""
    return tuple(branch for branch in trajectory.branches if branch.by_agent and branch.responses)[:most]


def branch_rows(
    trajectory: Trajectory, row: TrainingRow, *, most: int, entropy: EntropyEstimator = "surprisal"
) -> list[TrainingRow]:
    """A row for each of the `trained_branches` of a trajectory whose own row is given; none if that trains nothing.

    A branch's row trains the responses of the branch, and no token that another row trains: each response is in one
    stream. Reward, weight and all else that an advantage follows from are those of the trajectory.
    """
    if not any(row["env_mask"]):
        return []
    found: list[TrainingRow] = []
    entropies = row["response_entropies"]
    for branch in trained_branches(trajectory, most):
        first, entropies = len(entropies), [*entropies, *(_entropy(one, entropy) for one in branch.responses)]
        fields = _stream_fields(branch, trained=True, first=first)
        found.append({**row, **fields, "response_entropies": entropies})
    return found


def _stream_fields(stream: Trajectory | Branch, *, trained: bool, first: int = 0) -> _StreamFields:
    """The tokens of a stream whose responses are numbered from `first` on."""
    start = stream.responses[0].start if stream.responses else len(stream.token_ids)
    length = len(stream.token_ids) - start
    logprobs, numbers = [0.0] * length, [-1] * length
    for number, response in enumerate(stream.responses, start=first):
        span = slice(response.start - start, response.end - start)
        logprobs[span] = response.logprobs
        if trained:
            numbers[span] = [number] * (response.end - response.start)
    return {
        "prompt_ids": list(stream.token_ids[:start]),
        "completion_ids": list(stream.token_ids[start:]),
        "logprobs": logprobs,
        "env_mask": [int(number >= 0) for number in numbers],
        "response_of_token": numbers,
    }


def _routes(trajectory: Trajectory, start: int) -> list[ResponseRoutes]:
    """Those of all responses of a trajectory whose completion begins at `start`."""
    found = []
    for number, response in enumerate(trajectory.responses):
        if response.routed_experts is None:
            raise UserError(
                f"{trajectory.id}: response {number} was stored without routed experts, which routing_replay needs: "
                "choose another --out, or leave routing_replay out"
            )
        found.append(ResponseRoutes(response.start - start, response.routed_experts))
    return found
