"""The benchmark of dealt rows runs through; only what its cost model says is checked."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("trl", reason="needs the train extra")

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.torch]


def run(result: Path, *arguments: str) -> dict:
    command = [sys.executable, str(ROOT / "benchmarks" / "dealing.py"), "--json", str(result), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(result.read_text())


def test_rows_dealt_by_length_keep_processes_busy_by_the_cost_model(tmp_path: Path) -> None:
    rows = run(tmp_path / "dealing.json", "--rounds", "0")["model"]
    assert {row["processes"] for row in rows} == {2, 8, 32}
    assert all(row["by_length"] > 0.9 and row["gain"] > 1.2 for row in rows)
    assert all(row["gain"] > 1.9 for row in rows if row["processes"] == 32)


@pytest.mark.nightly
def test_two_processes_train_in_both_orders(tmp_path: Path) -> None:
    found = run(tmp_path / "dealing.json", "--rounds", "1", "--shape", "tiny", "--longest", "128")["measured"]
    assert all(0 < found[order]["busy_share"] <= 1 for order in ("in_order", "by_length"))
