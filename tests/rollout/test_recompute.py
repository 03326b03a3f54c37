"""Rewards of stored trajectories under another function."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from swe_aem.cli.recompute_rewards import app
from swe_aem.core import Outcome, Trajectory, Verdict
from swe_aem.errors import ExtensionFailed, UserError
from swe_aem.reward import REWARDS
from swe_aem.rollout import RolloutConfig, claim, read_manifest
from swe_aem.rollout.recompute import Recomputed, recompute_rewards
from swe_aem.rollout.unrewarded import FOLDER, keep_unrewarded
from swe_aem.store import Store, log_path, read_summary, seal_trajectory
from swe_aem.testing.builders import make_trajectory
from swe_aem.train.config import TrainConfig
from swe_aem.train.directory import existing_run
from swe_aem.train.recompute import recompute_run
from swe_aem.train.schedule import SCHEDULE, ScheduledStep
from swe_aem.train.task_samplers import sampled_group

HALF = Verdict(resolved=False, patch_applied=True, fail_to_pass_fraction=0.5, pass_to_pass_fraction=1.0)
FAILED = {"outcome": Outcome.UNRESOLVED, "verdict": HALF, "reward": 0.0}
CHEAT = {"outcome": Outcome.INTEGRITY_VIOLATION, "verdict": HALF, "reward": 0.0}
LOST = {"outcome": Outcome.INFRASTRUCTURE, "verdict": None, "reward": None}


def fill(directory: Path, config: RolloutConfig) -> None:
    """A store of two groups and one trajectory without a reward."""
    with Store(directory).writer() as writer:
        writer.append(make_trajectory("a", 0), b"log of a.0")
        writer.append(make_trajectory("a", 1, **FAILED))
        writer.append(make_trajectory("b", 0, **FAILED))
        writer.append(make_trajectory("b", 1, **LOST))
    unpaid = make_trajectory("c", 0, **{**CHEAT, "reward": None})
    keep_unrewarded(directory, seal_trajectory(unpaid), b"log of c.0")
    claim(directory, config, [], stored_tasks=[], tokenizer="bytes")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    fill(tmp_path / "store", RolloutConfig(group_size=2))
    return tmp_path / "store"


EXPECTED = Recomputed(
    trajectories=4,
    unrewarded=1,
    changed=2,
    mean_before=1 / 3,
    mean_after=0.5,
    terms={},
    groups=3,
    zero_variance_before=1,
    zero_variance_after=2,
)


def test_without_a_directory_nothing_is_written(store: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    assert recompute_rewards(store, "fraction") == EXPECTED
    assert sorted(tmp_path.rglob("*")) == before


def test_a_new_store_has_the_new_rewards_and_everything_else_as_it_was(store: Path, tmp_path: Path) -> None:
    assert recompute_rewards(store, "fraction", tmp_path / "new") == EXPECTED
    paid = {one.id: one for one in Store(tmp_path / "new").trajectories()}
    assert {id: one.reward for id, one in paid.items()} == {"a.0": 1, "a.1": 0.5, "b.0": 0.5, "b.1": None, "c.0": 0}
    for one in Store(store).trajectories():
        assert paid[one.id] == one.model_copy(update={"reward": paid[one.id].reward})
    assert log_path(tmp_path / "new", paid["a.0"].key).read_bytes() == b"log of a.0"
    assert log_path(tmp_path / "new", paid["c.0"].key).read_bytes() == b"log of c.0"
    old, new = read_manifest(store), read_manifest(tmp_path / "new")
    assert old is not None
    assert new is not None
    assert new.config == old.config.model_copy(update={"reward": "fraction"})
    assert new.run != old.run
    assert new.tokenizer == old.tokenizer
    summary = read_summary(tmp_path / "new")
    assert summary is not None
    assert (summary.trajectories, summary.resolved, summary.reward) == (5, 1, 0.5)
    assert json.loads((tmp_path / "new" / "recomputed.json").read_text())["reward"] == "resolved"
    assert not (tmp_path / "new" / FOLDER).exists()
    assert (store / FOLDER).exists(), "the source stays as it was"


def test_a_function_that_fails_leaves_nothing(store: Path, tmp_path: Path) -> None:
    def fails(trajectory: Trajectory, verdict: Verdict) -> float:
        return 1.0 if verdict.resolved else float("nan")

    with pytest.raises(ExtensionFailed, match=r"of a\.1 is nan"):
        recompute_rewards(store, REWARDS.add(fails), tmp_path / "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["store"]


def test_what_is_refused(store: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="exists already: choose another --out, for rewards are never mixed"):
        recompute_rewards(store, "fraction", store)
    with pytest.raises(UserError, match="no store of a rollout"):
        recompute_rewards(tmp_path, "fraction")
    with pytest.raises(UserError, match=r"reward: no reward 'fractoin' \(did you mean fraction\?\)"):
        recompute_rewards(store, "fractoin")


def test_numbers_that_no_test_wrote_are_not_invented(tmp_path: Path) -> None:
    fill(tmp_path / "store", RolloutConfig(tasks="tasks/micro", limit=2, group_size=2))
    with pytest.raises(UserError, match="reward graded needs tasks whose tests write a number, and those of micro__"):
        recompute_rewards(tmp_path / "store", "graded")


def test_a_training_run_is_copied_with_its_checkpoints_and_resumes(tmp_path: Path) -> None:
    values: dict[str, Any] = {"model": "m", "steps": 3, "groups_per_step": 1, "rollout": {"group_size": 2}}
    config = TrainConfig.model_validate(values)
    run = tmp_path / "run"
    for name in ("rollouts", "heldout/step-0-sampled"):
        fill(run / name, config.rollout)
    (run / "config.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json")))
    (run / "extensions.json").write_text("{}")
    (run / "metrics.jsonl").write_text('{"format": 7, "step": 1}\n{"format": 7, "step": 2}\n')
    (run / "checkpoints" / "checkpoint-2").mkdir(parents=True)
    (run / "checkpoints" / "checkpoint-2" / "weights").write_bytes(b"weights")
    group_a = sampled_group(1, "a", [make_trajectory("a", 0), make_trajectory("a", 1, **FAILED)])
    group_b = sampled_group(2, "b", [make_trajectory("b", 0, **FAILED), make_trajectory("b", 1, **LOST)])
    steps = [
        ScheduledStep(step=1, tasks=("a",)),
        ScheduledStep(step=2, tasks=("b",), seen=(group_a,)),
        ScheduledStep(step=3, tasks=("a",), seen=(group_b,)),
    ]
    (run / SCHEDULE).write_text("".join(one.model_dump_json() + "\n" for one in steps))
    assert recompute_run(run, "fraction") == EXPECTED
    assert recompute_run(run, "fraction", tmp_path / "new") == EXPECTED
    again = [ScheduledStep.model_validate_json(one) for one in (tmp_path / "new" / SCHEDULE).read_text().splitlines()]
    assert [one.rewards for line in again for one in line.seen] == [(1.0, 0.5), (0.5, None)]
    assert [one.tasks for one in again] == [("a",), ("b",), ("a",)]
    wanted = TrainConfig.model_validate({**values, "rollout": {"group_size": 2, "reward": "fraction"}})
    assert existing_run(wanted, tmp_path / "new") == wanted
    with pytest.raises(UserError, match=r"rollout\.reward was"):
        existing_run(wanted, run)
    for name in ("rollouts", "heldout/step-0-sampled"):
        manifest = read_manifest(tmp_path / "new" / name)
        assert manifest is not None
        assert manifest.config.reward == "fraction"
    assert (tmp_path / "new" / "checkpoints" / "checkpoint-2" / "weights").read_bytes() == b"weights"
    noted = json.loads((tmp_path / "new" / "recomputed.json").read_text())
    assert (noted["reward"], noted["steps"]) == ("resolved", 2)
    (run / "summary.json").write_text("{}")
    with pytest.raises(UserError, match=r"has ended: there is nothing to resume\. Recompute its store"):
        recompute_run(run, "fraction", tmp_path / "third")


def test_the_command(store: Path, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    terms = "{tests: fraction, style: {type: format, weight: 0.1}}"
    said = CliRunner().invoke(app, [str(store), "--reward", terms, "--out", str(tmp_path / "new")])
    assert said.exit_code == 0, said.output
    assert "4 trajectories with a reward, 1 of which had none, 3 groups; 3 rewards change" in said.output
    assert "mean of style         -       1" in said.output
    assert f"written into {tmp_path / 'new'}" in said.output
