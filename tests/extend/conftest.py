"""A stranger's machine: an environment with the built wheel, and nothing of the checkout."""

import os
import shutil
import site
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import absent

ROOT = Path(__file__).parents[2]


class Stranger:
    """Somebody who has installed the wheel, and works in directories that have nothing of the checkout."""

    def __init__(self, home: Path) -> None:
        """Builds the wheel and installs it below `home`. Libraries are those of the environment that runs the tests."""
        uv = shutil.which("uv")
        if uv is None:
            absent("uv is not installed")
        self.environment = home / "environment"
        programs = self.environment / "bin"
        subprocess.run([str(uv), "venv", "-q", "--python", sys.executable, self.environment], check=True)
        (site_packages,) = self.environment.glob("lib/python*/site-packages")
        (site_packages / "libraries.pth").write_text("\n".join(site.getsitepackages()))
        (programs / "pytest").write_text('#!/bin/sh\nexec python -m pytest "$@"\n')
        (programs / "pytest").chmod(0o755)
        (home / "uv.toml").write_text("[pip]\nno-deps = true\n")  # what a package needs is there, but not uv's to see
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYTEST", "GIT_"))}
        self.variables = kept | {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "VIRTUAL_ENV": str(self.environment),
            "UV_PYTHON": str(programs / "python"),  # it goes before the other one, and CI sets it
            "UV_CONFIG_FILE": str(home / "uv.toml"),
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            **{f"GIT_{who}_NAME": "A Stranger" for who in ("AUTHOR", "COMMITTER")},
            **{f"GIT_{who}_EMAIL": "stranger@example.com" for who in ("AUTHOR", "COMMITTER")},
        }
        build = ["uv", "build", "--wheel", "-q", "--python", sys.executable, "--out-dir", str(home), str(ROOT)]
        subprocess.run(build, check=True)
        (wheel,) = home.glob("*.whl")
        self.types(f"uv pip install -q --offline {wheel}", home)

    def types(self, script: str, directory: Path) -> str:
        """What a shell says to a script, on both streams; a command of it that fails ends it and the test."""
        done = self.tries(script, directory)
        assert done.returncode == 0, done.stdout
        return done.stdout

    def tries(self, script: str, directory: Path) -> subprocess.CompletedProcess[str]:
        """The ended shell of a script that may fail, with both streams in one."""
        return subprocess.run(
            ["bash", "-e", "-o", "pipefail", "-c", script],
            cwd=directory,
            env=self.variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )


@pytest.fixture(scope="session")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Stranger:
    """The one environment that tests share: it takes seconds to make."""
    return Stranger(tmp_path_factory.mktemp("stranger"))
