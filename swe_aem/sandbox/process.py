"""Sandboxes that are processes of this host: what starts, counts, lists and ends them.

`ProcessBackend` is for backends of anybody's, which are then little more than a command line.
"""

import asyncio
import contextlib
import logging
import os
import shlex
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, ClassVar, Self

from swe_aem.core import LimitHits, Sandbox, SandboxInfo, SandboxSpec, TreeChange
from swe_aem.core.owner import Lease, start_ticks
from swe_aem.errors import SandboxDead, StartError, UserError
from swe_aem.sandbox import cgroup
from swe_aem.sandbox.capabilities import for_warden, mask
from swe_aem.sandbox.channel import Channel
from swe_aem.sandbox.roots import LiveSandbox, live_sandboxes, state_dir
from swe_aem.sandbox.warden import (
    DEFAULT_PATH,
    WardenSandbox,
    check_workdir,
    cpu_millis,
    environment,
    is_blackhole,
    warden_binary,
)

logger = logging.getLogger(__name__)

_START_TIMEOUT_S = 30.0
CLOSE_TIMEOUT_S = 30.0
_KILL_AFTER_S = 0.5
_WRITE_S = 60.0
_JOIN = 'for group in $0; do echo 0 > "$group"; done; exec "$@"'
"""Joins control groups, whose files are the shell's own name, and becomes a command."""


@dataclass
class Running:
    """The host's resources of one sandbox: its directory, control group and process tree."""

    home: Path
    group: cgroup.Cgroup | None = None
    process: subprocess.Popen[bytes] | None = None

    async def end(self) -> None:
        """Wait for the process tree to go (its channel is closed), kill it if it does not, remove what it used."""
        if self.process is not None:
            started, pause_s = time.monotonic(), 0.001
            while self.process.poll() is None:
                waited_s = time.monotonic() - started
                if waited_s > _KILL_AFTER_S:
                    kill_group(self.process.pid)
                if waited_s > CLOSE_TIMEOUT_S:
                    raise SandboxDead(f"process group {self.process.pid} of a sandbox cannot be ended")
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, 0.05)
        await asyncio.to_thread(forget, self.group, self.home)


@dataclass(frozen=True)
class GroupMeter:
    """The counters of the control group on the host."""

    running: Running
    is_outside: ClassVar[bool] = True

    async def limit_hits(self, sandbox: WardenSandbox) -> LimitHits:
        """What the limits of memory and processes did so far; the group is there until the sandbox is closed."""
        return self.running.group.limit_hits() if self.running.group else LimitHits()

    async def peak_memory_bytes(self, sandbox: WardenSandbox) -> int | None:
        """The most memory that the sandbox has held; None where the kernel does not say."""
        return self.running.group.peak_memory_bytes() if self.running.group else None


def spawn(command: list[str], complaints: IO[bytes]) -> tuple[socket.socket, subprocess.Popen[bytes]]:
    """Start a process tree; returns the host's end of its stdin and stdout.

    For the event loop's thread, which lives as long as the run: bubblewrap dies with the thread that started it.
    """
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            command,
            stdin=theirs.fileno(),
            stdout=theirs.fileno(),
            stderr=complaints,
            start_new_session=True,  # a Ctrl-C must not reach the sandbox
            env={"PATH": DEFAULT_PATH},
        )
    return ours, process


def enter_command(sandbox: Sandbox, warden: Path) -> list[str]:
    """A command line that enters a sandbox of this host by nsenter, with no more privileges than its commands have."""
    assert isinstance(sandbox, WardenSandbox)
    (entry,) = [entry for entry in live_sandboxes() if entry.id == sandbox.id]
    env = [f"{name}={value}" for name, value in sandbox.env.items()]
    inside = f"cd {shlex.quote(sandbox.spec.workdir)} && exec bash --norc"
    # The sandbox does not show the warden, so it is opened before entering.
    hold = ["sh", "-c", 'exec 9<"$0"; exec "$@"', str(warden)]
    enter = ["nsenter", "--target", str(warden_pid(entry)), "--all", "env", "-i", *env]
    confine = ["/proc/self/fd/9", "confine", str(mask(sandbox.spec.capabilities))]
    return [*hold, *enter, *confine, "/bin/bash", "-c", inside]


def info_of(entry: LiveSandbox, backend: str) -> SandboxInfo:
    """The row of `swe-aem sandbox ls` for a record of the state directory."""
    return SandboxInfo(
        id=entry.id,
        backend=backend,
        image=entry.image,
        owner_alive=entry.lease.owner.alive(),
        expired=entry.lease.expired,
        age_s=max(0.0, time.time() - entry.lease.created_s),
        labels=entry.labels,
    )


def warden_pid(entry: LiveSandbox) -> int:
    """Host pid of the sandbox's PID 1, which runs in the process group that the entry names."""
    for status in Path("/proc").glob("[0-9]*/status"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            fields = dict(line.split(":\t", 1) for line in status.read_text().splitlines() if ":\t" in line)
            if fields["NSpgid"].split()[0] == str(entry.pid) and fields["NSpid"].split()[1:] == ["1"]:
                return int(fields["Pid"])
    raise SandboxDead(f"sandbox {entry.id} is gone")


def kill_group(pid: int) -> None:
    """Kill a process group; one that is gone is no error."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def forget(group: cgroup.Cgroup | None, home: Path) -> None:
    """Remove what is left of an ended sandbox."""
    if group is not None and not group.remove():
        logger.warning("the kernel still holds a control group of %s; `swe-aem sandbox prune` tries again", home.name)
        return
    shutil.rmtree(home, ignore_errors=True)


class ProcessBackend:
    """A backend whose sandboxes are what a command line of this host starts. For backends of anybody's.

    The command isolates the warden, a static program of this package: it has to become PID 1 of a PID namespace, or of
    a machine, of its own, with the command's stdin and stdout. The warden does the rest. A subclass has `name`,
    `command_line` and `image_digest`. The limits of memory, processors and processes are those of a control group of
    this host, which the command runs in; that of the disk is the command line's.
    """

    name: str

    def __init__(self) -> None:
        self.warden = warden_binary()
        """The warden, on this host. The command has to show it inside, where `serve` names it."""

    def command_line(self, spec: SandboxSpec) -> list[str]:
        """What starts a sandbox: a program that isolates, its arguments, and `serve(spec, at)` behind them.

        Nothing of the host may be writable inside but what vanishes with the sandbox. Raises `UserError` for what the
        backend cannot do, e.g. another user than root.
        """
        raise NotImplementedError

    async def image_digest(self, image: str) -> str:
        """A digest of what an image is now; raises `UserError` if there is none, naming how to get it."""
        raise NotImplementedError

    def environment(self, image: str) -> Mapping[str, str]:
        """Variables that an image sets for every command."""
        return {}

    def serve(self, spec: SandboxSpec, at: str) -> list[str]:
        """The command line of the warden, which is seen at this path inside."""
        blackhole = is_blackhole(spec.network)
        limits = [str(int(spec.ttl_s)), str(spec.limits.disk_bytes or 0), str(mask(spec.capabilities))]
        return [at, "serve", *limits, str(int(blackhole)), spec.workdir, cpu_millis(spec.limits), "0"]

    def capabilities(self, spec: SandboxSpec) -> list[str]:
        """Names, without `CAP_`, of the capabilities that the warden starts with. It drops all that commands have not
        before the first one."""
        return for_warden(spec.capabilities, network=is_blackhole(spec.network))

    async def __aenter__(self) -> Self:
        """Nothing has to be taken."""
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Nothing has to be given back."""

    async def answers(self) -> bool:
        """True: no engine is needed."""
        return True

    @asynccontextmanager
    async def open(self, spec: SandboxSpec) -> AsyncIterator[WardenSandbox]:
        """Start a sandbox for the length of an `async with`; raises what `SandboxBackend.open` raises."""
        check_workdir(spec.workdir)
        mask(spec.capabilities)  # raises for one that no sandbox may keep
        await self.image_digest(spec.image)
        try:
            sandbox = await self._start(spec)
        except OSError as error:
            raise StartError(f"{self.name} did not start: {error}") from error
        try:
            await _fill(sandbox, spec)
            yield sandbox
        finally:
            await sandbox.close()

    async def _start(self, spec: SandboxSpec) -> WardenSandbox:
        command = self.command_line(spec)
        id = f"{self.name}-{uuid.uuid4().hex[:12]}"
        running = Running(home=state_dir() / id)
        lease = Lease.start(spec.ttl_s)
        entry = LiveSandbox(id=id, image=spec.image, pid=None, start_ticks=None, lease=lease, labels=spec.labels)
        with tempfile.TemporaryFile() as complaints:
            try:
                running.home.mkdir()
                entry.save()
                running.group = cgroup.create(id, spec.limits)
                groups = " ".join(map(str, running.group.procs)) if running.group else ""
                connection, running.process = spawn(["/bin/sh", "-c", _JOIN, groups, *command], complaints)
                pid = running.process.pid
                entry.model_copy(update={"pid": pid, "start_ticks": start_ticks(pid)}).save()
                channel = await Channel.connect(connection)
            except BaseException:
                await asyncio.shield(running.end())
                raise
            variables = environment(self.environment(spec.image), spec.env)
            sandbox = WardenSandbox(id, spec, channel, variables, GroupMeter(running), running.end)
            await answered(sandbox, complaints, self.name)
        return sandbox

    async def has_layer(self, spec: SandboxSpec) -> bool | None:
        """None: no layers are kept."""
        return None

    def make_layer(self, spec: SandboxSpec) -> AbstractAsyncContextManager[Sandbox]:
        """Nobody asks for it where `has_layer` is None."""
        raise UserError(f"{self.name} keeps no layers")

    async def ls(self) -> list[SandboxInfo]:
        """Every sandbox of this backend on this host, of all runs."""
        return [info_of(entry, self.name) for entry in self._entries()]

    async def prune(self, *, everything: bool = False) -> list[str]:
        """Remove sandboxes whose owner is gone or whose deadline has passed, or all; returns their ids."""
        gone = []
        groups = cgroup.leftovers()
        for entry in self._entries():
            if everything or entry.lease.orphaned:
                await asyncio.to_thread(end_entry, entry, groups.get(entry.id))
                gone.append(entry.id)
        return gone

    def shell_command(self, sandbox: Sandbox) -> list[str]:
        """A command line that enters the sandbox by nsenter."""
        return enter_command(sandbox, self.warden)

    def _entries(self) -> list[LiveSandbox]:
        return [entry for entry in live_sandboxes() if entry.id.startswith(f"{self.name}-")]


def end_entry(entry: LiveSandbox, group: cgroup.Cgroup | None) -> None:
    """End the process tree of a recorded sandbox, if it still runs, and remove what it used."""
    if entry.pid is not None and start_ticks(entry.pid) == entry.start_ticks:
        kill_group(entry.pid)
    forget(group, state_dir() / entry.id)


async def answered(sandbox: WardenSandbox, complaints: IO[bytes], launcher: str) -> None:
    """Wait until the warden of a spawned sandbox answers. Otherwise closes it and raises `StartError` with what its
    processes complained of."""
    try:
        await sandbox.handshake(_START_TIMEOUT_S)
    except BaseException as error:
        await sandbox.close()
        complaints.seek(0)
        said = complaints.read().decode("utf-8", "replace").strip()
        if isinstance(error, SandboxDead):
            raise StartError(f"{launcher} did not start: {said or error}") from None
        raise


async def _fill(sandbox: WardenSandbox, spec: SandboxSpec) -> None:
    """Make the work tree, with a copy of the workspace in it."""
    made = await sandbox.run(f"mkdir -p {shlex.quote(spec.workdir)}", timeout_s=_WRITE_S, cwd="/")
    if made.exit_code != 0:
        raise StartError(f"the work tree {spec.workdir} cannot be made: {made.output.strip()}")
    if spec.workspace is not None:
        changes = await asyncio.to_thread(lambda: list(_copied(Path(spec.workspace or ""))))
        await sandbox.change_tree(spec.workdir, changes)


def _copied(workspace: Path) -> Iterator[TreeChange]:
    """Every file and link below a directory; git has no empty directories, and neither has a copy."""
    for directory, folders, files in os.walk(workspace):
        for path in (Path(directory) / name for name in (*folders, *files)):
            relative = str(path.relative_to(workspace))
            if path.is_symlink():
                yield TreeChange(relative, 0o120000, os.fsencode(path.readlink()))
            elif path.is_file():
                mode = 0o100755 if path.stat().st_mode & 0o100 else 0o100644
                yield TreeChange(relative, mode, path.read_bytes())
