"""`WardenSandbox`: the `Sandbox` protocol on top of a control channel; returned by both real backends."""

import asyncio
import contextlib
import hashlib
import os
import platform
import struct
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, assert_never

from swe_aem.core import BASE_ENV, ExecResult, LimitHits, Limits, SandboxSpec, Tree, TreeChange
from swe_aem.errors import ImageLost, InfrastructureError, SandboxDead, TaskUnusable, UserError
from swe_aem.sandbox.channel import Channel, Operation

_RUN = struct.Struct("<IIII")
_RESULT = struct.Struct("<IIIIIIQQQQII")
_KILLED_FOR = {0: None, 1: "timeout", 2: "disk", 3: None, 4: "starved"}

GUARD_S = 30.0
"""The host waits this much longer than the warden's own limit before it declares a sandbox dead."""
TREE_S = 120.0
"""The host's guard for listing, reading or changing a tree, which a slow disk can make slow."""
LONGEST_ARGUMENT_BYTES = 120_000
"""Linux refuses a single argument of 128 KiB; longer command lines are sent as a file."""
LARGEST_FILE_BYTES = 1 << 30
REQUEST_BYTES = 8 << 20
"""Contents that one request to read or change a tree carries, if a single file is not larger: the warden holds them in
the sandbox's own memory."""
_NO_FILE = 0xFFFFFFFF

CONDA_ACTIVATE = "/opt/miniconda3/bin/activate"
"""Where SWE-bench images keep conda; their environment `testbed` holds the project's dependencies."""

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def environment(image: Mapping[str, str], spec: Mapping[str, str]) -> dict[str, str]:
    """Variables of every command: the image's own over two defaults, then ours, then those of the spec."""
    return {"PATH": DEFAULT_PATH, "HOME": "/root", **image, **BASE_ENV, **spec}


def warden_binary(machine: str | None = None) -> Path:
    """The warden for an architecture (default: this host's); raises `UserError` if there is none."""
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(machine or platform.machine(), machine or platform.machine())
    path = Path(__file__).parent / "bin" / f"warden-{machine}"
    if not path.exists():
        raise UserError(f"no warden for {machine}; build one with sandboxes/warden/build.sh")
    return path


def warden_digest(binary: Path) -> str:
    """Short content hash of a warden binary, used in the names of volumes that contain it."""
    return hashlib.sha256(binary.read_bytes()).hexdigest()[:12]


def cpu_millis(limits: Limits) -> str:
    """The limit of processors as the warden takes it: thousandths of one, 0 for no limit."""
    return str(0 if limits.cpus is None else max(1, int(limits.cpus * 1000)))


def is_blackhole(network: Literal["none", "blackhole"]) -> bool:
    """Are packets to other hosts swallowed, rather than refused?"""
    match network:
        case "none":
            return False
        case "blackhole":
            return True
        case unknown:
            assert_never(unknown)


def check_workdir(workdir: str) -> None:
    """Raises `TaskUnusable` where a directory cannot be a sandbox's work tree."""
    if not workdir.startswith("/") or os.path.normpath(workdir).strip("/") == "":
        raise TaskUnusable(
            f"workdir {workdir!r} cannot be a work tree: it must be an absolute path, and not the whole file system"
        )


class Meter(Protocol):
    """Counters of a sandbox, from its control group."""

    is_outside: ClassVar[bool]
    """Are they read on the host, without a request to the sandbox?"""

    async def limit_hits(self, sandbox: "WardenSandbox") -> LimitHits:
        """What the limits of memory and processes did so far; raises where nothing can be read any more."""
        ...

    async def peak_memory_bytes(self, sandbox: "WardenSandbox") -> int | None:
        """The most memory that the sandbox has held; None where nothing measures it."""
        ...


class ImageStorage(Protocol):
    """What a sandbox's image lies on, on the host."""

    async def trouble(self) -> str | None:
        """What has failed since the sandbox started, in words; None if it is as it was. Never raises."""
        ...


class WardenSandbox:
    """A live sandbox with a warden as its PID 1.

    `env` is the whole environment of its commands; `meter` reads the backend's counters; `dispose` ends what the
    backend started. What the sandbox answers counts only while `storage`, what its image lies on, is as it was: where
    it has failed, the sandbox is dead, and every call raises `ImageLost`. A command that could not be loaded looks like
    one that the policy got wrong, so the storage is looked at after each answer, whatever the answer is.
    """

    settle_command = "builtin kill -9 -1"  # spares PID 1, which no signal from inside reaches, and the shell itself

    def __init__(
        self,
        id: str,
        spec: SandboxSpec,
        channel: Channel,
        env: Mapping[str, str],
        meter: Meter,
        dispose: Callable[[], Coroutine[Any, Any, None]],
        storage: Sequence[ImageStorage] = (),
    ) -> None:
        self.id = id
        self.spec = spec
        self.layer = spec.layer
        self._channel = channel
        self.env = dict(env)
        self.private_dir = ""
        self._meter = meter
        self._hits = LimitHits()
        self._expires_s = time.monotonic() + spec.ttl_s
        self._dispose = dispose
        self._storage = storage
        self._image_lost: str | None = None
        self._closing: asyncio.Task[None] | None = None

    async def handshake(self, timeout_s: float) -> None:
        """Wait until the warden answers, then take over the image's conda environment where it has one.

        The environment is read once and set for every command: activating it again costs up to 0.3 s per call.
        """
        await self._ping(timeout_s)
        await self.limit_hits()
        if not self.spec.activate:
            return
        try:
            await self.read_file(CONDA_ACTIVATE)
        except OSError:
            return
        script = f". {CONDA_ACTIVATE} >/dev/null && conda activate testbed >/dev/null && env -0"
        result = await self.run(script, timeout_s=timeout_s, cwd="/", max_output_bytes=1 << 20)
        if result.exit_code != 0:
            raise SandboxDead(f"conda environment testbed cannot be activated: {result.output[-500:]}")
        for entry in result.head.decode("utf-8", "surrogateescape").split("\0"):
            name, separator, value = entry.partition("=")
            if separator and name not in ("_", "SHLVL", "PWD", "OLDPWD"):
                self.env[name] = value

    async def _ping(self, timeout_s: float) -> None:
        """Hear from the warden: how often the disk limit was passed, and where private files lie."""
        answer = await self._ask(Operation.PING, b"", timeout_s)
        (kills,) = struct.unpack_from("<Q", answer)
        self._hits = self._hits.model_copy(update={"disk_kills": kills})
        self.private_dir = os.fsdecode(answer[8:])

    async def _ask(self, operation: Operation, payload: bytes, timeout_s: float) -> bytes:
        try:
            answer = await self._channel.request(operation, payload, timeout_s=timeout_s)
        except OSError:
            await self._require_image()
            raise
        except SandboxDead as error:
            await self._require_image()
            over = f"; its time to live of {self.spec.ttl_s:g} s is over" if time.monotonic() > self._expires_s else ""
            raise SandboxDead(f"sandbox {self.id} is gone: {error}{over}") from None
        await self._require_image()
        return answer

    async def _require_image(self) -> None:
        """Raise `ImageLost`, now and ever after, once what the image lies on has failed."""
        for storage in self._storage:
            if self._image_lost is None and (trouble := await storage.trouble()) is not None:
                self._image_lost = f"the image of sandbox {self.id} was lost: {trouble}"
                self._channel.give_up(self._image_lost)
        if self._image_lost is not None:
            raise ImageLost(self._image_lost)

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
        """Run a bash command line in a fresh subshell; see the protocol `Sandbox` for the arguments and errors."""
        line = command.encode("utf-8", "surrogateescape")
        if b"\0" in line:
            raise ValueError("a command line cannot hold a NUL byte")
        if len(line) > LONGEST_ARGUMENT_BYTES:
            path = f"{self.private_dir}/{hashlib.sha256(line).hexdigest()[:16]}.sh"
            try:
                await self.write_file(path, line)
            except OSError as error:  # an agent may have broken the directory: the command fails, not the sandbox
                return _not_started(f"swe-aem: a command line this long needs {path}: {error.strerror}\n")
            line = f". {path}".encode()
        variables = {**self.env, **(env or {})}
        strings = [(cwd or self.spec.workdir).encode("utf-8", "surrogateescape"), line]
        strings += [f"{name}={value}".encode("utf-8", "surrogateescape") for name, value in variables.items()]
        head = max_output_bytes - max_output_bytes // 2
        wall_s = max(timeout_s, wall_s or 0.0)
        timeout_ms, wall_ms = (max(1, min(int(limit_s * 1000), 2**31)) for limit_s in (timeout_s, wall_s))
        payload = _RUN.pack(timeout_ms, head, max_output_bytes // 2, wall_ms) + b"".join(s + b"\0" for s in strings)
        try:
            answer = await self._ask(Operation.RUN, payload, wall_s + GUARD_S)
        except OSError as error:
            return _not_started(f"swe-aem: the command could not be run: {error.strerror}\n")
        return await self._result(answer)

    async def _result(self, answer: bytes) -> ExecResult:
        numbers = _RESULT.unpack_from(answer)
        code, why, killed, survivors, kept, call, wall_us, starved_us, cpu_us, size, head, tail = numbers
        if survivors:
            self._channel.give_up(f"{survivors} processes of a timed-out command could not be killed")
            raise SandboxDead(f"sandbox {self.id}: {self._channel.dead}")
        text = answer[_RESULT.size :]
        if _KILLED_FOR[why] == "disk":
            self._hits = self._hits.model_copy(update={"disk_kills": self._hits.disk_kills + 1})
        before = self._hits
        after = await self._measured() if code or self._meter.is_outside else before
        return ExecResult(
            exit_code=code,
            head=text[:head],
            tail=text[head : head + tail],
            output_bytes=size,
            output_path=f"{self._output_dir}/{call:06d}.log" if kept else "(it could not be kept in a file)",
            wall_s=wall_us / 1e6,
            starved_s=starved_us / 1e6,
            cpu_s=cpu_us / 1e6 or None,
            killed_for=_KILLED_FOR[why],  # type: ignore[arg-type]
            killed=killed,
            oom=after.oom_kills > before.oom_kills,
            limit_hits=after,
        )

    @property
    def own_dirs(self) -> tuple[str, str]:
        """Directories of the sandbox that hold nothing of the image: private files, and the output of commands."""
        return self.private_dir, self._output_dir

    @property
    def _output_dir(self) -> str:
        return os.path.join(os.path.dirname(self.private_dir), "swe-aem-output")

    def _absolute(self, path: str) -> bytes:
        return _text(path if path.startswith("/") else f"{self.spec.workdir}/{path}")

    async def read_file(self, path: str, *, max_bytes: int = 64 << 20) -> bytes:
        """Content of a regular file; raises `OSError` and its subclasses, `SandboxDead`."""
        try:
            payload = struct.pack("<Q", max_bytes) + self._absolute(path)
            return await self._ask(Operation.READ, payload, GUARD_S)
        except OSError as error:
            raise type(error)(error.errno, error.strerror, path) from None

    async def write_file(self, path: str, data: bytes) -> None:
        """Replace or create a file and its parents; raises `OSError` and its subclasses, `SandboxDead`."""
        if len(data) > LARGEST_FILE_BYTES:
            raise ValueError(f"{path}: {len(data)} bytes are more than {LARGEST_FILE_BYTES}")
        try:
            await self._ask(Operation.WRITE, self._absolute(path) + data, GUARD_S + len(data) / 1e6)
        except OSError as error:
            raise type(error)(error.errno, error.strerror, path) from None

    async def settle(self) -> int:
        """End every process but the warden; returns how many there were. Raises `SandboxDead`."""
        ended, survivors = struct.unpack("<II", await self._ask(Operation.SETTLE, b"", GUARD_S))
        if survivors:
            self._channel.give_up(f"{survivors} processes could not be ended")
            raise SandboxDead(f"sandbox {self.id}: {self._channel.dead}")
        return ended

    async def list_tree(self, root: str, *, max_entries: int = 500_000) -> Tree:
        """List everything below `root`; see the protocol `Sandbox`."""
        payload = struct.pack("<II", max_entries, 0) + self._absolute(root)
        try:
            return Tree(await self._ask(Operation.LIST_TREE, payload, TREE_S))
        except OSError as error:
            raise type(error)(error.errno, error.strerror, root) from None

    async def read_tree(
        self, root: str, paths: Sequence[str], *, max_bytes: int = 64 << 20, max_total_bytes: int = 1 << 30
    ) -> list[bytes | None]:
        """Contents of regular files below `root`; see the protocol `Sandbox`."""
        found: list[bytes | None] = []
        names = [_text(path) for path in paths]
        left = max_total_bytes
        while len(found) < len(names):
            head = struct.pack("<QQ", min(max_bytes, left, LARGEST_FILE_BYTES), REQUEST_BYTES) + self._absolute(root)
            batch = b"".join(names[len(found) : len(found) + 4096])
            for content in _contents(await self._ask(Operation.READ_TREE, head + batch, TREE_S)):
                fits = content is not None and len(content) <= left
                found.append(content if fits else None)
                left -= len(content) if fits and content is not None else 0
        return found

    async def change_tree(self, root: str, changes: Sequence[TreeChange]) -> None:
        """Change paths below `root`; see the protocol `Sandbox`."""
        removals = [_change(change) for change in changes if change.content is None]
        writes = (_change(change) for change in changes if change.content is not None)
        for group in (removals, writes):
            for batch in _batches(group, REQUEST_BYTES):
                await self._ask(Operation.CHANGE_TREE, self._absolute(root) + batch, TREE_S + len(batch) / 1e6)

    async def read_output(self, *, offset: int = 0, max_bytes: int = 64 << 20) -> bytes:
        """What the last command wrote, from `offset` on; raises `OSError`, `SandboxDead`."""
        return await self._ask(Operation.READ_OUTPUT, struct.pack("<QQ", max_bytes, offset), GUARD_S + max_bytes / 1e8)

    async def limit_hits(self) -> LimitHits:
        """What the sandbox's limits did to it so far; as last known once nothing can be read any more."""
        with contextlib.suppress(SandboxDead):
            await self._ping(GUARD_S)
        return await self._measured()

    async def _measured(self) -> LimitHits:
        """What the limits did, as far as the control group knows."""
        with contextlib.suppress(InfrastructureError, OSError):
            measured = await self._meter.limit_hits(self)
            self._hits = LimitHits(
                oom_kills=max(measured.oom_kills, self._hits.oom_kills),
                pids_refused=max(measured.pids_refused, self._hits.pids_refused),
                disk_kills=self._hits.disk_kills,
            )
        return self._hits

    async def peak_memory_bytes(self) -> int | None:
        """The most memory that the sandbox has held so far; None where nothing measures it."""
        return await self._meter.peak_memory_bytes(self)

    async def alive(self) -> bool:
        """Can a command be run? Never raises."""
        if self._channel.dead is not None:
            return False
        try:
            await self._channel.request(Operation.PING, b"", timeout_s=GUARD_S)
        except SandboxDead:
            return False
        return True

    async def close(self) -> None:
        """End the sandbox; idempotent. Runs to its end even if the caller is cancelled."""
        if self._closing is None:
            died = self._channel.dead is not None
            self._channel.give_up("it was closed")
            self._closing = asyncio.create_task(self._end(died))
        await asyncio.shield(self._closing)

    async def _end(self, died: bool) -> None:
        if died:  # the last moment at which anybody can say whether its own limits did it
            await self.limit_hits()
        await self._dispose()


def _text(text: str) -> bytes:
    """A path as the warden takes it."""
    encoded = os.fsencode(text)
    if b"\0" in encoded:
        raise ValueError("a path cannot hold a NUL byte")
    return encoded + b"\0"


def _contents(reply: bytes) -> Iterator[bytes | None]:
    """The files of a reply to `READ_TREE`."""
    at = 0
    while at < len(reply):
        (size,) = struct.unpack_from("<I", reply, at)
        at += 4
        if size == _NO_FILE:
            yield None
        else:
            yield reply[at : at + size]
            at += size


def _change(change: TreeChange) -> bytes:
    """A change as the warden takes it."""
    if change.content is None:
        return struct.pack("<II", 0, 0) + _text(change.path)
    if len(change.content) > LARGEST_FILE_BYTES:
        raise ValueError(f"{change.path}: {len(change.content)} bytes are more than {LARGEST_FILE_BYTES}")
    if change.mode not in (0o100644, 0o100755, 0o120000):
        raise ValueError(f"{change.path}: mode {change.mode:o} is none of 100644, 100755 and 120000")
    return struct.pack("<II", change.mode, len(change.content)) + _text(change.path) + change.content


def _batches(parts: Iterable[bytes], most_bytes: int) -> Iterator[bytes]:
    """The parts in their order, joined to pieces of about `most_bytes`."""
    batch = bytearray()
    for part in parts:
        if batch and len(batch) + len(part) > most_bytes:
            yield bytes(batch)
            batch.clear()
        batch += part
    if batch:
        yield bytes(batch)


def _not_started(why: str) -> ExecResult:
    """The result of a command that could not be handed to the shell."""
    said = why.encode()
    return ExecResult(
        exit_code=126, head=said, tail=b"", output_bytes=len(said), output_path="(none)", wall_s=0.0, started=False
    )
