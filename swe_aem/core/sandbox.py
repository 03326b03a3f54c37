"""`Sandbox`: a live, isolated copy of a task's repository. `SandboxBackend`: what starts them and sweeps up after them.

The error policy of every backend: a command that fails is a result, a command that times out is a result, a dead
sandbox raises `SandboxDead`. Infrastructure failure is decided from our own signals, never from text that a program
printed.
"""

import errno
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from functools import cached_property
from pathlib import Path
from struct import Struct
from typing import Literal, NamedTuple, Protocol, Self, runtime_checkable

from pydantic import ConfigDict

from swe_aem.core.base import Frozen

WALL_PER_LIMIT = 10.0
"""How many times its limit a command may take in wall time, where it is starved of processors by others."""

BASE_ENV = {
    "LANG": "C.UTF-8",
    "TERM": "dumb",
    "PAGER": "cat",
    "GIT_PAGER": "cat",
    "GIT_TERMINAL_PROMPT": "0",
    "NO_COLOR": "1",
    "PIP_PROGRESS_BAR": "off",
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "PYTHONUNBUFFERED": "1",
    "TQDM_DISABLE": "1",
}
"""What every sandbox sets for every command: no pagers, colours or progress bars in what an agent reads."""

MAX_PATH_CHARACTERS = 128 << 20
"""How long all paths of a tree may be together, in characters: a long path can be in front of every name."""


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
    shared: dict[str, Path] = {}
    """Directories of this host that the sandbox sees too, by their path there. It cannot write to them; it can run
    programs in them, and connect to Unix sockets in them. Needs an engine on this host."""
    limits: Limits = Limits()
    ttl_s: float = 3600.0
    """The sandbox ends itself after this many seconds, whatever happened to its owner."""
    labels: dict[str, str] = {}
    """Attribution, e.g. run and trajectory; the backend adds owner and deadline."""
    layer: str | None = None
    """Key of a layer on top of the image, which `SandboxBackend.make_layer` has kept; the sandbox starts on it."""


class LimitHits(Frozen):
    """What a sandbox's own limits did to it so far."""

    oom_kills: int = 0
    """Processes that the memory limit ended."""
    pids_refused: int = 0
    """Times that a process or thread could not be started because of the process limit."""
    disk_kills: int = 0
    """Times that everything running was ended because of the disk limit."""


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
    starved_s: float = 0.0
    """Seconds of `wall_s` in which the clock of the time limit stood still, because others had the processors."""
    cpu_s: float | None = None
    """Processor seconds of the whole sandbox meanwhile; None where nothing counts them."""
    killed_for: Literal["timeout", "starved", "disk"] | None = None
    """Why the sandbox ended the command, if it did. `starved`: `wall_s` was over before the clock of the time limit."""
    killed: int = 0
    """Processes that had to be killed then, `setsid` children included."""
    oom: bool = False
    """The memory limit ended at least one process while the command ran."""
    started: bool = True
    """False where the sandbox could not run a shell for the command, or not keep its output: `head` says why."""
    limit_hits: LimitHits = LimitHits()
    """What the sandbox's limits had done to it by then, as far as that is known without asking the sandbox again."""

    @property
    def timed_out(self) -> bool:
        """Did the command run into its time limit, by its clock or by the wall's?"""
        return self.killed_for in ("timeout", "starved")

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


class TreeEntry(NamedTuple):
    """What `lstat` says about one name of a tree."""

    mode: int
    """Type and permissions, as in `st_mode`."""
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    target: bytes
    """Where a symbolic link points; empty for everything else."""


class Tree:
    """Everything below one directory at one moment, as `Sandbox.list_tree` found it.

    `raw` is {u32 entries, u32 left out} and then, for each name, {u64 size, i64 mtime_ns, i64 ctime_ns, u64 inode,
    u32 mode, u32 parent, u32 name bytes, u32 target bytes}, the name and the link's target, padded to eight bytes;
    `parent` is the offset of the directory's own entry in `raw`, 0 for the root. Numbers are little-endian.
    """

    _HEADER = Struct("<II")
    _NODE = Struct("<QqqQIIII")

    def __init__(self, raw: bytes) -> None:
        self.raw = raw

    @property
    def left_out(self) -> int:
        """At least so many names are missing: there were more than asked for, too deep ones, or directories that cannot
        be read (another user's) or have too long a path. 0: the list is whole."""
        return self._HEADER.unpack_from(self.raw)[1]

    @cached_property
    def entries(self) -> dict[str, TreeEntry]:
        """Entries by path relative to the root, a directory before what is in it; undecodable bytes of a name are
        surrogates (`os.fsencode` gives them back). Raises `OSError` if the paths together are longer than
        `MAX_PATH_CHARACTERS`."""
        raw, unpack, width = self.raw, self._NODE.unpack_from, self._NODE.size
        paths: dict[int, str] = {0: ""}
        found: dict[str, TreeEntry] = {}
        at, left = self._HEADER.size, MAX_PATH_CHARACTERS
        while at < len(raw):
            size, mtime_ns, ctime_ns, inode, mode, parent, name_bytes, target_bytes = unpack(raw, at)
            name_end = at + width + name_bytes
            end = name_end + target_bytes
            path = paths[parent] + raw[at + width : name_end].decode("utf-8", "surrogateescape")
            left -= len(path)
            if left < 0:
                raise OSError(errno.EFBIG, "its paths are too long together")
            if mode & 0o170000 == 0o040000:
                paths[at] = path + "/"
            found[path] = TreeEntry(mode, size, mtime_ns, ctime_ns, inode, raw[name_end:end])
            at = (end + 7) // 8 * 8
        return found

    @classmethod
    def made_of(cls, entries: Mapping[str, TreeEntry], *, left_out: int = 0) -> "Tree":
        """The tree that has these entries; a directory must come before what is in it."""
        raw = bytearray(cls._HEADER.pack(len(entries), left_out))
        offsets = {"": 0}
        for path, entry in entries.items():
            parent, _, name = path.rpartition("/")
            encoded = name.encode("utf-8", "surrogateescape")
            offsets[path] = len(raw)
            stat = (entry.size, entry.mtime_ns, entry.ctime_ns, entry.inode, entry.mode)
            raw += cls._NODE.pack(*stat, offsets[parent], len(encoded), len(entry.target)) + encoded + entry.target
            raw += bytes(-len(raw) % 8)
        return cls(bytes(raw))


class TreeChange(NamedTuple):
    """One path of a tree and what it becomes."""

    path: str
    """Relative to the root, without `.` and `..`."""
    mode: int
    """0o100644, 0o100755, or 0o120000 for a symbolic link."""
    content: bytes | None
    """Content of the file, or the link's target; None removes the path, be it a file, a link or a directory."""


class Sandbox(Protocol):
    """Calls of one sandbox run one at a time; different sandboxes run in parallel.

    `settle`, `list_tree`, `read_tree`, `change_tree` and `read_output` use no program, library or configuration of the
    sandbox, so nothing that a command did to it can change what they say. Links are never followed, except in the path
    of a root.
    """

    id: str
    private_dir: str
    """Directory in the sandbox for files of the caller's own. It exists, and lies outside of `workdir`."""
    layer: str | None
    """Key of the kept layer that it started on; None if it started on the image."""
    settle_command: str
    """A line of bash, made of builtins alone, with which a command ends every process of the sandbox but its own shell.
    When it returns, all of them have been killed; the last may take a moment to be gone."""

    async def run(
        self,
        command: str,
        *,
        timeout_s: float,
        wall_s: float | None = None,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        max_output_bytes: int = 10_000,
    ) -> ExecResult:
        """Run a bash command line in a fresh subshell with closed stdin; raises `SandboxDead`.

        `timeout_s` counts on a clock that stops while the sandbox gets less processor than it could use for causes
        outside of it, until `wall_s` have passed; `wall_s` defaults to `timeout_s`, so that the clock is the wall's.
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

    async def settle(self) -> int:
        """End every process that any command started; returns how many there were. When it returns, none is left.
        Raises `SandboxDead`, also where a process cannot be ended."""
        ...

    async def list_tree(self, root: str, *, max_entries: int = 500_000) -> Tree:
        """List everything below the directory `root`. A `.git` at any depth is listed, but not entered.

        It first waits until the kernel's coarse clock has moved (some milliseconds): whatever changes afterwards has a
        later `ctime_ns` than everything listed. Beyond `max_entries` names, 128 levels, or below a directory whose path
        has more than 4,095 bytes, names are left out and counted. Raises `OSError` and its subclasses (`EFBIG`: names
        and targets of links take more than 256 MiB), `SandboxDead`.
        """
        ...

    async def read_tree(
        self, root: str, paths: Sequence[str], *, max_bytes: int = 64 << 20, max_total_bytes: int = 1 << 30
    ) -> list[bytes | None]:
        """Contents of regular files, by paths relative to `root`; None for what is not there, is no regular file, or
        cannot be read because it belongs to another user.

        None too for a file of more than `max_bytes`, and for what would bring the sum over `max_total_bytes`. Raises
        `OSError` and its subclasses, `SandboxDead`.
        """
        ...

    async def change_tree(self, root: str, changes: Sequence[TreeChange]) -> None:
        """Change paths below `root`: first all removals, then the others in their order.

        A removal that finds nothing is no error; directories that it leaves empty go too, as with git. A file or link
        takes the place of whatever stands there, a whole directory included; missing parents are made. Modes are
        exact. Raises `OSError` and its subclasses with the path: `NotADirectoryError` where a link or file stands in
        the place of a parent; `SandboxDead`.
        """
        ...

    async def read_output(self, *, offset: int = 0, max_bytes: int = 64 << 20) -> bytes:
        """At most `max_bytes` of what the last command wrote, from `offset` on, whatever became of its file's name.

        Raises `OSError` (no command ran yet), `SandboxDead`."""
        ...

    async def limit_hits(self) -> LimitHits:
        """What the sandbox's limits did to it so far, also after it has died or was closed. Never raises: what cannot
        be read any more is as it was last known."""
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
    """Starts sandboxes of one kind, inside of one `async with`.

    Making one takes nothing of the host; it may refuse what cannot work (`UserError`).
    """

    name: str
    """Names the kind in lists and messages."""

    async def __aenter__(self) -> Self:
        """Take what all sandboxes share: connections, threads. Called once."""
        ...

    async def __aexit__(self, *exc: object) -> None:
        """Give it back, within a bounded time. All its sandboxes have been closed by then."""
        ...

    async def answers(self) -> bool:
        """Does what starts the sandboxes answer? False if for example the engine is down. Bounded, never raises."""
        ...

    async def image_digest(self, image: str) -> str:
        """What the image is now, as a digest; raises `UserError` if there is none, naming how to get it."""
        ...

    def open(self, spec: SandboxSpec) -> AbstractAsyncContextManager[Sandbox]:
        """Start a sandbox for the length of an `async with`; raises `StartError`, or `UserError` if the host lacks
        something, naming what to install."""
        ...

    async def has_layer(self, spec: SandboxSpec) -> bool | None:
        """Is there the layer that `spec.layer` names, for the spec's image? None where none can be kept. One that is
        there stays until this process ends."""
        ...

    def make_layer(self, spec: SandboxSpec) -> AbstractAsyncContextManager[Sandbox]:
        """Start a sandbox on the image; what was written in it by the end of the block becomes the layer `spec.layer`,
        in one step. If the block raises, nothing is kept. Raises what `open` raises, and `InfrastructureError` or
        `OSError` if the layer cannot be kept."""
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


@runtime_checkable
class FetchesImages(Protocol):
    """What a `SandboxBackend` may do beyond that: bring an image to this host before a sandbox of it starts."""

    async def fetch_image(self, image: str) -> None:
        """Have the image here, as far as this backend can; quick where it is. Raises what `SandboxBackend.open` raises,
        and `OSError`. What a cancelled call leaves half done, the next one does again."""
        ...
