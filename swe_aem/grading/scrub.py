"""History scrub: nothing later than the commit that a task starts from may be left in an agent's sandbox.

Agents read the fix out of `git log --all`, reflogs, tags and unreachable objects when they can. The scrub removes all
of it and then proves, object by object, that the repository holds nothing that HEAD does not need.
"""

import re

from swe_aem.core import Sandbox
from swe_aem.errors import InfrastructureError
from swe_aem.grading.shell import run_git_script

MAX_SETUP_COMMITS = 3
"""Commits that an image may have on top of the base commit; SWE-bench images have one."""

_SHA = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


async def scrub_history(sandbox: Sandbox, workdir: str, base_commit: str, timeout_s: float = 300.0) -> str:
    """Scrub the repository at `workdir` and return the sha of HEAD.

    HEAD must be `base_commit` or sit at most `MAX_SETUP_COMMITS` above it, if the object exists. Ancestors' tags stay.
    Raises `InfrastructureError` with what was found if anything later can still be reached, and `SandboxDead`.
    """
    done = await run_git_script(
        sandbox,
        "scrub.sh",
        workdir=workdir,
        timeout_s=timeout_s,
        BASE=base_commit,
        MAX_SETUP_COMMITS=MAX_SETUP_COMMITS,
    )
    if done.result.timed_out:
        raise InfrastructureError(f"the history scrub of {workdir} took longer than {timeout_s:.0f} s")
    if done.result.exit_code == 0 and len(done.words) == 2 and _SHA.fullmatch(done.words[1]):
        return done.words[1]
    raise InfrastructureError(
        f"history scrub of {workdir} failed (exit code {done.result.exit_code}): {done.result.output.strip()[:2000]}"
    )
