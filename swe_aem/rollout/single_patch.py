"""`grade_patch`: one patch of one task on its way to a verdict, outside of a run."""

from pathlib import Path

from swe_aem.core import TaskRecord, TrajectoryKey
from swe_aem.grading import Grader
from swe_aem.rollout.components import grading_components
from swe_aem.rollout.config import RolloutConfig
from swe_aem.rollout.controls import Controls
from swe_aem.rollout.failures import Failures
from swe_aem.rollout.gate import PhaseTimer, StartGate
from swe_aem.rollout.patch_grading import PatchGraded, PatchGrading, grading_context
from swe_aem.runlog import tell
from swe_aem.sandbox import open_backend
from swe_aem.tasks import TaskSet

_RUN = "grade"
"""Stands for the run in the labels of these sandboxes."""


async def grade_patch(
    config: RolloutConfig, tasks: TaskSet, record: TaskRecord, patch: str, directory: Path
) -> PatchGraded:
    """Grade a foreign patch on a task of the set as a rollout grades one, with its retries and controls, each of which
    is told of on stderr. `directory` keeps what is found out about broken tasks.

    Raises `UserError` for a missing image, `InfrastructureError` or `RunAborted` if no attempt came to a verdict.
    """
    limits = config.scheduling
    components = grading_components(tasks, lambda gate: Grader(gate, twins=config.twins))
    async with open_backend(config.sandbox) as backend:
        gate = StartGate(backend, starting=config.at_once.starting, start_limit_s=limits.start_limit_s)
        async with components.grader(gate) as grader, Controls() as controls:
            context = grading_context(config, _RUN, components, backend, gate, grader, controls, directory, tell)
            failures = Failures(TrajectoryKey(record.task.id, 0), lambda failed: tell(failed.said), phase="grade")
            grading = PatchGrading(context, record, 0, PhaseTimer(lambda phase: None), failures)
            return await grading.run(patch)
