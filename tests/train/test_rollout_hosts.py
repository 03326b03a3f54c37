"""Steps whose trajectories run on agents: those of a run on this host."""

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("trl", reason="needs the train extra")

from swe_aem.errors import UserError
from swe_aem.fleet.agent import NodeAgent
from swe_aem.fleet.figures import FleetFigures
from swe_aem.rollout.cluster_config import ClusterConfig
from swe_aem.testing.engine import FakeEngine
from swe_aem.train import rollout_hosts, rollout_process
from swe_aem.train.config import TrainConfig, differences, read_config
from swe_aem.train.models import load_trained
from swe_aem.train.refusals import reasons_at_start
from swe_aem.train.rollout_process import open_rollouts
from swe_aem.train.rollout_worker import RolloutWorker
from swe_aem.train.steps import Step

pytestmark = pytest.mark.torch
SETTINGS = (
    "steps=2", "groups_per_step=1", "oversampled_groups=null", "num_minibatches=1", "micro_batch_size=2",
    "rollout.group_size=2", "rollout.limit=1", "rollout.scheduling.concurrency=1", "device=cpu", "heldout=null",
)  # fmt: skip


def configuration(*more: str, cluster: str | None = None) -> TrainConfig:
    given = {} if cluster is None else {"rollout.cluster": cluster}
    return read_config(Path("configs/quickstart.yaml"), [*SETTINGS, *more], given)


def steps(config: TrainConfig, directory: Path, count: int) -> list[Step]:
    """The first steps of a run whose weights change by nothing but their version."""
    model = load_trained(config)
    with RolloutWorker(config, directory, lambda: model) as worker:
        found = []
        for number in range(1, count + 1):
            if worker.wants_weights(number):
                worker.load(dict(model.state_dict()), number - 1)
            found.append(worker.step(number))
        return found


def timeless(step: Step) -> list[Any]:
    fields = {"task_id", "sample", "token_ids", "outcome", "reward", "patch"}
    return [
        (one.model_dump(include=fields), [(turn.version, turn.logprobs) for turn in one.responses])
        for group in step.groups
        for one in group
    ]


@pytest.mark.slow
@pytest.mark.bubblewrap
def test_steps_on_hosts_have_the_rows_of_those_on_this_host(
    tmp_path: Path, require_bubblewrap: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = FakeEngine(lambda name: NodeAgent(shares_host=False, leave=lambda: None))
    engine.add("a")
    monkeypatch.setattr(rollout_hosts, "engine_at", lambda address: engine)
    there = steps(configuration(cluster="auto"), tmp_path / "there", 2)
    here = steps(configuration(), tmp_path / "here", 1)
    assert timeless(there[0]) == timeless(here[0])
    versions = [{turn.version for one in step.groups[0] for turn in one.responses} for step in there]
    assert versions == [{0}, {1}]
    assert [step.metrics().fleet for step in there] == [FleetFigures(hosts=1, images=1), FleetFigures(hosts=1)]
    assert here[0].metrics().fleet is None


def test_a_run_may_move_to_a_cluster_and_back() -> None:
    here, there = configuration(), configuration(cluster="10.0.0.1:6379")
    assert there.rollout.cluster == ClusterConfig(address="10.0.0.1:6379")
    assert differences(here, there) == differences(there, here) == []


def test_a_large_model_without_servers_is_refused() -> None:
    large = ("model=Qwen/Qwen3-4B", "rollout.tokenizer=configs/quickstart/policy")
    (reason,) = [
        one for one in reasons_at_start(configuration(*large, cluster="auto"), sharded=False) if "servers" in one
    ]
    assert "4.0 billion parameters" in reason
    for settings in (configuration(*large), configuration("model=Qwen/Qwen3-0.6B", cluster="auto")):
        assert not [one for one in reasons_at_start(settings, sharded=False) if "up to 2 billion" in one]


def test_code_that_no_other_host_can_import_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollout_process, "objects_here", lambda config: ("my_reward",))
    with (
        pytest.raises(UserError, match="no process on another host can import my_reward"),
        open_rollouts(configuration(cluster="auto"), tmp_path, lambda: None),
    ):
        """It is not opened."""
