"""The trainer's benchmark runs through with a tiny model and says that its contenders trained; no figure is checked."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("trl", reason="needs the train extra")

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "trainer.py"
pytestmark = [pytest.mark.slow, pytest.mark.torch, pytest.mark.nightly]


def test_trainer(tmp_path: Path) -> None:
    result = tmp_path / "trainer.json"
    sizes = ["--shape", "tiny", "--tokens", "64", "--steps", "2", "--rounds", "1"]
    command = [sys.executable, str(SCRIPT), *sizes, "--json", str(result)]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, env=env, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    medians = json.loads(result.read_text())["medians"]
    assert list(medians) == ["trl", "lam=0", "lam=1"]
    assert all(row["step_s"] > 0 and row["peak_mib"] > 0 for row in medians.values())
    assert medians["trl"]["weights"] == pytest.approx(medians["lam=0"]["weights"], rel=1e-5)
    assert medians["lam=1"]["weights"] != medians["lam=0"]["weights"]
    assert "AEM" in done.stdout
