"""`WardenSandbox`: the `Sandbox` protocol on top of a control channel; returned by both real backends."""

import asyncio
import hashlib
import platform
import struct
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any, Literal, Protocol, assert_never

from swe_aem.core import ExecResult, SandboxSpec
from swe_aem.errors import SandboxDead, UserError
from swe_aem.sandbox.channel import Channel, Operation

_RUN = struct.Struct("<IIII")
_RESULT = struct.Struct("<IIIIIIQQII")
_KILLED_FOR = {0: None, 1: "timeout", 2: "disk", 3: None}

GUARD_S = 30.0
"""The host waits this much longer than the warden's own limit before it declares a sandbox dead."""
LONGEST_ARGUMENT_BYTES = 120_000
"""Linux refuses a single argument of 128 KiB; longer command lines are sent as a file."""
LARGEST_FILE_BYTES = 1 << 30

CONDA_ACTIVATE = "/opt/miniconda3/bin/activate"
"""Where SWE-bench images keep conda; their environment `testbed` holds the project's dependencies."""

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
"""Set for every command: no pagers, colours or progress bars in what an agent reads."""


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


def is_blackhole(network: Literal["none", "blackhole"]) -> bool:
    """Are packets to other hosts swallowed, rather than refused?"""
    match network:
        case "none":
            return False
        case "blackhole":
            return True
        case unknown:
            assert_never(unknown)


class Meter(Protocol):
    """Counters of a sandbox, from its control group."""

    async def oom_kills(self, sandbox: "WardenSandbox") -> int:
        """Processes that the memory limit has ended so far."""
        ...

    async def peak_memory_bytes(self, sandbox: "WardenSandbox") -> int | None:
        """The most memory that the sandbox has held; None where nothing measures it."""
        ...


class WardenSandbox:
    """A live sandbox with a warden as its PID 1.

    `env` is the whole environment of its commands; `meter` reads the backend's counters; `dispose` ends what the
    backend started.
    """

    def __init__(
        self,
        id: str,
        spec: SandboxSpec,
        channel: Channel,
        env: Mapping[str, str],
        meter: Meter,
        dispose: Callable[[], Coroutine[Any, Any, None]],
    ) -> None:
        self.id = id
        self.spec = spec
        self._channel = channel
        self.env = dict(env)
        self._meter = meter
        self._ooms = 0
        self._dispose = dispose
        self._closing: asyncio.Task[None] | None = None

    async def handshake(self, timeout_s: float) -> None:
        """Wait until the warden answers, then take over the image's conda environment where it has one.

        The environment is read once and set for every command: activating it again costs up to 0.3 s per call.
        """
        await self._channel.request(Operation.PING, b"", timeout_s=timeout_s)
        self._ooms = await self._meter.oom_kills(self)
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

    async def _ask(self, operation: Operation, payload: bytes, timeout_s: float) -> bytes:
        try:
            return await self._channel.request(operation, payload, timeout_s=timeout_s)
        except SandboxDead as error:
            raise SandboxDead(f"sandbox {self.id} is gone: {error}") from None

    async def run(
        self,
        command: str,
        *,
        timeout_s: float,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        max_output_bytes: int = 10_000,
    ) -> ExecResult:
        """Run a bash command line in a fresh subshell; see the protocol `Sandbox` for the arguments and errors."""
        line = command.encode("utf-8", "surrogateescape")
        if b"\0" in line:
            raise ValueError("a command line cannot hold a NUL byte")
        if len(line) > LONGEST_ARGUMENT_BYTES:
            path = f"/tmp/swe-aem-output/{hashlib.sha256(line).hexdigest()[:16]}.sh"
            try:
                await self.write_file(path, line)
            except OSError as error:  # an agent may have broken the directory: the command fails, not the sandbox
                return _not_started(f"swe-aem: a command line this long needs {path}: {error.strerror}\n")
            line = f". {path}".encode()
        variables = {**self.env, **(env or {})}
        strings = [(cwd or self.spec.workdir).encode("utf-8", "surrogateescape"), line]
        strings += [f"{name}={value}".encode("utf-8", "surrogateescape") for name, value in variables.items()]
        head = max_output_bytes - max_output_bytes // 2
        timeout_ms = max(1, min(int(timeout_s * 1000), 2**31))
        payload = _RUN.pack(timeout_ms, head, max_output_bytes // 2, 0) + b"".join(s + b"\0" for s in strings)
        answer = await self._ask(Operation.RUN, payload, timeout_s + GUARD_S)
        return await self._result(answer)

    async def _result(self, answer: bytes) -> ExecResult:
        code, why, killed, survivors, kept, call, wall_us, size, head, tail = _RESULT.unpack_from(answer)
        if survivors:
            self._channel.give_up(f"{survivors} processes of a timed-out command could not be killed")
            raise SandboxDead(f"sandbox {self.id}: {self._channel.dead}")
        text = answer[_RESULT.size :]
        ooms = await self._meter.oom_kills(self) if code else self._ooms
        oom, self._ooms = ooms > self._ooms, ooms
        return ExecResult(
            exit_code=code,
            head=text[:head],
            tail=text[head : head + tail],
            output_bytes=size,
            output_path=f"/tmp/swe-aem-output/{call:06d}.log" if kept else "(the disk was full, it was not kept)",
            wall_s=wall_us / 1e6,
            killed_for=_KILLED_FOR[why],  # type: ignore[arg-type]
            killed=killed,
            oom=oom,
        )

    def _absolute(self, path: str) -> bytes:
        joined = path if path.startswith("/") else f"{self.spec.workdir}/{path}"
        encoded = joined.encode("utf-8", "surrogateescape")
        if b"\0" in encoded:
            raise ValueError("a path cannot hold a NUL byte")
        return encoded + b"\0"

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
            self._channel.give_up("it was closed")
            self._closing = asyncio.create_task(self._dispose())
        await asyncio.shield(self._closing)


def _not_started(why: str) -> ExecResult:
    """The result of a command that could not be handed to the shell."""
    said = why.encode()
    return ExecResult(exit_code=126, head=said, tail=b"", output_bytes=len(said), output_path="(none)", wall_s=0.0)
