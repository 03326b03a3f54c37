"""The simulation of the pipeline, in small: what `wait` and `drop` promise of pace, age and lengths. And real runs that
sleep."""

import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

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


def test_a_trajectory_sleeps_as_long_in_every_run() -> None:
    sleeping = runpy.run_path(str(SCRIPT.with_name("sleeping.py")))["Sleeping"]
    agents = [sleeping(median_s=5.0, sigma=1.0, limit_s=55.0) for _ in range(2)]
    lots = [[agent.sleep_s(f"task-{task}", sample) for task in range(100) for sample in range(8)] for agent in agents]
    assert lots[0] == lots[1]
    assert len(set(lots[0])) > 790, "but for those at the limit all differ"
    assert max(lots[0]) <= 55.0
    assert sum(seconds < 5.0 for seconds in lots[0]) == pytest.approx(400, abs=40)


@pytest.mark.nightly
@pytest.mark.slow
@pytest.mark.bubblewrap
@pytest.mark.torch
@pytest.mark.timeout(900)
def test_real_runs_train_on_what_slept(tmp_path: Path, require_bubblewrap: None) -> None:
    options = ["--real", "--steps", "2", "--median-s", "0.5", "--json", str(tmp_path / "found.json")]
    done = subprocess.run([sys.executable, str(SCRIPT), *options], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    on_policy, stale = found["rows"]
    assert (on_policy["max_age"], stale["max_age"] <= 4) == (0, True)
    assert on_policy["mean_sleep_s"] == stale["mean_sleep_s"], "both have the same groups"
    assert on_policy["simulated_step_s"] > stale["simulated_step_s"]
    for row in found["rows"]:
        assert (len(row["steps"]), row["trajectories"]) == (2, 64)
        assert row["mean_beyond_s"] > 0, "nothing is faster than its sleep"
