"""The gold patch of a task, also where its data set has a script that solves it instead of a patch."""

from swe_aem.core import Deadline, SandboxBackend, SandboxSpec, TaskRecord
from swe_aem.grading.capture import MAX_FILE_BYTES, capture_work
from swe_aem.grading.comparing import delta_of
from swe_aem.grading.delta import Delta
from swe_aem.grading.prepare import prepare_for_agent, prepare_for_grading

_SOLVE_TIMEOUT_S = 1800.0


async def gold_patch(backend: SandboxBackend, record: TaskRecord, spec: SandboxSpec, deadline: Deadline) -> Delta | str:
    """The task's gold patch; if it has a gold command instead, what that changes in a sandbox of `spec`.

    The exit code of the command does not matter: grading shows whether its changes solve the task. Raises `StartError`,
    `SandboxDead`, `InfrastructureError`.
    """
    key = record.key
    if not key.gold_command:
        return key.gold_patch
    async with backend.open(spec) as sandbox:
        given = await prepare_for_agent(sandbox, record, deadline.remaining_s())
        for path, content in key.gold_files.items():
            await sandbox.write_file(path, content)
        await sandbox.run(key.gold_command, timeout_s=deadline.within(_SOLVE_TIMEOUT_S).remaining_s())
        work = await capture_work(sandbox, spec.workdir, given, max_new_file_bytes=MAX_FILE_BYTES)
    async with backend.open(spec) as untouched:
        await prepare_for_grading(untouched, record, spec.workdir, deadline.remaining_s())
        return await delta_of(work, untouched, spec.workdir)
