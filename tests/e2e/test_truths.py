"""The two truths that validate sandbox and grader: gold patches resolve, doing nothing does not. And replays agree."""

import json
from pathlib import Path
from typing import Any

import pytest

from swe_aem.store import Store

TASKS = 8


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind",
    [
        pytest.param("bubblewrap", marks=pytest.mark.bubblewrap),
        pytest.param("docker", marks=pytest.mark.docker),
    ],
    indirect=True,
)
def test_gold_resolves_noop_does_not_and_a_replay_agrees(rollout: Any, kind: str, tmp_path: Path) -> None:
    common = ("--tasks", "tasks/micro", "--split", "heldout", "--limit", str(TASKS), "--sandbox", kind)
    gold = rollout("gold", *common, "--agent", "gold")
    assert (gold["trajectories"], gold["resolved"], gold["resolved_rate"]) == (TASKS, TASKS, 1.0)
    assert (gold["outcomes"], gold["infrastructure_failures"]) == ({"resolved": TASKS}, 0)
    assert (gold["agent"], gold["policy"]) == ("native", "gold")
    config = json.loads((tmp_path / "gold" / "config.json").read_text())["config"]
    assert (config["agent"], config["policy"]) == ("native", "gold")
    noop = rollout("noop", *common, "--agent", "noop")
    assert (noop["trajectories"], noop["resolved"]) == (TASKS, 0)
    replay = rollout("replay", *common, "--agent", "replay", "--replay-from", str(tmp_path / "gold"))
    assert replay["outcomes"] == gold["outcomes"]

    first = {t.id: t for t in Store(tmp_path / "gold").trajectories()}
    second = {t.id: t for t in Store(tmp_path / "replay").trajectories()}
    assert first.keys() == second.keys()
    for id, trajectory in first.items():
        again = second[id]
        assert trajectory.verdict is not None
        assert again.verdict is not None
        assert again.verdict.fail_to_pass == trajectory.verdict.fail_to_pass
        assert again.verdict.pass_to_pass == trajectory.verdict.pass_to_pass
        assert [r.logprobs for r in again.responses] == [r.logprobs for r in trajectory.responses]
        tokens = [t.token_ids[r.start : r.end] for t in (trajectory, again) for r in t.responses]
        assert tokens[: len(trajectory.responses)] == tokens[len(trajectory.responses) :]


@pytest.mark.slow
def test_a_group_of_gold_in_bubblewrap(rollout: Any, require_bubblewrap: None, tmp_path: Path) -> None:
    summary = rollout("gold", "--tasks", "tasks/micro", "--limit", "2", "--group-size", "2", "--agent", "gold")
    assert (summary["trajectories"], summary["resolved"]) == (4, 4)
    lines = [line for part in (tmp_path / "gold" / "trajectories").iterdir() for line in part.read_text().splitlines()]
    assert len(lines) == 4
    assert {json.loads(line)["outcome"] for line in lines} == {"resolved"}
