"""The doctor: each thing that can be wrong is made wrong, and the finding must name what fixes it."""

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from swe_aem.core.finding import fail, ok
from swe_aem.doctor import CHECKS, Finding, Level, Purpose, examine, host, network, sandboxes
from swe_aem.doctor.finding import Check
from swe_aem.errors import UserError

Patch = pytest.MonkeyPatch


def no_programs(patch: Patch) -> None:
    patch.setattr("shutil.which", lambda name: None)


def a_small_disk(patch: Patch) -> None:
    patch.setattr("shutil.disk_usage", lambda place: type("Usage", (), {"free": 1 << 20}))


def few_files(patch: Patch) -> None:
    patch.setattr(resource, "getrlimit", lambda what: (256, 512))


def an_unwritable_cache(patch: Patch) -> None:
    patch.setattr(host, "cache_dir", lambda: Path("/proc/none"))


def a_cache_on_a_network(patch: Patch) -> None:
    patch.setattr(host, "network_filesystem", lambda place: "nfs4")


def another_system(patch: Patch) -> None:
    patch.setattr("platform.system", lambda: "Darwin")


def nothing_installed(patch: Patch) -> None:
    def absent(name: str) -> str:
        raise host.importlib.metadata.PackageNotFoundError(name)

    patch.setattr(host.importlib.metadata, "version", absent)


def an_old_kernel(patch: Patch) -> None:
    patch.setattr(sandboxes, "_FILESYSTEMS", Path("/dev/null"))
    patch.setattr(sandboxes, "_SECCOMP", Path("/no/such"))


def no_control_groups(patch: Patch) -> None:
    def refuse(id: str, limits: Any) -> None:
        raise UserError("not writable")

    patch.setattr(sandboxes.cgroup, "create", refuse)


def no_engine(patch: Patch) -> None:
    patch.setenv("DOCKER_HOST", "unix:///nowhere")
    patch.setenv("CONTAINER_HOST", "unix:///nowhere")


def no_network(patch: Patch) -> None:
    def refuse(*words: Any, **options: Any) -> None:
        raise httpx.ConnectError("no route")

    patch.setattr(httpx, "get", refuse)


@pytest.mark.parametrize(
    ("look", "spoil", "level", "fix"),
    [
        (host.python, another_system, Level.FAIL, "Linux"),
        (host.packages, nothing_installed, Level.FAIL, "uv sync"),
        (host.training_packages, nothing_installed, Level.FAIL, "--all-extras"),
        (host.git, no_programs, Level.FAIL, "apt-get install git"),
        (host.disk, a_small_disk, Level.WARN, "swe-aem images gc"),
        (host.disk, an_unwritable_cache, Level.FAIL, "SWE_AEM_CACHE"),
        (host.disk, a_cache_on_a_network, Level.WARN, "SWE_AEM_CACHE to a directory on a disk of this host"),
        (host.temporary, a_small_disk, Level.WARN, "TMPDIR"),
        (host.open_files, few_files, Level.WARN, "ulimit -Hn 1024"),
        (host.gpu, no_programs, Level.FAIL, "NVIDIA"),
        (sandboxes.launcher, no_programs, Level.FAIL, "apt-get install bubblewrap"),
        (sandboxes.kernel, an_old_kernel, Level.FAIL, "modprobe overlay"),
        (sandboxes.control_groups, no_control_groups, Level.FAIL, "--no-limits"),
        (sandboxes.embedded, no_programs, Level.FAIL, "bubblewrap"),
        (sandboxes.engine, no_engine, Level.FAIL, "systemctl start docker"),
        (sandboxes.image, no_engine, Level.FAIL, "get the engine to answer"),
        (sandboxes.container, no_engine, Level.FAIL, "DOCKER_HOST"),
        (sandboxes.podman_container, no_engine, Level.FAIL, "podman system service"),
        (network.docker_hub, no_network, Level.WARN, "--mirror"),
        (network.huggingface, no_network, Level.WARN, "files"),
        (network.pypi, no_network, Level.WARN, "UV_INDEX_URL"),
    ],
)
def test_what_is_wrong_is_found_and_its_fix_named(
    look: Callable[[], Finding], spoil: Callable[[Patch], None], level: Level, fix: str, monkeypatch: Patch
) -> None:
    spoil(monkeypatch)
    found = look()
    assert (found.level, fix in found.fix) == (level, True), found


def test_little_memory(monkeypatch: Patch) -> None:
    monkeypatch.setattr(Path, "read_text", lambda path: "MemTotal: 8000000 kB\nMemAvailable: 1000000 kB\n")
    assert host.memory().level is Level.WARN


@pytest.mark.parametrize(("code", "level"), [(200, Level.OK), (401, Level.OK), (403, Level.WARN), (503, Level.WARN)])
def test_answers_of_registries(code: int, level: Level, monkeypatch: Patch) -> None:
    monkeypatch.setattr(httpx, "get", lambda *words, **options: httpx.Response(code))
    assert network.docker_hub().level is level


def test_only_what_the_purpose_needs_fails() -> None:
    def broken() -> Finding:
        raise ZeroDivisionError("a bug in a check")

    checks = [
        Check("a", lambda: fail("a", "off", "on"), frozenset({Purpose.DOCKER})),
        Check("b", broken, frozenset(Purpose)),
        Check("c", lambda: ok("c", "fine"), frozenset()),
    ]
    found = examine(Purpose.ROLLOUT, checks)
    assert [finding.level for finding in found] == [Level.WARN, Level.FAIL, Level.OK]
    assert "a bug in a check" in found[1].found
    assert examine(Purpose.DOCKER, checks)[0].level is Level.FAIL


def test_every_finding_bears_its_checks_name(monkeypatch: Patch) -> None:
    no_network(monkeypatch)
    assert [finding.check for finding in examine(Purpose.ROLLOUT)] == [check.name for check in CHECKS]


def doctor(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "swe_aem", "doctor", *words]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=100, env={**os.environ, **environment}, check=False
    )


@pytest.mark.bubblewrap
@pytest.mark.docker
@pytest.mark.slow
def test_this_host(require_bubblewrap: None, require_docker: None) -> None:
    done = doctor("--json", "--for", "docker")
    levels = {row["check"]: row["level"] for row in map(json.loads, done.stdout.splitlines())}
    assert done.returncode == 0, done.stdout
    assert {levels[name] for name in ("engine", "image", "docker sandbox", "bubblewrap sandbox")} == {"ok"}
    without = doctor("--for", "docker", DOCKER_HOST="unix:///nowhere")
    assert without.returncode == 1
    assert " to fix" in without.stdout
    assert doctor("--for", "lunch").returncode == 2
