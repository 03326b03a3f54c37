"""The simulation of the pipeline, in small: what `wait` and `drop` promise of pace, age and lengths."""

import json
import runpy
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "pipeline.py"


def test_waiting_keeps_lengths_and_most_of_the_pace() -> None:
    pipeline = runpy.run_path(str(SCRIPT))
    workload = pipeline["Workload"](
        480.0, 0.7, 5400.0, trajectories=128, places=64, train_s=600.0, sync_s=60.0, steps=60
    )
    rows = {(one["max_staleness"], one["stale"]): one for one in pipeline["simulate"](workload)}
    waiting = [rows[staleness, "wait"] for staleness in (0, 1, 2, 4)]
    assert [one["max_age"] <= one["max_staleness"] for one in waiting] == [True] * 4
    assert [one["kept"] for one in waiting] == [1.0] * 4
    assert all(one["mean_trained_s"] == one["mean_begun_s"] for one in waiting), "all that began is trained on"
    paces = [one["pace"] for one in waiting]
    assert paces == sorted(paces)
    assert paces[0] < 0.4
    assert paces[-1] > 0.9
    dropping = rows[1, "drop"]
    assert dropping["pace"] > rows[1, "wait"]["pace"]
    assert dropping["kept"] < 1
    assert dropping["mean_trained_s"] < dropping["mean_begun_s"], "what is dropped is long"


def test_the_command_writes_its_figures(tmp_path: Path) -> None:
    options = ["--trajectories", "32", "--places", "16", "--steps", "8", "--json", str(tmp_path / "found.json")]
    done = subprocess.run([sys.executable, str(SCRIPT), *options], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "| max_staleness | stale |" in done.stdout
    assert len(json.loads((tmp_path / "found.json").read_text())["rows"]) == 21
