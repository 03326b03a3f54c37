"""Turns the repository of an image into the one that a task starts from, for an agent's or a grading sandbox.

In most data sets the image has that repository. In others the bug must be applied first (SWE-smith), the tests lie in
the image (R2E-Gym), or there is no repository yet (Harbor).
"""

import shlex
from typing import Literal

from swe_aem.core import Sandbox, TaskRecord
from swe_aem.errors import InfrastructureError, SandboxDead, TaskUnusable
from swe_aem.grading.capture import GivenTree, record_given
from swe_aem.grading.scrub import scrub_history
from swe_aem.grading.shell import private_path, put_file, run_git_script

PREPARE_TIMEOUT_S = 300.0
_LOOK_S = 10.0


async def prepare_for_agent(sandbox: Sandbox, record: TaskRecord, timeout_s: float = PREPARE_TIMEOUT_S) -> GivenTree:
    """Remove from the sandbox what an agent must not see, and record the work tree that it is given.

    Afterwards the setup patch is applied, hidden paths are gone, and the history holds neither the code before that
    patch, nor those paths, nor anything later than HEAD. A sandbox that started on a kept layer has all that behind it.
    Raises `TaskUnusable` if the image has no such work tree, `InfrastructureError` with what else is wrong, and
    `SandboxDead`.
    """
    task = record.task
    try:
        if sandbox.layer is None:
            squashed = needs_preparing(record) and await _prepare(sandbox, record, task.workdir, "agent", timeout_s)
            # A squashed history does not contain the base commit; the scrub then takes HEAD for it.
            await scrub_history(sandbox, task.workdir, "" if squashed else task.base_commit, timeout_s)
        return await record_given(sandbox, task.workdir)
    except SandboxDead:
        raise
    except InfrastructureError as error:
        if await _is_missing(sandbox, task.workdir):
            raise TaskUnusable(
                f"image {task.image} has no directory {task.workdir}: correct the task's workdir, or the image"
            ) from error
        raise


async def _is_missing(sandbox: Sandbox, workdir: str) -> bool:
    """Is there no such directory? Asked before anything of a policy has run."""
    done = await sandbox.run(f"test -d {shlex.quote(workdir)}", timeout_s=_LOOK_S, cwd="/")
    return done.exit_code == 1


async def prepare_for_grading(
    sandbox: Sandbox, record: TaskRecord, workdir: str, timeout_s: float = PREPARE_TIMEOUT_S
) -> None:
    """Make the repository of a grading sandbox the one that patches are made against; hidden paths stay.

    Raises `InfrastructureError` with what is wrong, and `SandboxDead`.
    """
    if needs_preparing(record) and sandbox.layer is None:
        await _prepare(sandbox, record, workdir, "grader", timeout_s)


def needs_preparing(record: TaskRecord) -> bool:
    """Does the image hold something else than the start of the task?"""
    return bool(record.key.setup_patch or record.key.hidden or not record.task.base_commit)


async def _prepare(
    sandbox: Sandbox, record: TaskRecord, workdir: str, role: Literal["agent", "grader"], timeout_s: float
) -> bool:
    """Run the script; returns whether the history is gone."""
    path = ""
    if record.key.setup_patch:
        path = private_path(sandbox, ".patch")
        await put_file(sandbox, path, record.key.setup_patch.encode("utf-8", "surrogateescape"))
    done = await run_git_script(
        sandbox,
        "prepare.sh",
        workdir=workdir,
        timeout_s=timeout_s,
        ROLE=role,
        SETUP=path,
        HIDDEN="\n".join(record.key.hidden),
    )
    if done.words not in (("kept",), ("squashed",)):
        raise InfrastructureError(
            f"{record.task.id}: {workdir} cannot be brought to the task's starting state (exit code "
            f"{done.result.exit_code}): {done.result.output.strip()[:2000]}"
        )
    return done.words == ("squashed",)
