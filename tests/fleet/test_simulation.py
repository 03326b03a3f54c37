"""A fleet of the size that it is meant for: its scheduler, agents and store, on fake hosts and in virtual time."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).parents[2]


def simulated(**options: int) -> dict[str, Any]:
    """What happened in a process of its own, whose memory is that of the simulation alone."""
    given = [f"--{name}={value}" for name, value in options.items()]
    done = subprocess.run(
        [sys.executable, "-m", "tests.fleet.simulation", *given], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    print(done.stdout)
    return json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("hosts", "places", "tasks", "events"),
    [(8, 25, 16, 8), pytest.param(64, 32, 256, 30, marks=[pytest.mark.nightly, pytest.mark.timeout(1200)])],
)
def test_thousands_at_once_are_stored_once_each_while_hosts_come_and_go(
    hosts: int, places: int, tasks: int, events: int
) -> None:
    found = simulated(hosts=hosts, places=places, tasks=tasks, events=events)
    assert found["stored"] == found["keys"] == 16 * tasks
    assert found["ends"] == {"resolved, reward 1.0": 16 * tasks}
    assert sum(found["happened"].values()) == events
    assert found["most_at_once"] >= 0.95 * hosts * places
    assert found["failed_attempts"] <= found["most_repeated"], "only what hosts had that were lost or cut off"
    assert found["sandboxes_left"] == 0
    assert found["peak_bytes"] <= 1.5e9
