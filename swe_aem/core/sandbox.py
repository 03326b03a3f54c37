"""`Sandbox`: a live, isolated copy of a task's repository. `SandboxBackend`: what starts them and sweeps up after them.

The error policy of every backend: a command that fails is a result, a command that times out is a result, a dead
sandbox raises `SandboxDead`. Infrastructure failure is decided from our own signals, never from text that a program
printed.
"""

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Literal, Protocol

from pydantic import ConfigDict

from swe_aem.core.base import Frozen


class Limits(Frozen):
    """Resource limits of one sandbox. A limit that the backend cannot enforce is an error, not a no-op."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    memory_bytes: int | None = 4 << 30
    """Memory in bytes; null is no limit."""
    cpus: float | None = 2.0
    """CPUs; null is no limit."""
    pids: int | None = 512
    """Processes and threads; null is no limit."""
    disk_bytes: int | None = 4 << 30
    """Bytes that the sandbox may write in all; null is no limit."""


class SandboxSpec(Frozen):
    """What to start."""

    image: str
    workdir: str = "/testbed"
    workspace: Path | None = None
    """Host directory whose content becomes the content of `workdir` (copied or overlaid; never written to)."""
    env: dict[str, str] = {}
    activate: bool = True
    """Activate the conda environment `testbed` for every command where the image has one."""
    user: str | None = None
    """User name or uid inside the sandbox; None is the image's own default."""
    capabilities: tuple[str, ...] = ()
    """Capabilities to keep; all others are dropped. Some test suites need CHOWN, DAC_OVERRIDE, FOWNER or SETUID."""
    network: Literal["none", "blackhole"] = "none"
    limits: Limits = Limits()
    ttl_s: float = 3600.0
    """The sandbox ends itself after this many seconds, whatever happened to its owner."""
    labels: dict[str, str] = {}
    """Attribution, e.g. run and trajectory; the backend adds owner and deadline."""


class ExecResult(Frozen):
    """What one command did. Output is stdout and stderr merged, in order."""

    exit_code: int
    """The command's exit code; 128 + signal number if a signal ended it; 124 after a timeout."""
    head: bytes
    tail: bytes
    """Empty unless the output was longer than the bound."""
    output_bytes: int
    """True length of the output, in bytes."""
    output_path: str
    """File inside the sandbox with the whole output."""
    wall_s: float
    killed_for: Literal["timeout", "disk"] | None = None
    """Why the sandbox ended the command, if it did."""
    killed: int = 0
    """Processes that had to be killed then, `setsid` children included."""
    oom: bool = False
    """The memory limit ended at least one process while the command ran."""

    @property
    def timed_out(self) -> bool:
        """Did the command run into its time limit?"""
        return self.killed_for == "timeout"

    @property
    def truncated(self) -> bool:
        """Is there output between `head` and `tail` that is not in this result?"""
        return self.output_bytes > len(self.head) + len(self.tail)

    @property
    def output(self) -> str:
        """Head and tail as text; invalid UTF-8 becomes U+FFFD, and a cut says how much is missing and where it is."""
        head = self.head.decode("utf-8", "replace")
        if not self.truncated:
            return head + self.tail.decode("utf-8", "replace")
        missing = self.output_bytes - len(self.head) - len(self.tail)
        tail = self.tail.decode("utf-8", "replace")
        return f"{head}\n[... {missing} bytes left out; the whole output is in {self.output_path} ...]\n{tail}"


class Sandbox(Protocol):
    """Six methods at most. Calls of one sandbox run one at a time; different sandboxes run in parallel."""

    id: str

    async def run(
        self,
        command: str,
        *,
        timeout_s: float,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        max_output_bytes: int = 10_000,
    ) -> ExecResult:
        """Run a bash command line in a fresh subshell with closed stdin; raises `SandboxDead`.

        `cwd` defaults to the spec's workdir. `max_output_bytes` bounds head plus tail. At the timeout everything that
        the command started is killed before the result is returned.
        """
        ...

    async def read_file(self, path: str, *, max_bytes: int = 64 << 20) -> bytes:
        """Content of a regular file; raises `FileNotFoundError`, `IsADirectoryError`, `PermissionError`, `OSError`
        (not a regular file, or larger than `max_bytes`), `SandboxDead`."""
        ...

    async def write_file(self, path: str, data: bytes) -> None:
        """Replace or create a file and its parent directories; keeps mode and symlinks of an existing file.
        Raises `OSError` and its subclasses, `SandboxDead`."""
        ...

    async def peak_memory_bytes(self) -> int | None:
        """The most memory that the sandbox has held so far, files in memory and page cache included; None where nothing
        measures it. Raises `SandboxDead`."""
        ...

    async def alive(self) -> bool:
        """Can a command be run? Never raises."""
        ...

    async def close(self) -> None:
        """End the sandbox and everything in it; idempotent, bounded, safe under cancellation."""
        ...


class SandboxInfo(Frozen):
    """One row of `swe-aem sandbox ls`."""

    id: str
    backend: str
    image: str
    owner_alive: bool
    """Does the process that started it still run?"""
    expired: bool
    """Is it past its deadline?"""
    age_s: float
    labels: dict[str, str]


class SandboxBackend(Protocol):
    """Starts sandboxes of one kind."""

    name: str

    async def image_digest(self, image: str) -> str:
        """What the image is now, as a digest; raises `UserError` if there is none, naming how to get it."""
        ...

    def open(self, spec: SandboxSpec) -> AbstractAsyncContextManager[Sandbox]:
        """Start a sandbox for the length of an `async with`; raises `StartError`, or `UserError` if the host lacks
        something, naming what to install."""
        ...

    async def ls(self) -> list[SandboxInfo]:
        """Every sandbox of this backend on this host, of all runs."""
        ...

    async def prune(self, *, everything: bool = False) -> list[str]:
        """Remove sandboxes whose owner is gone or whose deadline has passed, with `everything` also all others that
        have the labels of this package; return their ids."""
        ...

    def shell_command(self, sandbox: Sandbox) -> list[str]:
        """Command line for this host that puts a person at a prompt inside one of this backend's live sandboxes."""
        ...
