"""Rollouts on a real Ray cluster of two hosts on this machine, which are killed, as is the process that drives them."""

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from operator import attrgetter, itemgetter
from pathlib import Path
from typing import Any

import pytest

from swe_aem.core import Trajectory
from swe_aem.sandbox import cgroup
from swe_aem.store import Store, read_graded
from swe_aem.tasks import read_lock
from tests.conftest import absent
from tests.e2e.ray_cluster import RayCluster, ray_cluster
from tests.e2e.test_killed import orphaned_groups, sandboxes, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.bubblewrap, pytest.mark.timeout(600)]
REPOSITORY = Path(__file__).parents[2]
_OF_VERDICT = {"log_tail", "eval_s", "twin_s", "twinned", "wall_s", "cpu_s", "starved_s"}
"""Measured, or chosen anew each time: which PASS_TO_PASS tests get twins, nobody can foretell."""
_TIMES: Any = {"wall_s": True, "cpu_s": True, "verdict": _OF_VERDICT}
_MEASURED = {"boot_s", "test_s", "max_test_s", "twin_s", "peak_memory_bytes", "checked_on"}
TASKS = ["--tasks", "tasks/nano", "--limit", "4", "--no-twins", "--set", "scheduling.backoff_s=0.1"]


@pytest.fixture(scope="module")
def cluster(require_bubblewrap: None) -> Iterator[RayCluster]:
    try:
        import ray  # noqa: F401
    except ModuleNotFoundError:
        absent("ray is not installed")
    with ray_cluster() as started:
        yield started


@pytest.fixture
def one_host(cluster: RayCluster) -> Iterator[subprocess.Popen[bytes]]:
    """A host for the length of a test, and no other."""
    for process in cluster.hosts:
        cluster.kill(process)
    yield cluster.add()
    for process in cluster.hosts:
        cluster.kill(process)


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


def swe_aem(cluster: RayCluster, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "swe_aem", *arguments],
        cwd=REPOSITORY, env=cluster.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=300,
    )  # fmt: skip
    output = done.stdout.decode()
    assert done.returncode == 0, output
    return output


@pytest.mark.nightly
def test_patches_are_graded_sets_worked_through_and_tasks_checked_as_on_one_host(
    cluster: RayCluster, tmp_path: Path
) -> None:
    added = [cluster.add(), cluster.add()]
    made, here, there = tmp_path / "made", tmp_path / "here", tmp_path / "there"
    subprocess.run(command(made), cwd=REPOSITORY, check=True, capture_output=True)
    grade = ["grade", "--tasks", "tasks/nano", "--predictions", str(made), "--out"]
    swe_aem(cluster, *grade, str(here))
    assert "joined" in swe_aem(cluster, *grade, str(there), "--cluster", cluster.address)
    told_there = [one.model_dump(exclude=_TIMES) for one in read_graded(there)]
    key = itemgetter("instance_id")
    assert sorted(told_there, key=key) == sorted((one.model_dump(exclude=_TIMES) for one in read_graded(here)), key=key)
    assert len(told_there) == 4

    bench = ["bench", "tasks/nano", "--policy", "gold", "--limit", "2", "--out", str(tmp_path / "bench")]
    assert "joined" in swe_aem(cluster, *bench, "--cluster", cluster.address)
    assert json.loads((tmp_path / "bench" / "summary.json").read_text())["resolved"] == 2
    assert len(json.loads((tmp_path / "bench" / "preds.json").read_text())) == 2

    check = ["tasks", "check", "--tasks", "tasks/nano", "--limit", "4", "--gold", "1", "--lock"]
    swe_aem(cluster, *check, str(tmp_path / "here.lock"))
    swe_aem(cluster, *check, str(tmp_path / "there.lock"), "--cluster", cluster.address)
    locks = [read_lock(tmp_path / f"{where}.lock").values() for where in ("here", "there")]
    entries = [[one.model_dump(exclude=_MEASURED) for one in sorted(lock, key=attrgetter("task_id"))] for lock in locks]
    assert entries[0] == entries[1]
    assert "4 were known" in swe_aem(cluster, *check, str(tmp_path / "there.lock"), "--cluster", cluster.address)
    for host in added:
        cluster.kill(host)


@pytest.mark.nightly
def test_where_all_hosts_are_lost_the_head_rolls_out_nothing_and_the_run_ends(
    cluster: RayCluster, one_host: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    rollout = command(out, "--group-size", "8", "--cluster", cluster.address, "--concurrency", "1")
    settings = ["--set", "cluster.wait_s=20"]
    driven = subprocess.Popen(
        [*rollout, *settings], cwd=REPOSITORY, env=cluster.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    wait_for(out, 1, driven)
    cluster.kill(one_host)
    output = driven.communicate(timeout=300)[0].decode()
    assert driven.returncode == 1, output
    assert output.count(" joined: ") == 1
    assert "no host of the cluster has worked for" in output
    stored = Store(out).completed()
    assert 1 <= len(stored) < 32
    again = subprocess.run([*rollout, *settings], cwd=REPOSITORY, env=cluster.environment, capture_output=True)
    assert (again.returncode, b" joined: " in again.stderr) == (1, False), again.stderr
    cluster.add()
    subprocess.run(rollout, cwd=REPOSITORY, env=cluster.environment, check=True, capture_output=True)
    assert len(Store(out).completed()) == 32
    assert set(stored) <= set(Store(out).completed())


@pytest.mark.nightly
@pytest.mark.usefixtures("one_host")
def test_the_second_driver_on_a_cluster_waits_for_the_first_and_status_names_both(
    cluster: RayCluster, tmp_path: Path
) -> None:
    logs = {name: tmp_path / f"{name}.log" for name in ("first", "second")}
    started = {}
    for name, group_size in (("first", 200), ("second", 2)):
        with logs[name].open("wb") as log:
            driven = command(tmp_path / name, "--group-size", str(group_size), "--cluster", cluster.address)
            started[name] = subprocess.Popen(driven, cwd=REPOSITORY, env=cluster.environment, stdout=log, stderr=log)
        if name == "first":
            wait_for(tmp_path / name, 1, started[name])
    end_s = time.monotonic() + 120
    while "has no place left" not in (said := logs["second"].read_text()):
        assert time.monotonic() < end_s, said
        assert started["second"].poll() is None, said
        time.sleep(0.1)
    status = swe_aem(cluster, "cluster", "status", "--cluster", cluster.address)
    assert re.search(rf"{tmp_path}/first \(.*\) has (\d+) of \1 places; {tmp_path}/second \(.*\) has 0 of", status), (
        status
    )
    started["first"].send_signal(signal.SIGINT)
    assert [driven.wait(timeout=300) for driven in started.values()] == [130, 0], logs["second"].read_text()
    assert f"has no place left: {tmp_path}/first (" in said
    assert "places now" in logs["second"].read_text()
    assert len(Store(tmp_path / "second").completed()) == 8
