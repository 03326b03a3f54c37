"""What one trajectory may use: its time, how its parts share that, and the sandboxes of its agent and its grading.

Every attempt gets its full time, so that a retry after an infrastructure failure is no shorter for the policy; the
budget is the sum over the attempts that are allowed. Waits inside are `Deadline.within` of it. Grading has a budget of
its own, and so has whatever finds out whose failure something was.
"""

from pathlib import Path
from typing import Literal

from swe_aem.core import WALL_PER_LIMIT, SandboxSpec, TaskRecord, TrajectoryKey
from swe_aem.grading import CONTROL_EXTRA_S
from swe_aem.rollout.config import RolloutConfig, SchedulingConfig

_TTL_MARGIN_S = 120.0


def agent_wall_s(config: RolloutConfig) -> float:
    """Wall seconds that an agent may take with all that its time limit does not count: its waiting for responses, and
    for processors that others have."""
    return WALL_PER_LIMIT * config.time_limit_s


def agent_attempt_s(config: RolloutConfig) -> float:
    """Seconds of one attempt from its start to its patch: start, prepare, agent with all its waiting, capture."""
    return _around_agent_s(config) + agent_wall_s(config)


def policy_free_s(config: RolloutConfig) -> float:
    """Seconds of the same where no policy is waited for, as that of a control or a replay."""
    return _around_agent_s(config) + config.time_limit_s + config.scheduling.guard_s


def _around_agent_s(config: RolloutConfig) -> float:
    limits = config.scheduling
    return limits.start_limit_s + 2 * limits.setup_limit_s


def grade_attempt_s(config: RolloutConfig, record: TaskRecord) -> float:
    """Wall seconds of one attempt to grade, from when its sandbox is ready: more than an evaluation may take that is
    starved of processors, so that a hang ends there first."""
    return WALL_PER_LIMIT * record.key.timeout_s + config.scheduling.grade_extra_s


def twins_s(config: RolloutConfig, record: TaskRecord) -> float:
    """Most wall seconds that twins may take after a grade: four evaluations, and the controls that finds the twins."""
    if not config.twins:
        return 0.0
    evaluation_s = start_s(config) + grade_attempt_s(config, record)
    return 4 * evaluation_s + 4 * (start_s(config) + record.key.timeout_s + CONTROL_EXTRA_S)


def backoff_s(limits: SchedulingConfig, failures: int) -> float:
    """Seconds to wait after that many failures (1, 2, ..)."""
    return limits.backoff_s * 2 ** (failures - 1)


def trajectory_s(config: RolloutConfig) -> float:
    """The budget of everything before the patch: every attempt, and the pauses between them."""
    limits = config.scheduling
    attempt = start_s(config) + agent_attempt_s(config)
    pauses = sum(backoff_s(limits, failures) for failures in range(1, limits.max_attempts))
    return limits.max_attempts * attempt + pauses


def start_s(config: RolloutConfig) -> float:
    """Seconds until a sandbox has started: the wait for everybody who may start before it, and its own start."""
    start_limit_s, many = config.scheduling.start_limit_s, config.at_once
    waits = (2 * many.concurrency + many.grading) / many.starting * start_limit_s
    return waits + start_limit_s


def replay_s(config: RolloutConfig) -> float:
    """Seconds for doing an agent's calls again: its own time, without that of a policy, and a capture."""
    return start_s(config) + policy_free_s(config)


def sandbox_ttl_s(config: RolloutConfig, record: TaskRecord) -> float:
    """Longer than any sandbox is needed: a grading sandbox waits for the agent, for its turn, and for the script."""
    grading_s = grade_attempt_s(config, record) + twins_s(config, record)
    return agent_attempt_s(config) + config.scheduling.grade_queue_limit_s + grading_s + _TTL_MARGIN_S


def sandbox_spec(
    config: RolloutConfig,
    record: TaskRecord,
    sample: int,
    *,
    run: str,
    role: Literal["agent", "grader", "control"],
    workspace: Path | None,
) -> SandboxSpec:
    """The sandbox that an agent or a grading gets for one sample of a task, labelled with what it is for.

    `run` is the id of the run, for the labels; `workspace` the host directory with the task's working tree, None if
    the image holds it.
    """
    task = record.task
    return SandboxSpec(
        image=task.image,
        workdir=task.workdir,
        workspace=workspace,
        user=config.user,
        capabilities=config.capabilities,
        network=task.network,
        limits=config.limits,
        ttl_s=sandbox_ttl_s(config, record),
        labels={"run": run, "trajectory": str(TrajectoryKey(task.id, sample)), "role": role},
    )
