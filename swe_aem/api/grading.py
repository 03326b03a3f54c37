"""`grade` and `grade_async`: the verdict on one patch."""

from typing import Any

from swe_aem.api.sandboxes import SandboxSetting
from swe_aem.api.settings import rollout_settings
from swe_aem.api.waiting import wait_for
from swe_aem.core import TaskRecord, Verdict
from swe_aem.core.scratch import scratch_directory
from swe_aem.errors import UserError
from swe_aem.rollout import grade_patch


def grade(task: TaskRecord, patch: str, *, sandbox: SandboxSetting = "bubblewrap", **settings: Any) -> Verdict:
    """Grade a patch in a fresh sandbox, as the patches of a rollout are graded: hygiene, evidence, retries, controls.

    Args:
        task: a task of what `load_tasks` returned.
        patch: a git diff against the task's `base_commit`. An empty one resolves nothing.
        sandbox: `Bubblewrap(...)`, `Docker(...)`, `Podman(...)`, the name of one, or a sandbox of your own.
        settings: other settings of a rollout that grading uses, e.g. `scheduling={"max_attempts": 1}`.

    Returns:
        The verdict: `.resolved`, and test by test `.fail_to_pass` and `.pass_to_pass`. A patch that does not apply has
        one too, with `.patch_applied` false. Times are in seconds.

    Raises:
        errors.UserError: the task was not loaded from a set, its image is missing, or it is broken: its tests fail with
            the gold patch alike.
        errors.InfrastructureError: no attempt came to a verdict; that says nothing about the patch.
    """
    return wait_for(grade_async(task, patch, sandbox=sandbox, **settings), interrupted="nothing was graded")


async def grade_async(
    task: TaskRecord, patch: str, *, sandbox: SandboxSetting = "bubblewrap", **settings: Any
) -> Verdict:
    """`grade` on the running event loop. A task that is cancelled closes its sandboxes before it ends."""
    config, tasks = rollout_settings([task], sandbox, {"agent": "noop", **settings})
    with scratch_directory("grade") as directory:
        graded = await grade_patch(config, tasks, tasks[0], patch, directory)
    if graded.broken is not None:
        raise UserError(f"{task.task.id} is a broken task, no patch has a verdict: {graded.broken}")
    assert graded.verdict is not None  # every patch was asked for
    return graded.verdict
