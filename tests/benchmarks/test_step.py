"""The benchmark of training steps runs through on the quickstart's own shape; no figure is checked."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("trl", reason="needs the train extra")

ROOT = Path(__file__).parents[2]
SMALL = [
    "groups_per_step=1",
    "oversampled_groups=1",
    "num_minibatches=1",
    "micro_batch_size=4",
    "rollout.group_size=4",
]
pytestmark = [pytest.mark.slow, pytest.mark.torch]


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, str(ROOT / "benchmarks" / "step.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=280, cwd=ROOT, check=False)


def test_step(tmp_path: Path) -> None:
    result = tmp_path / "step.json"
    settings = [part for setting in SMALL for part in ("--set", setting)]
    done = run("configs/quickstart.yaml", *settings, "--json", str(result))
    assert done.returncode == 0, done.stdout + done.stderr
    (row,) = json.loads(result.read_text()).values()
    assert (row["rows"], row["longest"]) == (4, 512)
    assert row["step_s"] > 0
    assert row["model_tflops"] > 0
    assert "of a matrix product" in done.stdout


@pytest.mark.nightly
def test_a_step_that_fails_says_why_and_fails(tmp_path: Path) -> None:
    done = run("configs/quickstart.yaml", "--set", "groups_per_step=0")
    assert done.returncode == 1
    assert "groups_per_step" in done.stderr
