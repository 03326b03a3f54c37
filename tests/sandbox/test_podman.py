"""Podman: the same sandboxes as docker's, from a service that does some things differently. All tests of sandboxes in
this directory run on it too, at night; and those of conformance on an ordinary user's service, if ROOTLESS_PODMAN has
its address (`unix://PATH`)."""

import json
import os
import resource
import socket
import subprocess
import sys
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from swe_aem.core import Limits, SandboxSpec
from swe_aem.errors import UserError
from swe_aem.sandbox import cgroup
from swe_aem.sandbox.docker import DockerBackend
from swe_aem.sandbox.engines import DOCKER, PODMAN
from swe_aem.sandbox.podman import PodmanBackend
from swe_aem.testing import SandboxConformance

pytestmark = [pytest.mark.podman, pytest.mark.slow]

SERVICE = os.environ.get("ROOTLESS_PODMAN")
ROOTLESS = {"Rootless": True, "MemoryLimit": True, "CpuCfsQuota": True, "PidsLimit": True}


async def test_a_container_is_what_docker_makes_of_the_image(require_podman: None, spec: SandboxSpec) -> None:
    async with PodmanBackend() as backend, backend.open(spec) as sandbox:
        seen = await sandbox.run("stat -c %a / && touch /made && cat package/module.py /etc/hosts", timeout_s=30)
        limits = await sandbox.run("ulimit -Hn; ulimit -Hu; cut -d' ' -f1 /proc/self/uid_map", timeout_s=30)
    assert seen.output.startswith("755\nanswer = 41\n127.0.0.1 localhost\n")
    assert socket.gethostname() not in seen.output.split()
    files = int(limits.output.split()[0])
    assert 0 < files <= max(resource.getrlimit(resource.RLIMIT_NOFILE)[1], 1)


async def test_containers_of_an_engine_on_this_host_share_one_group(require_podman: None, spec: SandboxSpec) -> None:
    async with PodmanBackend() as backend, backend.open(spec) as sandbox:
        info = backend._api.info()
        groups = (await sandbox.run("cat /proc/self/cgroup", timeout_s=30)).output.split()
    if info["Rootless"] or info["CgroupDriver"] != "cgroupfs" or os.geteuid() != 0:
        pytest.skip("not root's podman with the driver cgroupfs, or not root")
    paths = [PurePosixPath(group.rpartition(":")[2]) for group in groups]
    assert {path.parent for path in paths} <= {PurePosixPath("/", cgroup.PARENT), PurePosixPath("/")}


async def test_another_user_has_the_workspace_and_a_container(require_podman: None, spec: SandboxSpec) -> None:
    async with PodmanBackend() as backend, backend.open(spec.model_copy(update={"user": "1000"})) as sandbox:
        done = await sandbox.run("id -u && echo more >>package/module.py && touch /made", timeout_s=30)
    assert done.output.startswith("1000\n")
    assert "Permission denied" in done.output


@pytest.mark.parametrize(
    ("info", "limits", "named"),
    [
        ({**ROOTLESS, "CgroupVersion": "1"}, Limits(), "limits.memory_bytes, limits.cpus, limits.pids"),
        ({**ROOTLESS, "CgroupVersion": "2", "PidsLimit": False}, Limits(), "limits.pids: "),
        ({**ROOTLESS, "CgroupVersion": "2"}, Limits(), None),
        ({**ROOTLESS, "CgroupVersion": "1"}, Limits(memory_bytes=None, cpus=None, pids=None), None),
    ],
)
def test_a_limit_that_podman_would_ignore_is_refused(
    info: dict[str, Any], limits: Limits, named: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PodmanBackend, "_engine_info", info)
    if named is None:
        PodmanBackend()._check_limits(limits)
        return
    with pytest.raises(UserError, match=named) as raised:
        PodmanBackend()._check_limits(limits)
    assert "--no-limits" in str(raised.value)


@pytest.mark.docker
async def test_an_engine_of_the_other_kind_is_refused(
    require_docker: None, require_podman: None, spec: SandboxSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    docker, podman = DOCKER.address, PODMAN.address
    monkeypatch.setenv("DOCKER_HOST", podman)
    monkeypatch.setenv("CONTAINER_HOST", docker)
    with pytest.raises(UserError, match=r"a podman engine answers: use the sandbox podman .* CONTAINER_HOST"):
        await DockerBackend().ls()
    with pytest.raises(UserError, match=r"a docker engine answers: use the sandbox docker .* DOCKER_HOST"):
        await PodmanBackend().ls()


def cli(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "swe_aem", *words], capture_output=True, text=True, timeout=250, check=False
    )


def test_tasks_are_rolled_out_and_nothing_is_left(require_podman: None, tmp_path: Path) -> None:
    done = cli(
        "rollout",
        "--tasks",
        "micro",
        "--limit",
        "1",
        "--sandbox",
        "podman",
        "--agent",
        "gold",
        "--out",
        str(tmp_path / "run"),
    )
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["resolved"] == 1
    left = map(json.loads, cli("sandbox", "ls", "--sandbox", "podman", "--json").stdout.splitlines())
    assert all(row["owner_alive"] for row in left)


@pytest.mark.nightly
@pytest.mark.skipif(SERVICE is None, reason="ROOTLESS_PODMAN names no service of an ordinary user")
class TestRootless(SandboxConformance):
    """Without limits of control groups, as on a host with version 1."""

    sandbox = "podman"
    limits = Limits(memory_bytes=None, cpus=None, pids=None, disk_bytes=256 << 20)

    @classmethod
    def setup_class(cls) -> None:
        cls._patch = pytest.MonkeyPatch()
        cls._patch.setenv("CONTAINER_HOST", str(SERVICE))

    @classmethod
    def teardown_class(cls) -> None:
        cls._patch.undo()
