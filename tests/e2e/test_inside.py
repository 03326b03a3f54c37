"""An agent that runs in the sandbox: it solves tasks, and its trajectories are exact."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from swe_aem.store import Store
from tests.conftest import absent
from tests.e2e.conftest import REPOSITORY

AGENT = REPOSITORY / "tests" / "harness" / "inside_agent.py"


def swe_aem(cwd: Path, *words: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "swe_aem", *words],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def solve(tmp_path: Path, sandbox: str) -> None:
    """Roll out the gold patch of a bundled task through the agent, and check the store."""
    if shutil.which("uv") is None:
        absent("uv is not installed")
    swe_aem(tmp_path, "harness", "install", str(AGENT))
    task = ["--tasks", str(REPOSITORY / "tasks" / "micro"), "--limit", "1"]
    swe_aem(tmp_path, "rollout", "--agent", str(AGENT), "--policy", "gold", *task, "--sandbox", sandbox, "--out", "run")
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert (summary["trajectories"], summary["resolved"]) == (1, 1)
    (trajectory,) = Store(tmp_path / "run").trajectories()
    assert trajectory.token_exact
    assert trajectory.branches == ()
    assert len(trajectory.responses) > 1
    ends = [0, *(response.end for response in trajectory.responses)]
    assert ends == sorted(ends)
    assert ends[-1] == len(trajectory.token_ids)


@pytest.mark.slow
def test_an_agent_in_the_sandbox_solves_a_task(require_bubblewrap: None, tmp_path: Path) -> None:
    solve(tmp_path, "bubblewrap")


@pytest.mark.slow
@pytest.mark.nightly
@pytest.mark.docker
def test_an_agent_in_a_container_solves_a_task(require_docker: None, tmp_path: Path) -> None:
    solve(tmp_path, "docker")
