"""Training on a real Ray cluster of two hosts on this machine; the process that trains is killed in the middle."""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("trl", reason="needs the train extra")

from swe_aem.core import Trajectory
from swe_aem.serve.planes import Parcel
from swe_aem.store import Store
from swe_aem.testing.tagging_vllm import FakeRequest, FakeTaggingVllm
from swe_aem.train.config import read_config
from swe_aem.train.records import read_metrics
from swe_aem.train.rollout_worker import RolloutWorker
from tests.conftest import absent
from tests.e2e.ray_cluster import RayCluster, ray_cluster
from tests.train.test_rollout_process import loop, running

pytestmark = [
    pytest.mark.slow,
    pytest.mark.nightly,
    pytest.mark.bubblewrap,
    pytest.mark.torch,
    pytest.mark.timeout(3000),
]
__all__ = ["loop"]
REPOSITORY = Path(__file__).parents[2]
SMALL = (
    "steps=3", "oversampled_groups=null", "groups_per_step=2", "num_minibatches=1", "micro_batch_size=4",
    "save_every=1", "rollout.group_size=4", "rollout.scheduling.concurrency=2", "heldout.limit=2", "heldout.every=2",
)  # fmt: skip


@pytest.fixture(scope="module")
def cluster(require_bubblewrap: None) -> Iterator[RayCluster]:
    try:
        import ray  # noqa: F401
    except ModuleNotFoundError:
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


class SmallVocabulary(FakeTaggingVllm):
    """A server whose token 307 was sampled by version 3: the quickstart's tokenizer knows few tokens."""

    def _sample(self, request: FakeRequest) -> None:
        request.tokens.append(100 * self._version + request.random.randrange(90))
        self.sampled += 1
        if len(request.tokens) >= request.max_tokens:
            self._end(request, "length")


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
    cluster: RayCluster, loop: asyncio.AbstractEventLoop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in cluster.environment.items():
        monkeypatch.setenv(name, value)
    lost, updates = cluster.add(), 4
    queued = (
        f"steps={updates}", "groups_per_step=2", "max_staleness=2", "importance_sampling={mode: truncate, high: 2}",
        "rollout.limit=8", "rollout.cluster.lost_after_s=10",
    )  # fmt: skip
    fake = SmallVocabulary(tick_s=0.02)
    with running(fake, loop):
        settings = [*SMALL, *queued, "heldout=null", f"servers.urls=[{fake.url}]"]
        config = read_config(Path("configs/quickstart.yaml"), settings, {"rollout.cluster": cluster.address})
        with RolloutWorker(config, tmp_path, lambda: None, "policy") as worker:
            for number in range(1, updates + 1):
                if worker.wants_weights(number):
                    path = f"x.{number - 1}"
                    worker.control.begin(Parcel(path, number - 1, {"path": path}, atomic=True, again=True))
                    worker.control.end(None)
                assert len(worker.step(number).groups) == 2
                if number == 2:
                    cluster.kill(lost)
    sampled = [one for trajectory in stored(tmp_path / "rollouts").values() for one in stamps(trajectory)]
    assert sampled
    assert [one for one in sampled if one[0] != one[1]] == []
    assert len({version for version, _ in sampled}) > 1
