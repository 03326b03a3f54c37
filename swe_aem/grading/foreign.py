"""Patches that come as text: applied in scratch sandboxes by the official chain, where their delta is taken.

The chain is swebench's: `git apply`, `git apply --3way`, `patch --fuzz=5` (its third way, `--reject`, applies nothing
that the first does not). Where swebench resets the tree between two attempts, another sandbox is opened here: files
that the image has beside its repository stay.
"""

import stat
from dataclasses import dataclass

from swe_aem.core import Deadline, Sandbox, SandboxBackend, SandboxSpec, TaskRecord
from swe_aem.errors import GraderError
from swe_aem.grading.apply import added_files
from swe_aem.grading.capture import MAX_FILE_BYTES, CapturedWork, capture_work, record_given
from swe_aem.grading.prepare import PREPARE_TIMEOUT_S, prepare_for_grading
from swe_aem.grading.shell import private_path, put_file, run_git_script

APPLY_TIMEOUT_S = 120.0
_WAYS = ("git", "patch")
"""One sandbox each: what the first leaves behind could be in the way of the second."""


@dataclass(frozen=True)
class NotApplied:
    """A patch that does not apply."""

    why: str
    """What the attempts printed."""


async def apply_foreign(
    backend: SandboxBackend, record: TaskRecord, spec: SandboxSpec, patch: str, deadline: Deadline
) -> CapturedWork | NotApplied:
    """What `patch` changes in a fresh sandbox of `spec`, ignored names included.

    Applying that takes too long or ends in an error is the patch's doing. Raises `StartError`, `SandboxDead`,
    `InfrastructureError` if the sandbox cannot be prepared, and `GraderError` if `deadline` cut it short.
    """
    said: list[str] = []
    for way in _WAYS:
        async with backend.open(spec) as sandbox:
            found = await _attempt(sandbox, record, spec.workdir, patch, way, deadline)
        if isinstance(found, CapturedWork):
            return found
        said.append(found.why)
    return NotApplied("\n".join(said))


async def apply_text(sandbox: Sandbox, workdir: str, patch: str, timeout_s: float) -> NotApplied | None:
    """Apply a patch in a sandbox that is prepared, by `git apply`; None if it applied. Raises `GraderError` if the
    sandbox cannot take it, and `SandboxDead`."""
    path = private_path(sandbox, "patch")
    await put_file(sandbox, path, patch.encode("utf-8", "surrogateescape"))
    done = await run_git_script(
        sandbox, "apply.sh", workdir=workdir, timeout_s=timeout_s, PATCH=path, WAY="git", IN_THE_WAY=""
    )
    return None if done.words[:1] == ("applied",) else NotApplied(done.result.output.strip())


async def _attempt(
    sandbox: Sandbox, record: TaskRecord, workdir: str, patch: str, way: str, deadline: Deadline
) -> CapturedWork | NotApplied:
    await prepare_for_grading(sandbox, record, workdir, deadline.within(PREPARE_TIMEOUT_S).remaining_s())
    given = await record_given(sandbox, workdir)
    path = private_path(sandbox, "patch")
    await put_file(sandbox, path, patch.encode("utf-8", "surrogateescape"))
    entries = given.tree.entries
    in_the_way = [
        name
        for name in added_files(patch)
        if name not in given.tracked and name in entries and not stat.S_ISDIR(entries[name].mode)
    ]
    limit = deadline.within(APPLY_TIMEOUT_S)
    cut_short = limit.remaining_s() < APPLY_TIMEOUT_S - 1
    done = await run_git_script(
        sandbox,
        "apply.sh",
        workdir=workdir,
        timeout_s=limit.remaining_s(),
        PATCH=path,
        WAY=way,
        IN_THE_WAY="\n".join(name for name in in_the_way if "\n" not in name),
    )
    if done.words[:1] == ("applied",):
        return await capture_work(sandbox, workdir, given, heed_ignore_rules=False, max_new_file_bytes=MAX_FILE_BYTES)
    if done.result.exit_code == 22:
        raise GraderError(f"no patch can be applied in {workdir}: {done.result.output.strip()[:1000]}")
    if done.result.killed_for is not None:
        if cut_short or done.result.killed_for == "starved":
            raise GraderError(f"applying the patch was cut short: {done.result.killed_for}")
        return NotApplied(f"{way}: applying it takes longer than {APPLY_TIMEOUT_S:.0f} s")
    return NotApplied("\n".join(done.result.output.strip().split("\n")[:-1]))
