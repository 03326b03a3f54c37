"""Real sandboxes of every kind: docker, bubblewrap, and the util-linux fallback."""

import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from swe_aem.core import Limits, Sandbox, SandboxBackend, SandboxSpec
from swe_aem.sandbox import open_backend
from swe_aem.sandbox.bubblewrap import BubblewrapBackend
from swe_aem.testing.containment import require_containment

KINDS = [
    pytest.param("bubblewrap", marks=pytest.mark.bubblewrap),
    pytest.param("util-linux", marks=[pytest.mark.bubblewrap, pytest.mark.slow, pytest.mark.nightly]),
    pytest.param("docker", marks=[pytest.mark.docker, pytest.mark.slow]),
    pytest.param("podman", marks=[pytest.mark.podman, pytest.mark.slow, pytest.mark.nightly]),
]


@pytest.fixture(params=KINDS)
def backend(request: pytest.FixtureRequest) -> SandboxBackend:
    """One backend of each kind in turn."""
    request.getfixturevalue(
        f"require_{request.param}" if request.param in ("docker", "podman") else "require_bubblewrap"
    )
    return BubblewrapBackend(launcher="util-linux") if request.param == "util-linux" else open_backend(request.param)


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A host directory that becomes the sandbox's /testbed."""
    root = tmp_path / "workspace"
    (root / "package").mkdir(parents=True)
    (root / "package" / "module.py").write_text("answer = 41\n")
    (root / "run.sh").write_text("#!/bin/sh\necho ran\n")
    (root / "run.sh").chmod(0o755)
    return root


@pytest.fixture
def spec(workspace: Path) -> SandboxSpec:
    """A small sandbox of the bundled tasks' image."""
    limits = Limits(memory_bytes=512 << 20, cpus=1.0, pids=64, disk_bytes=256 << 20)
    return SandboxSpec(
        image="swe-aem/micro:1", workspace=workspace, limits=limits, ttl_s=900, labels={"run": uuid.uuid4().hex}
    )


@pytest.fixture
async def sandbox(backend: SandboxBackend, spec: SandboxSpec) -> AsyncIterator[Sandbox]:
    """A live sandbox."""
    async with backend.open(spec) as live:
        yield live


_CONTAINED: set[str] = set()


@pytest.fixture
async def contained(request: pytest.FixtureRequest, backend: SandboxBackend, spec: SandboxSpec) -> None:
    """The backend was tried, once, with probes that cannot act: hostile commands may follow."""
    kind = request.node.callspec.params["backend"]
    if kind not in _CONTAINED:
        await require_containment(backend, spec)
        _CONTAINED.add(kind)
