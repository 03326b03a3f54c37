"""Training on a real Ray cluster of two hosts on this machine; the process that trains is killed in the middle."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("trl", reason="needs the train extra")

from swe_aem.core import Trajectory
from swe_aem.store import Store
from swe_aem.train.records import read_metrics
from tests.conftest import absent
from tests.e2e.ray_cluster import RayCluster, ray_cluster
from tests.e2e.updated_fleet import UPDATES

pytestmark = [
    pytest.mark.slow,
    pytest.mark.nightly,
    pytest.mark.bubblewrap,
    pytest.mark.torch,
    pytest.mark.timeout(3000),
]
REPOSITORY = Path(__file__).parents[2]
SMALL = (
    "steps=3", "oversampled_groups=null", "groups_per_step=2", "num_minibatches=1", "micro_batch_size=4",
    "save_every=1", "rollout.group_size=4", "rollout.scheduling.concurrency=2", "heldout.limit=2", "heldout.every=2",
)  # fmt: skip


@pytest.fixture(scope="module")
def cluster(require_bubblewrap: None) -> Iterator[RayCluster]:
    if find_spec("ray") is None:
        absent("ray is not installed")
    with ray_cluster() as started:
        started.add()
        started.add()
        yield started


def command(out: Path, *more: str) -> list[str]:
    settings = [f"--set={one}" for one in SMALL]
    return [
        sys.executable, "-m", "swe_aem", "train", "configs/quickstart.yaml", "--out", str(out), "--no-report",
        *settings, *more,
    ]  # fmt: skip


def stored(directory: Path) -> dict[Any, Trajectory]:
    """By key; each is there once."""
    found = list(Store(directory).trajectories())
    assert len({one.key for one in found}) == len(found)
    return {one.key: one for one in found}


def versions(directory: Path) -> dict[Any, set[int]]:
    return {key: {one.version for one in trajectory.responses} for key, trajectory in stored(directory).items()}


def chosen(out: Path) -> list[Any]:
    return [json.loads(line)["tasks"] for line in (out / "sampler.jsonl").read_text().splitlines()]


def test_it_trains_on_the_groups_of_a_run_on_one_host(cluster: RayCluster, tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    on_hosts = command(there, "--cluster", cluster.address)
    training = subprocess.Popen(on_hosts, cwd=REPOSITORY, env=cluster.environment, stderr=subprocess.PIPE, text=True)
    while training.poll() is None and not ((there / "metrics.jsonl").exists() and read_metrics(there)):
        time.sleep(0.1)
    training.kill()
    said = training.communicate()[1]
    assert training.returncode == -9, said
    done = subprocess.run(on_hosts, cwd=REPOSITORY, env=cluster.environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-5000:]

    subprocess.run(command(here), cwd=REPOSITORY, check=True, capture_output=True)
    assert chosen(there) == chosen(here)
    assert versions(there / "rollouts") == versions(here / "rollouts")
    assert len(versions(there / "rollouts")) == 3 * 2 * 4
    for name in (path.name for path in (here / "heldout").iterdir()):
        assert versions(there / "heldout" / name) == versions(here / "heldout" / name)
    assert [line.step for line in read_metrics(there)] == [1, 2, 3]


def stamps(trajectory: Trajectory) -> list[tuple[int, int]]:
    """(the version that a token bears, the one that sampled it) of each sampled token."""
    found = []
    for one in trajectory.responses:
        starts, version = {span.start: span.version for span in one.spans}, one.version
        for place, token in enumerate(trajectory.token_ids[one.start : one.end]):
            version = starts.get(place, version)
            found.append((version, token // 100))
    return found


def test_no_token_bears_another_version_where_a_host_is_lost_beside_updates(
    cluster: RayCluster, tmp_path: Path
) -> None:
    lost = cluster.add()
    updated = [sys.executable, "-m", "tests.e2e.updated_fleet", cluster.address, str(tmp_path)]
    driven = subprocess.Popen(updated, cwd=REPOSITORY, env=cluster.environment, stdout=subprocess.PIPE, text=True)
    assert driven.stdout is not None
    said = []
    for line in driven.stdout:  # Ray has something to say there too
        said += [line] if line.startswith("step") else []
        if len(said) == 2 and lost.poll() is None:
            cluster.kill(lost)
    assert (driven.wait(), len(said)) == (0, UPDATES)
    sampled = [one for trajectory in stored(tmp_path / "rollouts").values() for one in stamps(trajectory)]
    assert sampled
    assert [one for one in sampled if one[0] != one[1]] == []
    assert len({version for version, _ in sampled}) > 1
