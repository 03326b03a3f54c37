"""The small parts below a backend: leases, control groups, capabilities, isolation plans."""

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import docker
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swe_aem.core import ExecResult, Limits, SandboxSpec
from swe_aem.core.owner import Lease, Owner
from swe_aem.errors import InfrastructureError, StartError, UserError
from swe_aem.sandbox import (
    bubblewrap,
    cgroup,
    host_system,
    isolation,
    open_backend,
    open_files,
    process,
    roots,
)
from swe_aem.sandbox.bubblewrap import BubblewrapBackend
from swe_aem.sandbox.capabilities import mask
from swe_aem.sandbox.docker import DockerBackend


def test_this_process_owns_its_lease() -> None:
    lease = Lease.start(60)
    assert (lease.owner.pid, lease.owner.alive(), lease.expired, lease.orphaned) == (os.getpid(), True, False, False)
    assert Lease.start(-1).orphaned


def test_a_dead_owner_orphans_a_lease() -> None:
    code = "from swe_aem.core.owner import Lease; print(Lease.start(60).model_dump_json())"
    printed = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert Lease.model_validate_json(printed).orphaned


@pytest.mark.parametrize(
    ("field", "value", "alive"), [("start_ticks", 1, False), ("boot", "x", False), ("host", "x", True)]
)
def test_an_owner_is_one_process_of_one_boot_of_one_host(field: str, value: object, alive: bool) -> None:
    assert Owner.this_process().model_copy(update={field: value}).alive() is alive


@given(st.integers(0, 10**6), st.booleans())
def test_oom_kills_are_read_from_both_versions(count: int, unified: bool) -> None:
    lines = ["low 0", "high 0", "max 3", "oom 9", f"oom_kill {count}"]
    text = "\n".join(lines if unified else ["oom_kill_disable 0", "under_oom 0", f"oom_kill {count}"])
    assert cgroup.counter(text, "oom_kill") == count
    assert cgroup.counter("under_oom 0", "oom_kill") == 0


def test_control_groups_of_version_2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cgroup.controllers").write_text("memory pids cpu")
    monkeypatch.setattr(cgroup, "ROOT", tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    group = cgroup.create("s1", Limits(memory_bytes=1000, cpus=1.5, pids=7))
    assert group is not None
    (directory,) = group.directories
    assert directory == tmp_path / "swe-aem" / "s1"
    assert (directory / "memory.max").read_text() == "1000"
    assert (directory / "cpu.max").read_text() == "150000 100000"
    assert (directory / "pids.max").read_text() == "7"
    assert (tmp_path / "swe-aem" / "cgroup.subtree_control").read_text() == "+memory +pids +cpu"
    assert set(cgroup.leftovers()) >= {"s1"}


def test_a_delegated_group_of_version_2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cgroup.controllers").write_text("memory pids cpu")
    scope = tmp_path / "user.slice" / "run.scope"
    scope.mkdir(parents=True)
    (scope / "cgroup.procs").write_text(f"1234\n{os.getpid()}\n")
    monkeypatch.setattr(cgroup, "ROOT", tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(cgroup, "_own_group", lambda: scope)
    group = cgroup.create("s1", Limits())
    assert group is not None
    assert group.directories == (scope / "swe-aem" / "s1",)
    assert (scope / "swe-aem" / "supervisor" / "cgroup.procs").read_text() == str(os.getpid())
    assert (scope / "cgroup.subtree_control").read_text() == "+memory +pids +cpu"
    monkeypatch.setattr(cgroup, "_own_group", lambda: scope / "swe-aem" / "supervisor")
    second = cgroup.create("s2", Limits())
    assert second is not None
    assert second.directories == (scope / "swe-aem" / "s2",)


def test_limits_that_cannot_be_set_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroup, "ROOT", tmp_path / "nowhere")
    monkeypatch.setattr(Path, "mkdir", lambda *args, **kwargs: (_ for _ in ()).throw(PermissionError("no")))
    with pytest.raises(UserError, match="Delegate=yes"):
        cgroup.create("s1", Limits())
    assert cgroup.create("s1", Limits(memory_bytes=None, cpus=None, pids=None)) is None


def test_capability_masks() -> None:
    assert mask(["CHOWN", "CAP_FOWNER"]) == 0b1001
    assert mask(["SETUID"]) == 1 << 7 | 1 << 5
    with pytest.raises(UserError, match="SYS_ADMIN"):
        mask(["SYS_ADMIN"])


def test_without_any_isolation_nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(UserError, match="apt-get install bubblewrap"):
        BubblewrapBackend()
    with pytest.raises(UserError, match="apt-get install bubblewrap"):
        BubblewrapBackend(launcher="util-linux")


def test_the_names_of_backends_cost_no_import_of_the_types() -> None:
    code = "import sys, swe_aem.sandbox; assert not {'pydantic', 'docker', 'swe_aem.core'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_plan_reads_the_same_for_both_launchers() -> None:
    plan = ["--ro-bind", "/usr", "/usr", "--bind", "/tmp/a b", "/testbed", "--proc", "/proc", "--dev", "/dev"]
    script = isolation.util_linux("unshare", "/new root", plan, ["/.warden", "serve"])[-1]
    assert "R='/new root'" in script
    assert 'mount -o remount,bind,ro,nosuid,nodev "$R"/usr' in script
    assert "'/tmp/a b'" in script
    assert script.endswith("exec /.warden serve")
    subprocess.run(["sh", "-n", "-c", script], check=True)
    line = isolation.bubblewrap("bwrap", plan, ["NET_ADMIN"], ["/.warden", "serve"])
    assert line[-3:] == ["--", "/.warden", "serve"]
    assert "CAP_NET_ADMIN" in line


def test_the_host_system_shows_no_home_and_no_checkout() -> None:
    arguments = host_system.mounts("/tools", "/empty")
    sources = [Path(arguments[at + 1]) for at, word in enumerate(arguments) if word in ("--bind", "--ro-bind")]
    checkout = Path(__file__).parents[2]
    for source in sources:
        assert not checkout.is_relative_to(source), source
        assert not Path.home().is_relative_to(source), source
    names = {path.name for path in (host_system.toolchain() / host_system._SITE).iterdir()}
    assert {"pytest", "_pytest", "pluggy"} <= names
    assert "swe_aem" not in names


def test_answer_keys_of_a_system_wide_installation_are_covered(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "/usr/bin" not in host_system._covered.__wrapped__()
    monkeypatch.setattr(host_system, "_SECRETS", (Path("/usr/bin"),))
    assert "/usr/bin" in host_system._covered.__wrapped__()


@given(head=st.binary(max_size=20), tail=st.binary(max_size=20), missing=st.integers(0, 100))
def test_output_says_what_is_left_out(head: bytes, tail: bytes, missing: int) -> None:
    result = ExecResult(
        exit_code=0,
        head=head,
        tail=tail,
        output_bytes=len(head) + len(tail) + missing,
        output_path="/tmp/out",
        wall_s=time.monotonic(),
    )
    assert result.truncated is (missing > 0)
    assert (f"{missing} bytes left out" in result.output) is (missing > 0)
    assert result.output.startswith(head.decode("utf-8", "replace")[:1])


async def test_prune_kills_no_process_that_has_a_dead_sandboxs_pid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (bubblewrap, process, roots):
        monkeypatch.setattr(module, "state_dir", lambda: tmp_path)
    innocent = subprocess.Popen(["sleep", "60"], start_new_session=True)
    try:
        lease = Lease.start(-1)
        (tmp_path / "bw-x").mkdir()
        entry = roots.LiveSandbox(id="bw-x", image="i", pid=innocent.pid, start_ticks=1, lease=lease, labels={})
        entry.save()
        (tmp_path / "bw-other-version").mkdir()
        (tmp_path / "bw-other-version" / "entry.json").write_text('{"new": 1}')
        assert await BubblewrapBackend().prune() == ["bw-x"]
        assert innocent.poll() is None
        assert [path.name for path in tmp_path.iterdir()] == ["bw-other-version"]
    finally:
        innocent.kill()
        innocent.wait()


async def test_an_engine_that_fails_is_infrastructure(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = DockerBackend()
    backend._connected = docker.APIClient(base_url="unix:///nonexistent/docker.sock", version="1.41", timeout=2)
    spec = SandboxSpec(image="swe-aem/micro:1")
    with pytest.raises(InfrastructureError, match="docker engine"):
        async with backend.open(spec):
            pass
    with pytest.raises(InfrastructureError, match="docker engine"):
        await backend.prune()
    await backend._end("nothing")  # a container that cannot be removed is news, not an error


async def test_no_engine_names_the_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent/docker.sock")
    with pytest.raises(UserError, match="use the sandbox bubblewrap"):
        await DockerBackend().ls()


def limited_to(files: int, code: str) -> str:
    """What a process prints whose hard limit of open files is that low, and its soft limit 64."""
    setting = f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (64, {files})); "
    return subprocess.run([sys.executable, "-c", setting + code], check=True, capture_output=True, text=True).stdout


@pytest.mark.bubblewrap
def test_opening_a_backend_raises_the_limit_of_open_files(require_bubblewrap: None) -> None:
    code = (
        "from swe_aem.sandbox import *; open_backend('bubblewrap'); print(resource.getrlimit(resource.RLIMIT_NOFILE))"
    )
    assert limited_to(512, code) == "(512, 512)\n"


def test_a_limit_that_is_too_low_for_the_concurrency_is_told_in_one_line() -> None:
    code = "from swe_aem.sandbox.open_files import shortage; print(shortage(32)); print(shortage(33))"
    enough, few = limited_to(512, code).splitlines()
    assert enough == "None"
    assert "--concurrency 32" in few
    assert "ulimit -Hn 520" in few


def test_a_concurrency_that_a_process_cannot_have_open_is_refused_in_one_line() -> None:
    code = """
from swe_aem.sandbox.open_files import require
require(256)
try:
    require(257)
except Exception as error:
    print(type(error).__name__, error)
"""
    (line,) = limited_to(512, code).splitlines()
    assert line.startswith("UserError this process may open 512 files at most, and --concurrency 257 may need")


@pytest.mark.bubblewrap
async def test_a_trajectory_takes_as_few_files_as_is_said(require_bubblewrap: None) -> None:
    backend, spec = BubblewrapBackend(), SandboxSpec(image="swe-aem/micro:1", workdir="/tmp", ttl_s=900)
    before = len(os.listdir("/proc/self/fd"))
    async with backend.open(spec), backend.open(spec), backend.open(spec), backend.open(spec):
        assert len(os.listdir("/proc/self/fd")) - before < open_files.FILES_PER_TRAJECTORY


@pytest.mark.bubblewrap
@pytest.mark.usefixtures("require_bubblewrap")
async def test_a_host_without_room_to_start_a_sandbox_is_a_start_error(
    spec: SandboxSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(StartError, match="No such file"):
        async with open_backend("bubblewrap").open(spec):
            pass


@pytest.mark.bubblewrap
@pytest.mark.usefixtures("require_bubblewrap")
async def test_a_command_that_the_warden_cannot_run_is_a_result(spec: SandboxSpec) -> None:
    async with open_backend("bubblewrap").open(spec) as sandbox:
        (entry,) = [entry for entry in roots.live_sandboxes() if entry.id == sandbox.id]
        warden = process.warden_pid(entry)
        before = resource.prlimit(warden, resource.RLIMIT_NOFILE)
        resource.prlimit(warden, resource.RLIMIT_NOFILE, (0, before[1]))
        refused = await sandbox.run("true", timeout_s=60)
        assert (refused.exit_code, refused.started) == (126, False)
        assert refused.output == "swe-aem: the command could not be run: Too many open files\n"
        resource.prlimit(warden, resource.RLIMIT_NOFILE, before)
        result = await sandbox.run("echo again", timeout_s=60)
        assert (result.output, result.started) == ("again\n", True)


@pytest.mark.docker
@pytest.mark.slow
@pytest.mark.parametrize("is_here", [True, False])
async def test_containers_of_an_engine_elsewhere_get_no_parent_group_of_this_host(
    require_docker: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, is_here: bool
) -> None:
    info = docker.from_env().info()
    if os.geteuid() != 0 or info["CgroupDriver"] != "cgroupfs":
        pytest.skip("needs root and an engine with the driver cgroupfs on this host")
    if not is_here:  # behind a socket that is forwarded: its containers' files are not here, whatever lies at its root
        (tmp_path / "containers").mkdir()
        monkeypatch.setattr(docker.APIClient, "info", lambda self: {**info, "DockerRootDir": str(tmp_path)})
    async with DockerBackend().open(SandboxSpec(image="swe-aem/micro:1", workdir="/tmp/w", ttl_s=300)) as sandbox:
        container = docker.from_env().containers.get(sandbox.id)
        assert container.attrs["HostConfig"]["CgroupParent"] == (f"/{cgroup.PARENT}" if is_here else "")
