"""Whole rollouts through the command line, as a user runs them."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).parents[2]

Rollout = Callable[..., dict[str, Any]]


@pytest.fixture
def environment() -> dict[str, str]:
    """The environment of a command that is started like a user's."""
    return {**os.environ, "PYTHONUNBUFFERED": "1"}


@pytest.fixture
def rollout(tmp_path: Path) -> Rollout:
    """`rollout(name, *arguments)` runs `swe-aem rollout` into tmp_path/name and returns its summary."""

    def run(name: str, *arguments: str) -> dict[str, Any]:
        command = [sys.executable, "-m", "swe_aem", "rollout", "--out", str(tmp_path / name), *arguments]
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=900, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads((tmp_path / name / "summary.json").read_text())

    return run


@pytest.fixture(
    params=[
        pytest.param("bubblewrap", marks=pytest.mark.bubblewrap),
        pytest.param("docker", marks=[pytest.mark.docker, pytest.mark.nightly]),
    ]
)
def kind(request: pytest.FixtureRequest) -> str:
    """Name of each backend in turn, whose service is available."""
    request.getfixturevalue(f"require_{request.param}")
    return request.param
