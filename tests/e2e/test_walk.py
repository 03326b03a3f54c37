"""A reader adds a third harness: the file and the commands of docs/bring-your-own-agent.md, as they stand there."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import absent
from tests.e2e.conftest import REPOSITORY
from tests.walk import walk


@pytest.mark.slow
def test_the_walk(require_bubblewrap: None, tmp_path: Path) -> None:
    if shutil.which("uv") is None:
        absent("uv is not installed")
    harness, commands = walk()
    (tmp_path / "my_agent.py").write_text(harness)
    (tmp_path / "tasks").symlink_to(REPOSITORY / "tasks")
    for program, *words in commands:
        assert program == "swe-aem"
        done = subprocess.run(
            [sys.executable, "-m", "swe_aem", *words],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    summary = json.loads((tmp_path / "runs" / "mine" / "summary.json").read_text())
    assert (summary["trajectories"], summary["resolved"]) == (2, 2)


@pytest.mark.parametrize("name", ["openhands", "mini-swe-agent"])
def test_the_presets_are_configurations(name: str) -> None:
    from swe_aem.core.settings import load
    from swe_aem.rollout.config import RolloutConfig

    config = load(RolloutConfig, REPOSITORY / "configs" / "rollout" / f"{name}.yaml", {"policy": "gold"})
    assert (config.agent, config.time_limit_s) == (name, 3600)
