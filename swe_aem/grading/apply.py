"""Applying a cleaned patch in the sandbox that grades it."""

import secrets

from swe_aem.core import Sandbox
from swe_aem.errors import GraderError
from swe_aem.grading.diff import DiffError, parse_diff
from swe_aem.grading.shell import put_file, run_git_script


async def apply_patch(
    sandbox: Sandbox, workdir: str, patch: str, test_patch: str, timeout_s: float
) -> tuple[bool, str]:
    """Apply `patch`, then remove files that `test_patch` is going to create; returns (applied, what was printed).

    Raises `GraderError` if the script did not finish, so that neither is known, and `SandboxDead`.
    """
    path = f"/tmp/{secrets.token_hex(16)}.patch"
    await put_file(sandbox, path, patch.encode("utf-8", "surrogateescape"))
    done = await run_git_script(
        sandbox,
        "apply.sh",
        workdir=workdir,
        timeout_s=timeout_s,
        PATCH=path,
        ADDED_TESTS="\n".join(added_files(test_patch)),
    )
    if done.words[:1] not in (("applied",), ("refused",)):
        raise GraderError(
            f"applying the patch did not finish (exit code {done.result.exit_code}): {done.result.output[:1000]}"
        )
    return done.words[0] == "applied", done.result.output


def added_files(test_patch: str) -> tuple[str, ...]:
    """Paths of the files that a test patch creates."""
    try:
        sections = parse_diff(test_patch)
    except DiffError:
        return ()
    return tuple(section.new_path for section in sections if section.is_new and section.new_path)
