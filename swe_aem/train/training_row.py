"""`training_row`: one trajectory as a row of a `rollout_func`, with the ids and log-probabilities as stored."""

from collections.abc import Iterable
from statistics import fmean
from typing import NamedTuple, NotRequired, TypedDict, assert_never

from swe_aem.core import Response, RoutedExperts, Trajectory
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
    """The sampler's estimate of the mean entropy of each response, by the numbers in `response_of_token`, nats."""
    counts: bool
    """Does the trajectory count in the baseline of its group?"""
    weight: float
    """Factor of the trajectory's advantage."""
    response_of_token: list[int]
    """Number of the response that each completion token belongs to, -1 where `env_mask` is 0."""


class ResponseRoutes(NamedTuple):
    """To which experts the tokens went that one response of a row was sampled from."""

    start: int
    """Place of the response's first token in `completion_ids`."""
    experts: RoutedExperts


class TrainingRow(RowFields):
    """One row that a `rollout_func` returns, as TRL takes it. Per completion token: `logprobs`, `env_mask`."""

    prompt_ids: list[int]
    """Token ids before the first sampled token."""
    completion_ids: list[int]
    """Token ids from the first sampled one to the end, those of tool answers included."""
    logprobs: list[float]
    """Log-probability of each completion token when it was sampled; 0 where the policy did not sample it."""
    env_mask: list[int]
    """1 for completion tokens that are trained, else 0."""
    routes: NotRequired[list[ResponseRoutes]]
    """With routing replay: those of the responses that are trained."""


class DealtRow(TrainingRow):
    """A row on its way to the process that trains it."""

    place: int
    """Where the row is in the step, group after group, however rows are dealt: its group is place // group size."""
    micro_step: int
    """Number of the micro-step of the step, over all minibatches, that it is trained in."""


def entropy_estimator(trajectories: Iterable[Trajectory]) -> EntropyEstimator:
    """The best estimator of entropies that all responses have: values of two do not compare."""
    found = {response.entropy_estimator for one in trajectories for response in one.responses}
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
    start = trajectory.responses[0].start if trajectory.responses else len(trajectory.token_ids)
    length = len(trajectory.token_ids) - start
    logprobs, numbers = [0.0] * length, [-1] * length
    for number, response in enumerate(trajectory.responses):
        span = slice(response.start - start, response.end - start)
        logprobs[span] = response.logprobs
        if trained:
            numbers[span] = [number] * (response.end - response.start)
    row: TrainingRow = {
        "prompt_ids": list(trajectory.token_ids[:start]),
        "completion_ids": list(trajectory.token_ids[start:]),
        "logprobs": logprobs,
        "env_mask": [int(number >= 0) for number in numbers],
        "response_of_token": numbers,
        "reward": reward,
        "response_rewards": baseline_response_rewards(trajectory, limits_reward),
        "response_entropies": [_entropy(response, entropy) for response in trajectory.responses],
        "counts": counts,
        "weight": trajectory.weight,
    }
    if routing_replay:
        row["routes"] = _routes(trajectory, start) if trained else []
    return row


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
