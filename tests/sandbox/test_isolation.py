"""What isolates a sandbox from the host's kernel, network and neighbours, on every backend.

`docs/security.md` names the test of each row.
"""

import asyncio
import io
import json
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from swe_aem.cache import cache_dir
from swe_aem.core import Limits, Sandbox, SandboxBackend, SandboxSpec
from swe_aem.errors import UserError
from swe_aem.sandbox import host_system, open_backend
from swe_aem.sandbox.bubblewrap import BubblewrapBackend
from swe_aem.sandbox.capabilities import mask
from swe_aem.sandbox.roots import state_dir

CONNECT = """
import json, socket, sys
found = {}
for address in sys.argv[1:]:
    try:
        socket.create_connection((address, 80), 0.3).close()
        found[address] = "connected"
    except TimeoutError:
        found[address] = "swallowed"
    except OSError as error:
        found[address] = error.strerror
print(json.dumps(found))
"""
EVERYWHERE = ("10.255.255.1", "10.0.0.1", "10.0.0.2", "172.16.0.1", "192.168.0.1", "8.8.8.8", "2001:db8::1")

SOCKETS = """
import json, socket
found = []
for family in range(64):
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW, socket.SOCK_SEQPACKET):
        try:
            socket.socket(family, kind).close()
            found.append(family)
        except OSError:
            pass
print(json.dumps(sorted(set(found))))
"""

CALLS = """
import ctypes, errno, json, sys
libc = ctypes.CDLL(None, use_errno=True)
found = {}
for name, number in json.loads(sys.argv[1]).items():
    libc.syscall(number, -1, -1, -1, -1, -1, -1)
    found[name] = errno.errorcode.get(ctypes.get_errno())
print(json.dumps(found))
"""
X86_64 = {
    "modify_ldt": 154, "pivot_root": 155, "settimeofday": 164, "mount": 165, "swapon": 167, "reboot": 169,
    "sethostname": 170, "iopl": 172, "init_module": 175, "quotactl": 179, "clock_settime": 227, "set_mempolicy": 238,
    "kexec_load": 246, "add_key": 248, "keyctl": 250, "migrate_pages": 256, "unshare": 272, "move_pages": 279,
    "perf_event_open": 298, "fanotify_init": 300, "open_by_handle_at": 304, "setns": 308, "kcmp": 312, "bpf": 321,
    "userfaultfd": 323, "io_uring_setup": 425, "open_tree": 428, "fsopen": 430, "pidfd_getfd": 438,
    "process_madvise": 440, "mount_setattr": 442, "memfd_secret": 447, "statmount": 457,
}  # fmt: skip
AARCH64 = {
    "umount2": 39, "mount": 40, "pivot_root": 41, "quotactl": 60, "unshare": 97, "kexec_load": 104, "init_module": 105,
    "clock_settime": 112, "syslog": 116, "reboot": 142, "sethostname": 161, "settimeofday": 170, "add_key": 217,
    "keyctl": 219, "swapon": 224, "set_mempolicy": 237, "move_pages": 239, "perf_event_open": 241,
    "fanotify_init": 262, "open_by_handle_at": 265, "setns": 268, "kcmp": 272, "bpf": 280, "userfaultfd": 282,
    "io_uring_setup": 425, "open_tree": 428, "fsopen": 430, "pidfd_getfd": 438, "process_madvise": 440,
    "mount_setattr": 442, "memfd_secret": 447, "statmount": 457,
}  # fmt: skip


CHECKOUT = Path(__file__).resolve().parents[2]


async def python(sandbox: Sandbox, script: str, *arguments: str) -> object:
    """What a script prints as JSON."""
    await sandbox.write_file("/tmp/probe.py", script.encode())
    words = " ".join(f"'{argument}'" for argument in arguments)
    result = await sandbox.run(f"python3 /tmp/probe.py {words}", timeout_s=60)
    assert result.exit_code == 0, result.output
    return json.loads(result.output)


async def test_a_blackhole_swallows_packets_to_every_address(backend: SandboxBackend, spec: SandboxSpec) -> None:
    async with backend.open(spec.model_copy(update={"network": "blackhole"})) as sandbox:
        found = await python(sandbox, CONNECT, *EVERYWHERE)
        assert found == dict.fromkeys(EVERYWHERE, "swallowed")
        server = (
            "import socket; s = socket.create_server(('127.0.0.1', 0)); "
            "socket.create_connection(s.getsockname()); print('connected')"
        )
        assert (await sandbox.run(f'python3 -c "{server}"', timeout_s=60)).output == "connected\n"
        status = await sandbox.run("grep ^Cap /proc/self/status", timeout_s=60)
        assert {line.split()[1] for line in status.output.splitlines()} == {"0" * 16}


async def test_nothing_beyond_loopback_has_a_route(sandbox: Sandbox) -> None:
    found = await python(sandbox, CONNECT, *EVERYWHERE)
    assert isinstance(found, dict)
    assert set(found.values()) <= {"Network is unreachable", "Cannot assign requested address"}


async def test_the_sandboxs_own_host_name_resolves(sandbox: Sandbox) -> None:
    names = "[socket.gethostbyname(n) for n in (socket.gethostname(), 'localhost')]"
    result = await sandbox.run(f'python3 -c "import socket; print(*{names})"', timeout_s=60)
    assert result.output == "127.0.0.1 127.0.0.1\n"


def small_root(root: Path) -> Path:
    """A root file system with bash, cat and getent, made of this host's files."""
    for program in ("bash", "cat", "getent"):
        source = shutil.which(program)
        assert source is not None
        linked = subprocess.run(["ldd", source], check=True, capture_output=True, text=True).stdout
        for file in [source, *re.findall(r"(/\S+) \(0x", linked)]:
            target = root / file.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, target)
    (root / "bin").mkdir(exist_ok=True)
    if not (root / "bin/bash").exists():
        shutil.copy(shutil.which("bash") or "/bin/bash", root / "bin/bash")
    for directory in ("proc", "dev", "tmp", "testbed", "etc"):
        (root / directory).mkdir(exist_ok=True)
    (root / "etc/nsswitch.conf").write_text("hosts: files\n")
    return root


@pytest.mark.bubblewrap
@pytest.mark.parametrize("launcher", ["bubblewrap", pytest.param("util-linux", marks=pytest.mark.slow)])
@pytest.mark.parametrize("hosts", ["absent", "kept", "a link out of the root"])
async def test_an_unpacked_root_keeps_its_hosts_and_gets_its_own_name(
    require_bubblewrap: None, tmp_path: Path, spec: SandboxSpec, launcher: str, hosts: str
) -> None:
    root, outside = small_root(tmp_path / "root"), tmp_path / "outside"
    outside.write_text("untouched\n")
    if hosts == "kept":
        (root / "etc/hosts").write_text("10.1.2.3 database")  # no newline at its end
    elif hosts != "absent":
        (root / "etc/hosts").symlink_to(f"../../../../../../../../../..{outside}")
    spec = spec.model_copy(update={"image": "small:1", "workspace": None})
    async with BubblewrapBackend(root, launcher=launcher).open(spec) as sandbox:  # type: ignore[arg-type]
        named = (await sandbox.run("getent hosts localhost sandbox database", timeout_s=60)).output
    if hosts != "a link out of the root":
        assert "127.0.0.1       localhost sandbox\n" in named
    assert ("10.1.2.3" in named) is (hosts == "kept")
    assert outside.read_text() == "untouched\n"
    assert (root / "etc/hosts").exists() is (hosts != "absent")  # the root itself is not written to


async def test_only_socket_families_that_a_network_namespace_holds(sandbox: Sandbox) -> None:
    families = await python(sandbox, SOCKETS)
    assert isinstance(families, list)
    assert {1, 2, 10, 16} - set(families) <= {10}
    assert set(families) <= {1, 2, 10, 16}  # AF_UNIX, AF_INET, AF_INET6, AF_NETLINK; AF_VSOCK is 40


async def test_system_calls_that_engines_forbid_are_refused(sandbox: Sandbox) -> None:
    machine = (await sandbox.run("uname -m", timeout_s=60)).output.strip()
    calls = X86_64 if machine == "x86_64" else AARCH64
    assert await python(sandbox, CALLS, json.dumps(calls)) == dict.fromkeys(calls, "EPERM")
    newer = {"not yet": 4000, "clone3": 435, "io_setup": 206 if machine == "x86_64" else 0}
    assert await python(sandbox, CALLS, json.dumps(newer)) == dict.fromkeys(newer, "ENOSYS")


async def test_honest_programs_pass_the_filter(sandbox: Sandbox) -> None:
    programs = """set -e
python3 - <<'END'
import asyncio, concurrent.futures, multiprocessing, os, select, signal, subprocess, tempfile, threading
with concurrent.futures.ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("fork")) as pool:
    assert list(pool.map(abs, [-1, 2])) == [1, 2]
async def child():
    process = await asyncio.create_subprocess_exec("true")
    return await process.wait()
assert asyncio.run(child()) == 0
pid = os.pidfd_open(os.getpid())
signal.pidfd_send_signal(pid, 0)
master, slave = os.openpty()
os.write(slave, b"x")
shared = multiprocessing.Value("i", 3)
assert select.epoll().fileno() > 0
assert os.sched_getaffinity(0)
END
if command -v gcc >/dev/null; then
    echo 'int main(void) { return 0; }' >/tmp/a.c && gcc /tmp/a.c -o /tmp/a && /tmp/a
fi
if command -v node >/dev/null; then
    node -e 'new (require("worker_threads").Worker)("1", {eval: true}).on("exit", (code) => process.exit(code))'
fi
git init -q /tmp/repository && cd /tmp/repository && touch file && git add file
git -c user.name=t -c user.email=t@t commit -qm base && git gc -q
echo all
"""
    result = await sandbox.run(programs, timeout_s=60)
    assert (result.exit_code, result.output.splitlines()[-1]) == (0, "all"), result.output


@pytest.mark.parametrize("kept", [(), ("CHOWN",), ("SETUID", "SETGID")])
async def test_no_capability_but_those_named_is_within_bounds(
    backend: SandboxBackend, spec: SandboxSpec, kept: tuple[str, ...]
) -> None:
    async with backend.open(spec.model_copy(update={"capabilities": kept})) as sandbox:
        status = (await sandbox.run("grep ^Cap /proc/self/status", timeout_s=60)).output
    sets = {name: int(value, 16) for name, value in (line.split(":\t") for line in status.splitlines())}
    assert sets["CapBnd"] == sets["CapPrm"] == sets["CapEff"] == mask(kept)
    assert sets["CapAmb"] == 0


@pytest.mark.docker
@pytest.mark.slow
@pytest.mark.parametrize("named_by", ["the setting", "the image"])
async def test_a_container_of_another_user_keeps_no_capability(
    require_docker: None, spec: SandboxSpec, named_by: str
) -> None:
    backend, client, image = open_backend("docker"), docker.from_env(), "swe-aem-test/another-user:1"
    dockerfile = io.BytesIO(b"FROM swe-aem/micro:1\nUSER 1000:1000\n")
    await asyncio.to_thread(client.images.build, fileobj=dockerfile, tag=image, rm=True)
    other = {"user": "1000"} if named_by == "the setting" else {"image": image}
    try:
        async with backend.open(spec.model_copy(update=other)) as sandbox:
            status = (await sandbox.run("grep ^Cap /proc/self/status; touch new; id -u", timeout_s=60)).output
            assert await sandbox.read_file("new") == b""
        with pytest.raises(UserError, match="user: root"):
            async with backend.open(spec.model_copy(update={**other, "network": "blackhole"})):
                pass
        root = {"image": image, "user": "root", "network": "blackhole"}
        async with backend.open(spec.model_copy(update=root)) as sandbox:
            assert (await sandbox.run("id -u", timeout_s=60)).output == "0\n"
    finally:
        client.images.remove(image, force=True)
    assert set(re.findall(r"Cap\w+:\t(\w+)", status)) == {"0" * 16}
    assert status.endswith("\n1000\n")


SEGMENT = """
import ctypes, json, sys
libc = ctypes.CDLL(None)
key, flags = 0x5EA, int(sys.argv[1])
print(json.dumps([libc.shmget(key, 4096, flags) >= 0, libc.msgget(key, flags) >= 0]))
"""


async def test_shared_memory_and_queues_are_its_own(backend: SandboxBackend, spec: SandboxSpec) -> None:
    make, find = str(0o1600), str(0o600)
    async with backend.open(spec) as one, backend.open(spec) as other:
        assert await python(one, SEGMENT, make) == [True, True]
        assert await python(one, SEGMENT, find) == [True, True]
        assert await python(other, SEGMENT, find) == [False, False]
        found = await asyncio.to_thread(subprocess.run, [sys.executable, "-c", SEGMENT, find], capture_output=True)
        assert json.loads(found.stdout) == [False, False]


async def test_sockets_with_abstract_names_do_not_reach_the_host(sandbox: Sandbox) -> None:
    name = f"swe-aem-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"\0{name}")
        server.listen()
        connect = f"import socket; socket.socket(socket.AF_UNIX).connect(chr(0) + '{name}')"
        result = await sandbox.run(f'python3 -c "{connect}"', timeout_s=60)
    assert "Connection refused" in result.output


async def test_the_only_devices_are_harmless(sandbox: Sandbox) -> None:
    found = await sandbox.run("find /dev /tmp /testbed -type b -o -type c", timeout_s=20)
    harmless = {"null", "zero", "full", "random", "urandom", "tty", "console", "pts/ptmx"}
    assert {path.removeprefix("/dev/") for path in found.output.split()} <= harmless
    assert (await sandbox.run("mknod /tmp/disk b 8 0; mknod /tmp/memory c 1 1", timeout_s=60)).exit_code != 0


HOLD = """
import ctypes, os, time
libc = ctypes.CDLL(None, use_errno=True)
inotify = terminals = 0
while libc.inotify_init1(0) >= 0:
    inotify += 1
try:
    while True:
        os.openpty()
        terminals += 1
except OSError:
    pass
open("/tmp/holding", "w").write(f"{inotify} {terminals}")
time.sleep(600)
"""
TAKE = (
    "import ctypes, json, os; libc = ctypes.CDLL(None); "
    "print(json.dumps([sum(libc.inotify_init1(0) >= 0 for _ in range(40)), len([os.openpty() for _ in range(20)])]))"
)


async def test_a_neighbour_and_the_host_keep_their_limits(backend: SandboxBackend, spec: SandboxSpec) -> None:
    async with backend.open(spec) as greedy, backend.open(spec) as neighbour:
        await greedy.write_file("/tmp/hold.py", HOLD.encode())
        await greedy.run("ulimit -n $(ulimit -Hn); setsid python3 /tmp/hold.py >/dev/null 2>&1 &", timeout_s=20)
        held = await greedy.run("until [ -s /tmp/holding ]; do sleep 0.05; done; cat /tmp/holding", timeout_s=60)
        inotify, terminals = map(int, held.output.split())
        limit = int(Path("/proc/sys/fs/inotify/max_user_instances").read_text())
        assert inotify == limit  # all that its own account has
        assert terminals == 64
        assert await python(neighbour, TAKE) == [40, 20]
        take = [sys.executable, "-c", TAKE]
        on_host = await asyncio.to_thread(subprocess.run, take, check=True, capture_output=True, text=True)
        assert json.loads(on_host.stdout)[1] == 20
        if os.geteuid() == 0:
            assert json.loads(on_host.stdout)[0] > 0


IGNORED_BY_NOHUP = (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGTERM)
LOWERED_BY_ULIMIT = {resource.RLIMIT_STACK: 1 << 20, resource.RLIMIT_DATA: 4 << 30, resource.RLIMIT_CPU: 3000}


@pytest.fixture
def started_by_a_strict_shell() -> Iterator[None]:
    """This process ignores signals and has low soft limits, as below `nohup`, a shell's `&` and `ulimit`."""
    handlers = {number: signal.signal(number, signal.SIG_IGN) for number in IGNORED_BY_NOHUP}
    limits = {kind: resource.getrlimit(kind) for kind in LOWERED_BY_ULIMIT}
    for kind, soft in LOWERED_BY_ULIMIT.items():
        resource.setrlimit(kind, (soft, limits[kind][1]))
    yield
    for kind, before in limits.items():
        resource.setrlimit(kind, before)
    for number, handler in handlers.items():
        signal.signal(number, handler)


async def test_how_the_orchestrator_was_started_does_not_reach_a_command(
    started_by_a_strict_shell: None, backend: SandboxBackend, spec: SandboxSpec
) -> None:
    async with backend.open(spec) as sandbox:
        ignored = await sandbox.run("grep SigIgn /proc/self/status", timeout_s=60)
        assert ignored.output.split() == ["SigIgn:", "0" * 16]
        assert (await sandbox.run("kill -INT $$; echo lives", timeout_s=60)).exit_code == 128 + signal.SIGINT
        assert (await sandbox.run("ulimit -s; ulimit -d; ulimit -t", timeout_s=60)).output.split() == [
            "8192",
            "unlimited",
            "unlimited",
        ]


async def test_files_belong_to_whom_they_belonged(backend: SandboxBackend, spec: SandboxSpec) -> None:
    async with backend.open(spec) as sandbox:
        result = await sandbox.run(
            "id -u; stat -c '%u %g' run.sh /usr/bin /; touch new; stat -c '%u %g' new", timeout_s=10
        )
    assert result.output == "0\n" + "0 0\n" * 4


HIDDEN = ("acpi", "config.gz", "iomem", "kallsyms", "kcore", "key-users", "keys", "kmsg", "timer_list", "vmallocinfo")


async def test_the_kernels_secrets_are_covered_and_its_switches_locked(sandbox: Sandbox) -> None:
    read = "for name in {names}; do timeout 5 head -c 100 /proc/$name 2>/dev/null; ls /proc/$name/ 2>/dev/null; done"
    shown = await sandbox.run(read.format(names=" ".join(HIDDEN)), timeout_s=30)
    assert shown.output == ""
    write = (
        "for name in kernel/hostname vm/drop_caches; do echo x 2>/dev/null >/proc/sys/$name && echo wrote; done; true"
    )
    assert (await sandbox.run(write, timeout_s=60)).output == ""


@pytest.mark.parametrize("capability", ["NET_RAW", "NET_BIND_SERVICE"])
async def test_capabilities_of_the_network_work_in_the_own_namespace(
    backend: SandboxBackend, spec: SandboxSpec, capability: str
) -> None:
    script = "import socket; socket.socket(socket.AF_INET, socket.SOCK_RAW, 1); print('raw')"
    if capability == "NET_BIND_SERVICE":
        script = "import socket; socket.create_server(('127.0.0.1', 80)); print('bound')"
    async with backend.open(spec.model_copy(update={"capabilities": (capability,)})) as sandbox:
        result = await sandbox.run(f'python3 -c "{script}"', timeout_s=60)
        assert result.output in ("raw\n", "bound\n"), result.output
        devices = await sandbox.run("tail -n +3 /proc/net/dev | cut -d: -f1", timeout_s=60)
        assert devices.output.split() == ["lo"]


async def test_a_persons_shell_has_the_limits_of_a_command(backend: SandboxBackend, spec: SandboxSpec) -> None:
    async with backend.open(spec) as sandbox:
        mine, theirs = os.openpty()  # the shell wants a terminal
        shell = subprocess.Popen(backend.shell_command(sandbox), stdin=theirs, stdout=subprocess.PIPE)
        os.close(theirs)
        os.write(mine, b"pwd; ls /proc/self/fd; grep -E '^(Cap|Seccomp:|NoNewPrivs)' /proc/self/status; exit 7\n")
        output, _ = await asyncio.to_thread(shell.communicate, timeout=60)
        os.close(mine)
    fields = dict(re.findall(r"(\w+):\s+(\w+)", output.decode()))
    assert shell.returncode == 7
    assert "/testbed" in output.decode()
    assert "9" not in output.decode().split()
    assert {fields[name] for name in ("CapPrm", "CapEff", "CapBnd")} == {"0" * 16}
    assert (fields["NoNewPrivs"], fields["Seccomp"]) == ("1", "2")


@pytest.mark.bubblewrap
@pytest.mark.parametrize("launcher", ["bubblewrap", pytest.param("util-linux", marks=pytest.mark.slow)])
async def test_a_caller_without_root_gets_the_same_isolation(
    require_bubblewrap: None, spec: SandboxSpec, monkeypatch: pytest.MonkeyPatch, launcher: str
) -> None:
    backend = BubblewrapBackend(launcher=launcher)  # type: ignore[arg-type]
    plain = backend._command

    def unprivileged(*arguments: Any) -> list[str]:
        program, launch, *rest = plain(*arguments)
        return [program, launch, *([] if rest[0] == "-u" else ["-u"]), *rest]

    monkeypatch.setattr(backend, "_command", unprivileged)
    limits = Limits(memory_bytes=None, cpus=None, pids=None, disk_bytes=64 << 20)
    spec = spec.model_copy(update={"network": "blackhole", "limits": limits})
    async with backend.open(spec) as sandbox:
        assert await python(sandbox, CONNECT, *EVERYWHERE) == dict.fromkeys(EVERYWHERE, "swallowed")
        status = (await sandbox.run("grep ^Cap /proc/self/status; cat /proc/keys", timeout_s=60)).output
        assert {line.split()[1] for line in status.splitlines()} == {"0" * 16}
        assert (await sandbox.run("touch new; stat -c %u new run.sh", timeout_s=60)).output == "0\n0\n"


@pytest.mark.bubblewrap
@pytest.mark.parametrize("launcher", ["bubblewrap", pytest.param("util-linux", marks=pytest.mark.slow)])
@pytest.mark.parametrize("unpacked", [False, True])
async def test_the_mount_table_shows_no_place_of_the_host(
    require_bubblewrap: None, tmp_path: Path, spec: SandboxSpec, launcher: str, unpacked: bool
) -> None:
    root = small_root(tmp_path / "root") if unpacked else None
    async with BubblewrapBackend(root, launcher=launcher).open(spec) as sandbox:  # type: ignore[arg-type]
        table = (await sandbox.run("cat /proc/self/mountinfo", timeout_s=60)).output
    for place in (cache_dir(), state_dir(), CHECKOUT, tmp_path, Path("/run")):
        assert str(place) not in table
    for line in table.splitlines():
        _, _, _, source, target, *_ = line.split()
        # What is shown of the host is shown under its own name, but for the time zone.
        if "/dev/" in line.split(" - ")[1]:
            assert source == target or target == "/etc/localtime", line


@pytest.fixture
def other_interpreter(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of this interpreter and its standard library as the one that sandboxes see; not below /tmp."""
    prefix, executable = host_system._interpreter()
    library = Path(f"lib/python{sys.version_info.major}.{sys.version_info.minor}")
    cache_dir().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache_dir()) as place:
        copy = Path(place).resolve()
        left_out = shutil.ignore_patterns("site-packages", "test", "idlelib", "tkinter")
        shutil.copytree(prefix / library, copy / library, ignore=left_out)
        (copy / "bin").mkdir()
        shutil.copy(executable, copy / "bin")
        for shared in (prefix / "lib").glob("libpython*"):
            shutil.copy(shared, copy / "lib", follow_symlinks=False)
        packages = copy / library / "site-packages"
        (packages / "fake-1.0.dist-info").mkdir(parents=True)
        (packages / "fake_plugin.py").write_text("raise SystemExit('a plugin of the host was loaded')\n")
        (packages / "fake-1.0.dist-info" / "METADATA").write_text("Name: fake\nVersion: 1.0\n")
        (packages / "fake-1.0.dist-info" / "entry_points.txt").write_text("[pytest11]\nfake = fake_plugin\n")
        (packages / "fake.pth").write_text("import fake_plugin\n")
        monkeypatch.setattr(host_system, "_interpreter", lambda: (copy, copy / "bin" / executable.name))
        caches = (host_system.digest, host_system.toolchain, host_system._system, host_system._covered)
        for cache in caches:
            cache.cache_clear()
        yield copy
        shutil.rmtree(host_system.toolchain())
        for cache in caches:
            cache.cache_clear()


@pytest.mark.bubblewrap
@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["bubblewrap", "util-linux"])
async def test_packages_of_the_hosts_interpreters_are_not_seen(
    require_bubblewrap: None, other_interpreter: Path, spec: SandboxSpec, launcher: str
) -> None:
    on_host = [other_interpreter / "bin" / host_system._interpreter()[1].name, "-c", "1"]
    done = await asyncio.to_thread(subprocess.run, on_host, capture_output=True, text=True)
    assert "a plugin of the host was loaded" in done.stderr  # the copy does load it where it is not covered
    spec = spec.model_copy(update={"env": {"LD_LIBRARY_PATH": str(other_interpreter / "lib")}})
    async with BubblewrapBackend(launcher=launcher).open(spec) as sandbox:  # type: ignore[arg-type]
        look = "prefix=$(python -c 'import sys; print(sys.base_prefix)'); echo $prefix; ls $prefix/lib/*/site-packages"
        listed = await sandbox.run(look, timeout_s=60)
        assert listed.output == f"{other_interpreter}\n"
        for runner in ("python -m pytest", "PYTHONPATH=. pytest", "python3 -I -m pytest"):
            assert (await sandbox.run(f"{runner} --version", timeout_s=60)).output.startswith("pytest "), runner
        seen = await sandbox.run(
            "find / -xdev -path /proc -prune -o -name '*.dist-info' -print; ls -d /usr/lib/python3/dist-packages/*; "
            "for python in /usr/bin/python3.[0-9] /usr/bin/python3.[0-9][0-9]; do $python -c 'import yaml, pip'; done",
            timeout_s=60,
        )
    assert "dist-info" not in seen.output


def test_the_toolchain_changes_with_what_it_is_made_of(monkeypatch: pytest.MonkeyPatch) -> None:
    before = host_system.digest.__wrapped__()
    assert before == host_system.digest.__wrapped__() == host_system.toolchain().name
    monkeypatch.setattr(host_system, "_OWN_ETC", {"hosts": "other"})
    assert host_system.digest.__wrapped__() != before


@pytest.mark.bubblewrap
@pytest.mark.slow
async def test_virtual_environments_can_be_made(require_bubblewrap: None, spec: SandboxSpec) -> None:
    async with BubblewrapBackend().open(spec) as sandbox:
        made = await sandbox.run("python -m venv /tmp/made && /tmp/made/bin/python -m pip --version", timeout_s=120)
    assert made.output.startswith("pip "), made.output
