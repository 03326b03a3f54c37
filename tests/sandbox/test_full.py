"""A sandbox whose memory, processes, disk or inodes are used up still answers: what a command did to it is a result.

No test here runs on a backend that `contained` finds too open.
"""

import asyncio
import contextlib
import os
import platform
import shlex
import shutil
import signal
import subprocess
from pathlib import Path

import docker
import pytest

from swe_aem.core import Limits, Sandbox, SandboxBackend, SandboxSpec
from swe_aem.errors import SandboxDead
from swe_aem.sandbox import open_backend
from swe_aem.sandbox.docker import DockerBackend
from swe_aem.sandbox.roots import live_sandboxes
from tests.sandbox.conftest import KINDS

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("contained")]

SYSV = (
    "import ctypes; libc = ctypes.CDLL(None, use_errno=True); libc.shmat.restype = ctypes.c_void_p; "
    "libc.shmat.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_int]; size = 32 << 20\n"
    "for _ in range(100):\n"
    "  id = libc.shmget(0, ctypes.c_size_t(size), 0o1600)\n"
    "  if id < 0: break\n"
    "  at = libc.shmat(id, None, 0); ctypes.memset(at, 1, size); libc.shmdt(ctypes.c_void_p(at))\n"
)
"""Shared memory segments that outlive the process that made and filled them."""

MESSAGES = (
    "import ctypes; libc = ctypes.CDLL(None); text = ctypes.create_string_buffer(b'\\1' * 8192)\n"
    "for _ in range(32000):\n"
    "  id = libc.msgget(0, 0o1600)\n"
    "  if id < 0: break\n"
    "  while libc.msgsnd(id, text, 8184, 0o4000) == 0: pass\n"
)
"""Messages in queues that outlive the process that sent them."""

SEMAPHORES = (
    "import ctypes; libc = ctypes.CDLL(None)\nfor _ in range(32000):\n  if libc.semget(0, 32000, 0o1600) < 0: break\n"
)

MEMFD = (
    "import os, time\ntry: open('/proc/self/oom_score_adj', 'w').write('0')\nexcept OSError: pass\n"
    "for _ in range(8):\n"
    "  fd = os.memfd_create('x')\n"
    "  for _ in range(200): os.write(fd, bytes(1 << 20))\n"
    "time.sleep(60)"
)
"""Holds memory that no page table shows, and asks to be spared."""

SMALLER_THAN_A_WARDEN = r"""
static long call(long n, long a, long b, long c, long d) {
    register long r10 __asm__("r10") = d;
    __asm__ volatile("syscall" : "+a"(n) : "D"(a), "S"(b), "d"(c), "r"(r10) : "rcx", "r11", "memory");
    return n;
}
void _start(void) {
    long spare = call(257, -100, (long)"/proc/self/oom_score_adj", 1, 0);
    call(1, spare, (long)"0", 1, 0);
    for (int files = 0; files < 64; files++) {
        long fd = call(319, (long)"x", 0, 0, 0);
        for (int n = 0; n < 16000; n++) call(1, fd, 0x400000, 4096, 0);
    }
    for (;;) call(34, 0, 0, 0, 0);
}
"""
"""The same in a process with less memory of its own than a warden has; for x86_64."""

FILLERS = {
    "memory of processes": "for i in 1 2 3; do python3 -c 'x = [str(n) * (1 << 18) for n in range(4000)]'& done; wait",
    "memory files of a process that asks to be spared": f'python3 -c "{MEMFD}"; true',
    "files in /dev/shm": "for i in $(seq 100); do head -c 32M /dev/zero > /dev/shm/$i || break; done",
    "shared memory without a process": f'python3 -c "{SYSV}"',
    "messages without a process": f'python3 -c "{MESSAGES}"',
    "semaphores without a process": f'python3 -c "{SEMAPHORES}"',
    "all shared memory and then processes": f'python3 -c "{SYSV}"; for i in $(seq 8); do tail /dev/zero & done; wait',
    "processes": "bomb() { bomb | bomb & }; bomb; sleep 60",
    "processes in the background": "for i in $(seq 200); do setsid sleep 60 >/dev/null 2>&1 & done",
    "threads": "python3 -c 'import threading as t, time\nwhile True: t.Thread(target=time.sleep, args=(60,)).start()'",
    "disk": "for i in $(seq 100); do dd if=/dev/zero of=fill.$i bs=1M count=32 conv=fsync status=none || break; done",
    "inodes": (
        "python3 -c \"import os; os.mkdir('many'); os.chdir('many')\n"
        "for d in range(1000):\n  os.mkdir(str(d))\n"
        "  for f in range(2000): os.close(os.open(f'{d}/{f}', os.O_CREAT))\""
    ),
    "output": "yes",
}


@pytest.fixture(params=[KINDS[0], KINDS[2]])
def backend(request: pytest.FixtureRequest) -> SandboxBackend:
    """bubblewrap and docker: the launcher makes no difference here."""
    request.getfixturevalue(f"require_{request.param}")
    return open_backend(request.param)


async def answers(sandbox: Sandbox) -> None:
    """Every operation answers, with what it should or with an error of its own."""
    result = await sandbox.run("echo alive", timeout_s=60)
    assert (result.output, result.exit_code) == ("alive\n", 0)
    assert await sandbox.read_output() == b"alive\n"
    assert await sandbox.read_file("package/module.py") == b"answer = 41\n"
    for path in ("run.sh", "new/file"):
        with contextlib.suppress(OSError):  # no space left
            await sandbox.write_file(path, b"echo changed\n")
    await sandbox.settle()
    entries = (await sandbox.list_tree("/testbed")).entries
    assert {"run.sh", "package/module.py"} <= set(entries)
    assert await sandbox.read_tree("/testbed", ["package/module.py"]) == [b"answer = 41\n"]


IN_EVERY_RUN = ("memory of processes", "all shared memory and then processes", "processes", "disk", "inodes")


@pytest.mark.parametrize(
    "kind", [kind if kind in IN_EVERY_RUN else pytest.param(kind, marks=pytest.mark.nightly) for kind in FILLERS]
)
async def test_a_full_sandbox_answers_and_closes(sandbox: Sandbox, kind: str) -> None:
    await sandbox.run(FILLERS[kind], timeout_s=20 if kind in ("disk", "inodes") else 2)
    await answers(sandbox)
    await sandbox.run(FILLERS[kind], timeout_s=0.5)
    await answers(sandbox)
    await sandbox.close()


async def test_what_the_limits_did_is_counted_and_known_after_the_end(sandbox: Sandbox) -> None:
    before = await sandbox.limit_hits()
    assert (before.oom_kills, before.pids_refused, before.disk_kills) == (0, 0, 0)
    await sandbox.run(FILLERS["processes in the background"], timeout_s=1)
    refused = (await sandbox.limit_hits()).pids_refused
    assert refused > 0
    await sandbox.settle()
    await sandbox.run(FILLERS["memory of processes"], timeout_s=20)
    hits = await sandbox.limit_hits()
    assert hits.oom_kills > 0
    assert (await sandbox.run("true", timeout_s=20)).limit_hits == hits
    await sandbox.close()
    after = await sandbox.limit_hits()
    assert (after.oom_kills, after.pids_refused >= refused) == (hits.oom_kills, True)


async def test_a_result_says_what_the_limits_did_though_the_command_succeeds(
    backend: SandboxBackend, sandbox: Sandbox
) -> None:
    done = await sandbox.run("tail /dev/zero || true", timeout_s=60)
    assert done.exit_code == 0
    known = (
        backend.name == "bubblewrap"
    )  # elsewhere it takes requests of its own, and only a command that fails is asked about
    assert (done.limit_hits.oom_kills > 0) == known
    assert (await sandbox.limit_hits()).oom_kills > 0
    failed = await sandbox.run("false", timeout_s=60)
    assert failed.limit_hits == await sandbox.limit_hits()


async def test_what_the_limits_did_is_known_of_a_sandbox_that_died(backend: SandboxBackend, sandbox: Sandbox) -> None:
    fill = FILLERS["memory of processes"].replace("& done; wait", "; done; touch /tmp/filled")
    await sandbox.run(f"setsid bash -c {shlex.quote(fill)} >/dev/null 2>&1 &", timeout_s=60)
    assert (await sandbox.run("until [ -e /tmp/filled ]; do sleep 0.05; done", timeout_s=100)).exit_code == 0
    if isinstance(backend, DockerBackend):  # the engine removes the container at once
        client = docker.DockerClient(**backend.engine.client_settings())
        container = await asyncio.to_thread(client.containers.get, sandbox.id)
        await asyncio.to_thread(container.kill)
    else:
        (entry,) = [entry for entry in live_sandboxes() if entry.id == sandbox.id]
        assert entry.pid is not None
        os.killpg(entry.pid, signal.SIGKILL)
    with pytest.raises(SandboxDead):
        await sandbox.run("sleep 60", timeout_s=60)
    assert (await sandbox.limit_hits()).oom_kills >= 1
    await sandbox.close()
    assert (await sandbox.limit_hits()).oom_kills >= 1


async def test_the_kernel_kills_no_warden_instead_of_a_smaller_process(sandbox: Sandbox, tmp_path: Path) -> None:
    compiler = shutil.which("x86_64-linux-gnu-gcc")
    if compiler is None or platform.machine() != "x86_64":
        pytest.skip("no x86_64-linux-gnu-gcc on this host")
    source, program = tmp_path / "hog.c", tmp_path / "hog"
    source.write_text(SMALLER_THAN_A_WARDEN)
    flags = ["-Os", "-static", "-nostdlib", "-no-pie", "-ffreestanding", "-fno-stack-protector", "-fcf-protection=none"]
    build = [compiler, *flags, "-Wl,--build-id=none", "-s", "-o", program, source]
    await asyncio.to_thread(subprocess.run, build, check=True)
    await sandbox.write_file("hog", program.read_bytes())
    result = await sandbox.run("chmod +x hog && exec ./hog", timeout_s=20)
    assert (result.exit_code, result.oom) == (137, True)
    await answers(sandbox)


async def test_inodes_are_limited(sandbox: Sandbox) -> None:
    before = os.statvfs("/").f_favail
    filled = await sandbox.run(FILLERS["inodes"], timeout_s=60)
    assert "No space left" in filled.output or filled.killed_for == "disk"
    assert before - os.statvfs("/").f_favail < 400_000
    await sandbox.run("rm -rf many", timeout_s=60)
    assert (await sandbox.run("touch fine && echo made", timeout_s=20)).output == "made\n"


async def test_a_small_sandbox_answers_too(backend: SandboxBackend, spec: SandboxSpec) -> None:
    small = Limits(memory_bytes=64 << 20, cpus=1.0, pids=16, disk_bytes=32 << 20)
    async with backend.open(spec.model_copy(update={"limits": small})) as sandbox:
        for kind in ("memory of processes", "shared memory without a process", "processes", "disk"):
            await sandbox.run(FILLERS[kind], timeout_s=2)
            await answers(sandbox)
