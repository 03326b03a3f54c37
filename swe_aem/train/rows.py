"""`training_row`: one trajectory as a row of a `rollout_func`, with the ids and log-probabilities as stored."""

from typing import Any

from swe_aem.core import Trajectory
from swe_aem.core.outcome import OUTCOME_TABLE


def training_row(trajectory: Trajectory, *, compact_filtering: bool = True) -> dict[str, Any]:
    """The row, by the outcome table: `prompt_ids`, `completion_ids`, `logprobs`, `env_mask`, and the fields of
    `aem_grpo.ROW_FIELDS`.

    The completion begins with the first sampled token, and is empty if there is none. Tokens that the policy did not
    sample have log-probability 0 and mask 0. Trajectories that ended at a limit are trained only without
    `compact_filtering`. Raises `ValueError` for a trajectory that was not graded, that counts and has no reward, or
    that the policy ended without a response.
    """
    if trajectory.outcome is None:
        raise ValueError(f"{trajectory.id} was not graded")
    rule = OUTCOME_TABLE[trajectory.outcome]
    counts = rule.in_baseline
    if (counts and trajectory.reward is None) or (rule.trained and not trajectory.responses):
        raise ValueError(f"{trajectory.id} ended as {trajectory.outcome} without a response or without a reward")
    trained = rule.trained or (counts and not compact_filtering)
    start = trajectory.responses[0].start if trajectory.responses else len(trajectory.token_ids)
    length = len(trajectory.token_ids) - start
    logprobs, numbers = [0.0] * length, [-1] * length
    for number, response in enumerate(trajectory.responses):
        span = slice(response.start - start, response.end - start)
        logprobs[span] = response.logprobs
        if trained:
            numbers[span] = [number] * (response.end - response.start)
    return {
        "prompt_ids": list(trajectory.token_ids[:start]),
        "completion_ids": list(trajectory.token_ids[start:]),
        "logprobs": logprobs,
        "env_mask": [int(number >= 0) for number in numbers],
        "response_of_token": numbers,
        "reward": trajectory.reward if counts else None,
        "counts": counts,
        "weight": trajectory.weight,
    }
