"""What the package's own sandboxes do beyond what every one must, which is `SandboxConformance`."""

import asyncio
import os
import subprocess
import uuid
from pathlib import Path
from typing import Any

import pytest

from swe_aem.core import ExecResult, Limits, Sandbox, SandboxBackend, SandboxSpec
from swe_aem.core.owner import Owner
from swe_aem.errors import SandboxDead, UserError
from swe_aem.sandbox import cgroup
from swe_aem.sandbox.bubblewrap import BubblewrapBackend
from swe_aem.testing.containment import breaches
from swe_aem.testing.sandbox import FakeSandbox
from tests.conftest import absent

COUNT_OTHERS = "set -- /proc/[0-9]*; echo $#"
"""Counts PID 1 and the shell itself: 2 when nothing else lives."""


LEADER_LEAVES = (
    "import ctypes, platform, threading, time; threading.Thread(target=time.sleep, args=(300,)).start(); "
    'ctypes.CDLL(None).syscall({"x86_64": 60, "aarch64": 93}[platform.machine()], 0)'
)
"""Ends the main thread only (the exit system call): the process looks like a zombie and lives."""


async def ours(backend: SandboxBackend, spec: SandboxSpec) -> list[str]:
    """Sandboxes of this test; other runs may have theirs on the same host."""
    return [info.id for info in await backend.ls() if info.labels == spec.labels]


async def others(sandbox: Sandbox) -> int:
    result = await sandbox.run(COUNT_OTHERS, timeout_s=60)
    return int(result.output) - 2


async def test_failures_are_results(sandbox: Sandbox) -> None:
    assert (await sandbox.run("exit 7", timeout_s=60)).exit_code == 7
    assert (await sandbox.run("kill -TERM $$", timeout_s=60)).exit_code == 128 + 15
    assert (await sandbox.run("no-such-program", timeout_s=60)).exit_code == 127
    result = await sandbox.run("true", timeout_s=10, cwd="/nowhere")
    assert result.exit_code == 126
    assert "/nowhere" in result.output


@pytest.mark.parametrize(
    "command",
    [
        pytest.param("sleep 300", id="plain child"),
        pytest.param("sleep 300 & sleep 300", id="background child"),
        pytest.param("setsid sleep 300 & sleep 300", id="setsid child"),
        pytest.param("(setsid bash -c 'sleep 300 & sleep 300' &) ; sleep 300", id="double fork"),
        pytest.param("trap '' TERM INT HUP; while :; do :; done", id="ignores signals"),
        pytest.param("while :; do setsid sleep 300 & sleep 0.01; done", id="keeps forking"),
        pytest.param(f"setsid python3 -c '{LEADER_LEAVES}' & sleep 300", id="main thread ended"),
    ],
)
async def test_a_timeout_leaves_no_process(sandbox: Sandbox, command: str) -> None:
    assert await others(sandbox) == 0
    result = await sandbox.run(command, timeout_s=0.5)
    assert (result.timed_out, result.exit_code) == (True, 124)
    assert result.killed >= 1
    assert result.wall_s < 5
    assert await others(sandbox) == 0


async def test_a_reply_in_the_turn_of_its_cancellation_spares_the_sandbox(sandbox: Sandbox) -> None:
    for delay_s in (0.0, 0.001, 0.002, 0.003, 0.004, 0.006):
        call = asyncio.create_task(sandbox.run("true", timeout_s=60))
        await asyncio.sleep(delay_s)
        call.cancel()
        await asyncio.wait([call])
    assert (await sandbox.run("echo fine", timeout_s=60)).output == "fine\n"


async def test_nothing_of_the_hosts_paths_shows_inside(sandbox: Sandbox, workspace: Path) -> None:
    seen = await sandbox.run("cat /proc/self/mountinfo /proc/mounts /proc/1/cmdline; env", timeout_s=60)
    assert str(workspace.parent) not in seen.output
    assert workspace.parent.name not in seen.output


@pytest.mark.parametrize("path", ["pipe", "/dev/zero", "/proc/self/fd/0"])
async def test_reading_what_could_block_is_refused(sandbox: Sandbox, path: str) -> None:
    await sandbox.run("mkfifo pipe", timeout_s=60)
    with pytest.raises(OSError):  # noqa: PT011  the errno differs, an answer at all is the point
        await asyncio.wait_for(sandbox.read_file(path), 60)
    assert await sandbox.alive()


async def test_the_workspace_of_the_host_stays_as_it_is(sandbox: Sandbox, workspace: Path) -> None:
    await sandbox.run("rm -rf package; echo more >> run.sh; touch new", timeout_s=60)
    assert sorted(path.name for path in workspace.iterdir()) == ["package", "run.sh"]
    assert (workspace / "run.sh").read_text() == "#!/bin/sh\necho ran\n"


async def test_no_privileges_and_no_way_to_the_host(sandbox: Sandbox, spec: SandboxSpec) -> None:
    assert await breaches(sandbox, processes=spec.limits.pids) == ()
    # A device that is made here can be opened here only, and nothing opens it.
    assert (await sandbox.run("mknod /tmp/disk b 8 0", timeout_s=60)).exit_code != 0
    assert await sandbox.alive()


class TooOpen(FakeSandbox):
    """Runs commands on the host itself: what a backend that isolates nothing would do. For harmless commands only."""

    def __init__(self, spec: SandboxSpec) -> None:
        super().__init__("too-open", spec)

    async def run(self, command: str, *, timeout_s: float, **_: Any) -> ExecResult:
        done = await asyncio.to_thread(subprocess.run, ["bash", "-c", command], capture_output=True, timeout=timeout_s)
        output = done.stdout + done.stderr
        return ExecResult(
            exit_code=done.returncode, head=output, tail=b"", output_bytes=len(output), output_path="", wall_s=0.0
        )

    async def read_file(self, path: str, **_: Any) -> bytes:
        return await asyncio.to_thread(Path(path).read_bytes)

    async def write_file(self, path: str, data: bytes) -> None:
        await asyncio.to_thread(Path(path).write_bytes, data)


async def test_the_probes_report_a_sandbox_that_is_too_open_and_change_nothing(spec: SandboxSpec) -> None:
    def state() -> list[str]:
        switches = [Path("/proc/sys/kernel/core_pattern"), Path("/proc/sys/kernel/sysrq")]
        mounts = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if line.split()[4] == "/tmp"]
        return [*(path.read_text() for path in switches if path.exists()), *mounts]

    before = state()
    found = await breaches(TooOpen(spec), processes=4)
    if os.geteuid() == 0 and os.access("/proc/sys/kernel/core_pattern", os.W_OK):
        assert "/proc/sys/kernel/core_pattern can be opened for writing" in found
        assert "/proc/sysrq-trigger can be opened for writing" in found or not os.path.exists("/proc/sysrq-trigger")
        assert "mount is permitted" in found
    assert {f"the {name} namespace is the host's" for name in ("mnt", "net", "pid")} < set(found)
    assert "the host's /tmp can be written to" in found
    assert "5 processes at once are more than the limit of 4" in found
    assert state() == before
    assert "swe-aem-containment.py" not in os.listdir("/tmp")


async def test_capabilities_are_kept_by_name(backend: SandboxBackend, spec: SandboxSpec) -> None:
    async with backend.open(spec.model_copy(update={"capabilities": ("CHOWN",)})) as sandbox:
        assert (await sandbox.run("chown 1234 run.sh && stat -c %u run.sh", timeout_s=60)).output == "1234\n"
    with pytest.raises(UserError, match="SYS_ADMIN"):
        async with backend.open(spec.model_copy(update={"capabilities": ("SYS_ADMIN",)})):
            pass


async def test_a_dead_sandbox_raises(backend: SandboxBackend, spec: SandboxSpec) -> None:
    async with backend.open(spec.model_copy(update={"ttl_s": 1.0})) as sandbox:
        assert await sandbox.alive()
        with pytest.raises(SandboxDead, match="its time to live of 1 s is over"):
            await sandbox.run("sleep 20", timeout_s=30)
        assert not await sandbox.alive()
        with pytest.raises(SandboxDead):
            await sandbox.read_file("run.sh")
        await sandbox.close()
    assert sandbox.id not in {info.id for info in await backend.ls()}


async def test_closing_is_idempotent_and_final(backend: SandboxBackend, spec: SandboxSpec) -> None:
    async with backend.open(spec) as sandbox:
        assert sandbox.id in {info.id for info in await backend.ls()}
        await asyncio.gather(sandbox.close(), sandbox.close())
        assert sandbox.id not in {info.id for info in await backend.ls()}
        with pytest.raises(SandboxDead):
            await sandbox.run("true", timeout_s=1)


async def test_cancelling_a_start_leaves_nothing(backend: SandboxBackend, spec: SandboxSpec) -> None:
    for delay_s in (0.0, 0.005, 0.02, 0.1, 0.3):

        async def start() -> None:
            async with backend.open(spec):
                await asyncio.sleep(30)

        starting = asyncio.create_task(start())
        await asyncio.sleep(delay_s)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        assert await ours(backend, spec) == [], delay_s


async def test_cancelled_starts_do_not_disturb_others(backend: SandboxBackend, spec: SandboxSpec) -> None:
    async def start() -> str:
        async with backend.open(spec) as sandbox:
            return (await sandbox.run("echo started", timeout_s=20)).output

    starting = [asyncio.create_task(start()) for _ in range(8)]
    for place, task in enumerate(starting[::2]):
        await asyncio.sleep(0.1 * place)
        task.cancel()
        starting.append(asyncio.create_task(start()))
    results = await asyncio.gather(*starting, return_exceptions=True)
    assert {result for result in results if not isinstance(result, asyncio.CancelledError)} == {"started\n"}


async def test_prune_removes_what_a_dead_process_left(
    backend: SandboxBackend, spec: SandboxSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with backend.open(spec) as sandbox:
        monkeypatch.setattr(Owner, "alive", lambda owner: owner.pid != os.getpid())
        assert sandbox.id in await backend.prune()
        assert not await sandbox.alive()
        assert await ours(backend, spec) == []


@pytest.mark.bubblewrap
async def test_prune_removes_empty_groups_that_no_record_names(require_bubblewrap: None) -> None:
    groups = {what: _group(what) for what in ("empty", "young", "busy")}
    foreign = _group("foreign", f"{uuid.uuid4().hex}{uuid.uuid4().hex}")  # as an engine names its containers
    with subprocess.Popen(["sleep", "600"]) as process:
        for procs in groups["busy"].procs:
            procs.write_text(str(process.pid))
        try:
            gone = await BubblewrapBackend().prune()
            left = cgroup.leftovers()
            assert groups["empty"].directories[0].name in gone
            assert {what for what, group in groups.items() if group.directories[0].name in left} == {"young", "busy"}
            assert foreign.directories[0].name in left
        finally:
            process.kill()
            process.wait()
            assert all(group.remove() for group in (*groups.values(), foreign))


def _group(what: str, id: str = "") -> cgroup.Cgroup:
    """A group of a sandbox that nobody knows, made long ago unless it is `young`."""
    found = cgroup.create(id or f"bw-{uuid.uuid4().hex[:12]}", Limits())
    if found is None:
        absent("control groups cannot be made: run as root")
    assert found is not None
    for directory in found.directories if what != "young" else ():
        os.utime(directory, (1000.0, 1000.0))
    return found
