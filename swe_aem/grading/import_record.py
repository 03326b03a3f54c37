"""What the session of a control tries to import, found or not, and the directories of the work tree on its path.

Recorded by a hook in the interpreters of the session, in a sandbox that no policy has touched.
"""

import os
import re
import secrets
import shlex
from collections.abc import Awaitable, Callable

from swe_aem.core import Sandbox, TaskRecord
from swe_aem.core.base import Frozen
from swe_aem.errors import GraderError
from swe_aem.grading.kept_records import KeptRecords, digest_of
from swe_aem.grading.shell import put_file, script_text

_TRIAL_TIMEOUT_S = 60.0
_PYTHONPATH = re.compile(r"(?<![\w$])PYTHONPATH=")
_HERE_DOCUMENT = re.compile(r"<<-?\s*(['\"]?)(\w+)\1")


class ImportRecord(Frozen):
    """The imports of one session, or of several."""

    names: frozenset[str]
    """Top-level names that a Python of the session tried to import."""
    directories: frozenset[str]
    """Directories of the work tree, relative to it, that were on a path; the empty string is the top."""

    def __or__(self, other: "ImportRecord") -> "ImportRecord":
        """What either session did."""
        return ImportRecord(names=self.names | other.names, directories=self.directories | other.directories)


class ImportRecorder:
    """Records one session in one sandbox. Only for controls: an agent's code could write to the record."""

    def __init__(self) -> None:
        self._home = f"/tmp/.swe-aem-imports-{secrets.token_hex(8)}"

    async def install(self, sandbox: Sandbox, workdir: str, script: str) -> str:
        """Put the hook into the sandbox, try it, and return the evaluation script with the hook switched on.

        Raises `GraderError` if there is a Python that the hook does not work in, and `SandboxDead`.
        """
        record = f"{self._home}/record"
        found = await sandbox.run(
            f"mkdir -p {record} && chmod 755 {self._home} && chmod 1777 {record} && readlink -f {shlex.quote(workdir)}",
            timeout_s=_TRIAL_TIMEOUT_S,
            cwd="/",
        )
        tree = found.output.strip()
        hook = f"{script_text('record_imports.py')}\n\nrecord_imports({record!r}, {tree!r})\n"
        await put_file(sandbox, f"{self._home}/sitecustomize.py", hook.encode())
        trial = f"p=$(command -v python || command -v python3) || exit 0; PYTHONPATH={self._home} \"$p\" -c ''"
        done = await sandbox.run(f"{trial} && [ -L {record}/nsys ]", timeout_s=_TRIAL_TIMEOUT_S, cwd="/")
        if found.exit_code != 0 or done.exit_code != 0:
            raise GraderError(f"imports cannot be recorded: {(found.output + done.output).strip()[-500:]}")
        return f'export PYTHONPATH={self._home}"${{PYTHONPATH:+:$PYTHONPATH}}"\n{in_front_of_paths(script, self._home)}'

    async def read(self, sandbox: Sandbox) -> ImportRecord:
        """What was recorded; raises `GraderError` if it is not whole, and `SandboxDead`."""
        tree = await sandbox.list_tree(f"{self._home}/record")
        if tree.left_out:
            raise GraderError("the record of imports has more entries than can be read")
        entries = [os.fsdecode(entry.target) for entry in tree.entries.values() if entry.target]
        return ImportRecord(
            names=frozenset(entry[1:] for entry in entries if entry[0] == "n"),
            directories=frozenset(entry[1:] for entry in entries if entry[0] == "p"),
        )


def in_front_of_paths(script: str, directory: str) -> str:
    """The script with `directory` at the front of each PYTHONPATH that its commands set.

    What it hands to a command as a here-document, such as the test patch, stays as it is.
    """
    lines: list[str] = []
    end = None
    for line in script.split("\n"):
        if end is None:
            opened = _HERE_DOCUMENT.search(line)
            end = opened[2] if opened else None
            line = _PYTHONPATH.sub(lambda _: f"PYTHONPATH={directory}:", line)
        elif line.strip("\t") == end:
            end = None
        lines.append(line)
    return "\n".join(lines)


class ImportRecords(KeptRecords[ImportRecord]):
    """The record of each task, made by one control and kept in the cache."""

    def __init__(self) -> None:
        super().__init__("imports", ImportRecord)

    async def of(
        self, image: str, record: TaskRecord, script: str, control: Callable[[], Awaitable[ImportRecord]]
    ) -> ImportRecord:
        """The record of a task: from the cache, or what `control` returns. `image` is the digest of the image.

        Raises what `control` raises; the next caller tries again.
        """
        return await self.kept(digest_of(image, record, script, script_text("record_imports.py")), control)
