"""The sandbox that a trajectory gets, for its agent and for its grading."""

from pathlib import Path
from typing import Literal

from swe_aem.core import SandboxSpec, TaskRecord, TrajectoryKey
from swe_aem.rollout.budget import sandbox_ttl_s
from swe_aem.rollout.config import RolloutConfig


def sandbox_spec(
    config: RolloutConfig,
    record: TaskRecord,
    sample: int,
    *,
    run: str,
    role: Literal["agent", "grader"],
    workspace: Path | None,
) -> SandboxSpec:
    """Spec of one sandbox, labelled with what it is for."""
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
