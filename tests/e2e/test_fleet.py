"""Rollouts on a real Ray cluster of two hosts on this machine, which are killed, as is the process that drives them."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from swe_aem.core import Trajectory
from swe_aem.sandbox import cgroup
from swe_aem.store import Store
from tests.conftest import absent
from tests.e2e.ray_cluster import RayCluster, ray_cluster
from tests.e2e.test_killed import orphaned_groups, sandboxes, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.bubblewrap, pytest.mark.timeout(600)]
REPOSITORY = Path(__file__).parents[2]
TASKS = ["--tasks", "tasks/nano", "--limit", "4", "--no-twins", "--set", "scheduling.backoff_s=0.1"]


@pytest.fixture(scope="module")
def cluster(require_bubblewrap: None) -> Iterator[RayCluster]:
    try:
        import ray  # noqa: F401
    except ModuleNotFoundError:
        absent("ray is not installed")
    with ray_cluster() as started:
        yield started


def command(out: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "swe_aem", "rollout", "--out", str(out), *TASKS, *more]


def told(trajectory: Trajectory) -> dict[str, Any]:
    """All that a store says of a trajectory, less times, logs, which have times too, and how often a host was lost."""
    timeless = trajectory.model_dump(mode="json", exclude={"timings_s": True, "attempt": True, "verdict": {"log_tail"}})

    def strip(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: strip(inner) for name, inner in value.items() if not name.endswith("_s")}
        return [strip(inner) for inner in value] if isinstance(value, list) else value

    return strip(timeless)


def test_whatever_is_killed_each_trajectory_is_stored_once_and_nothing_is_left(
    cluster: RayCluster, tmp_path: Path
) -> None:
    before, groups_before = sandboxes(owner_alive=False), set(cgroup.leftovers())
    lost, _ = cluster.add(), cluster.add()
    here, there = tmp_path / "here", tmp_path / "there"
    on_hosts = command(there, "--group-size", "3", "--cluster", cluster.address, "--concurrency", "2")

    driven = subprocess.Popen(on_hosts, cwd=REPOSITORY, env=cluster.environment)
    wait_for(there, 1, driven)
    driven.send_signal(signal.SIGKILL)
    driven.wait()

    driven = subprocess.Popen(
        on_hosts, cwd=REPOSITORY, env=cluster.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    wait_for(there, len(Store(there).completed()) + 2, driven)
    cluster.kill(lost)
    output = driven.communicate(timeout=300)[0].decode()
    assert driven.returncode == 0, output
    assert "is lost" in output

    subprocess.run(command(here, "--group-size", "3"), cwd=REPOSITORY, check=True, capture_output=True)
    stored = {one.key: told(one) for one in Store(there).trajectories()}
    assert len(list(Store(there).trajectories())) == len(stored) == 12
    assert stored == {one.key: told(one) for one in Store(here).trajectories()}
    assert json.loads((there / "summary.json").read_text())["resolved"] == 12

    subprocess.run([sys.executable, "-m", "swe_aem", "sandbox", "prune"], check=True, capture_output=True)
    assert sandboxes(owner_alive=False) <= before
    assert orphaned_groups() <= groups_before
