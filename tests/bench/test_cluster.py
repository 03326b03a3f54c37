"""A benchmark whose trajectories run on agents, in real sandboxes; on Ray it runs in tests/e2e/test_fleet.py."""

import json
from pathlib import Path

import pytest

from swe_aem.bench.run import bench
from swe_aem.core.settings import check
from swe_aem.fleet import choice
from swe_aem.fleet.agent import NodeAgent
from swe_aem.rollout import RolloutConfig
from swe_aem.tasks import load_tasks
from swe_aem.testing.engine import FakeEngine


@pytest.mark.bubblewrap
@pytest.mark.slow
async def test_hosts_work_through_the_set_and_the_page_is_written_here(
    tmp_path: Path, require_bubblewrap: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = FakeEngine(lambda name: NodeAgent(shares_host=False, leave=lambda: None))
    engine.add("a")
    monkeypatch.setattr(choice, "engine_at", lambda address: engine)
    tasks = load_tasks("tasks/nano", limit=2)
    given = {"cluster": "auto", "policy": "gold", "twins": False, "scheduling": {"concurrency": 2}}
    config = check(RolloutConfig, given)
    told: list[str] = []
    ended = await bench(config, tasks, tmp_path, tell=told.append)
    assert ended.page is not None
    assert ended.summary is not None
    assert (ended.summary.resolved, ended.summary.trajectories, ended.interrupted) == (2, 2, False)
    assert {one["instance_id"] for one in json.loads((tmp_path / "preds.json").read_text()).values()} == {
        record.task.id for record in tasks
    }
    assert (tmp_path / "report.html").exists()
    assert not engine.hosts  # its agent was ended
    again = await bench(config, tasks, tmp_path, tell=told.append)  # nothing is left to do, so no host is asked for
    assert again.summary == ended.summary
