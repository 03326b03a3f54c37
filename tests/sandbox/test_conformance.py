"""The package's own sandboxes conform; one that is too open is not examined."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from swe_aem.testing import SandboxConformance


@pytest.mark.bubblewrap
@pytest.mark.usefixtures("require_bubblewrap")
class TestBubblewrap(SandboxConformance):
    sandbox = "bubblewrap"


@pytest.mark.bubblewrap
@pytest.mark.slow
@pytest.mark.nightly
@pytest.mark.usefixtures("require_bubblewrap")
class TestUtilLinux(SandboxConformance):
    sandbox = {"type": "bubblewrap", "launcher": "util-linux"}


@pytest.mark.docker
@pytest.mark.slow
@pytest.mark.usefixtures("require_docker")
class TestDocker(SandboxConformance):
    sandbox = "docker"


@pytest.mark.podman
@pytest.mark.slow
@pytest.mark.nightly
@pytest.mark.usefixtures("require_podman")
class TestPodman(SandboxConformance):
    sandbox = "podman"


TOO_OPEN = '''
"""A backend that isolates nothing, as somebody might begin."""

import subprocess
from contextlib import asynccontextmanager
from pathlib import Path

from swe_aem.core import ExecResult
from swe_aem.testing import SandboxConformance
from swe_aem.testing.sandbox import FakeBackend, FakeSandbox

HERE = Path(__file__).parent


class Open(FakeSandbox):
    async def run(self, command, *, timeout_s, **_):
        with (HERE / "commands").open("a") as log:
            log.write(command[:60] + "\\n")
        done = subprocess.run(["bash", "-c", command], capture_output=True, timeout=timeout_s)
        told, code = done.stdout + done.stderr, done.returncode
        return ExecResult(exit_code=code, head=told, tail=b"", output_bytes=len(told), output_path="", wall_s=0)

    async def write_file(self, path, data):
        Path(path).write_bytes(data)


class Backend(FakeBackend):
    @asynccontextmanager
    async def open(self, spec):
        yield Open("open", spec)


class TestOpen(SandboxConformance):
    sandbox = {"type": f"{__file__}:Backend"}
'''


def test_a_sandbox_that_is_too_open_is_not_examined(tmp_path: Path) -> None:
    """Its commands would run on this host: only the probes do, and every test fails."""
    (tmp_path / "test_open.py").write_text(TOO_OPEN)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path)]
    plain = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([*command, "test_open.py"], cwd=tmp_path, env=plain, capture_output=True, text=True)
    tests = [name for name in vars(SandboxConformance) if name.startswith("test_")]
    assert f"{len(tests)} errors" in done.stdout, done.stdout + done.stderr
    assert "does not shield this host, and is not examined: " in done.stdout
    assert "the pid namespace is the host's" in done.stdout
    ran = {line.split(" ")[0] + " " + line.split(" ")[1] for line in (tmp_path / "commands").read_text().splitlines()}
    assert ran == {"python3 /tmp/swe-aem-containment.py", "rm -f"}
