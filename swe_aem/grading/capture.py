"""Patch capture: what an agent changed, as a diff against the commit that the host recorded when the sandbox opened."""

import logging

from swe_aem.core import Sandbox
from swe_aem.grading.diff import DiffError, parse_diff
from swe_aem.grading.shell import run_git_script

MAX_PATCH_BYTES = 8 << 20
MAX_NEW_FILE_BYTES = 1 << 20
"""New files above this size are build products or data, not part of a patch."""

_SETTLE = """read -r init </proc/1/comm
case $init in *warden*) kill -9 -1; rm -rf /tmp/swe-aem-output ;; esac"""
"""Ends what the agent left running and frees the disk space of its commands' outputs: either could keep the capture
from finishing. Only below a warden: elsewhere PID 1 is not a sandbox's, and `kill -1` would reach too far."""

logger = logging.getLogger(__name__)


async def capture_patch(
    sandbox: Sandbox, workdir: str, base_sha: str, max_bytes: int = MAX_PATCH_BYTES, timeout_s: float = 120.0
) -> str:
    """The diff between `base_sha` and the work tree: commits, staged and new files included, ignored files not.

    Renames are written as a deletion and a new file, so that every path stands on its own. Files whose text is not
    UTF-8 are written as binary patches, so the patch is always valid text. Pipes, sockets and devices are removed: git
    would wait for them. Ends all the agent's processes.

    Empty, with a logged reason, if the agent left nothing to diff (it deleted `.git`), more than `max_bytes`, no space
    on the disk, or a sandbox in which the capture does not come to its end: the same tools worked when the sandbox was
    opened. Only a sandbox that died is not its doing: raises `SandboxDead`.
    """
    await sandbox.run(_SETTLE, timeout_s=timeout_s)
    data = await _diff(sandbox, workdir, base_sha, max_bytes, timeout_s, binary="")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        binary = _undecodable_files(data.decode("utf-8", "surrogateescape"))
    data = await _diff(sandbox, workdir, base_sha, max_bytes, timeout_s, binary=binary)
    return data.decode("utf-8", "replace")


async def _diff(
    sandbox: Sandbox, workdir: str, base_sha: str, max_bytes: int, timeout_s: float, *, binary: str
) -> bytes:
    done = await run_git_script(
        sandbox,
        "capture.sh",
        workdir=workdir,
        timeout_s=timeout_s,
        BASE=base_sha,
        MAX_FILE_BYTES=MAX_NEW_FILE_BYTES,
        BINARY=binary,
    )
    if done.words != ("ok",):
        why = " ".join(done.words[1:]) or (
            f"the capture in {workdir} did not finish (exit code {done.result.exit_code}"
            f"{', timed out' if done.result.timed_out else ''}): {done.result.output.strip()[:1000]}"
        )
        logger.warning("sandbox %s: no patch, %s", sandbox.id, why)
        return b""
    try:
        return await sandbox.read_file(f"{done.private_dir}/patch", max_bytes=max_bytes)
    except OSError as error:
        logger.warning(
            "sandbox %s: the patch cannot be read, or has more than %d bytes; dropped: %s", sandbox.id, max_bytes, error
        )
        return b""


def _undecodable_files(patch: str) -> str:
    """gitattributes lines that make git treat the files of `patch` with undecodable text as binary."""
    try:
        sections = parse_diff(patch)
    except DiffError:
        return "* -diff"
    undecodable = (section for section in sections if any("\udc80" <= char <= "\udcff" for char in section.text))
    return "\n".join(f"/{_pattern(path)} -diff" for section in undecodable for path in section.paths)


def _pattern(path: str) -> str:
    """A gitattributes pattern for `path`; `?` stands for every byte that has a meaning there or is not ASCII."""
    data = path.encode("utf-8", "surrogateescape")
    return "".join(chr(byte) if (chr(byte).isalnum() and byte < 128) or byte in b"/._-+=,@%" else "?" for byte in data)
