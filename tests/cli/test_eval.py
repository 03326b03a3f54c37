"""`swe-aem eval` on stores that hold what rollouts leave behind, infrastructure failures included."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from swe_aem.core import Outcome, Response, Trajectory
from swe_aem.errors import UserError
from swe_aem.rollout import RolloutConfig, claim
from swe_aem.store import Store
from swe_aem.tasks import load_tasks

TASKS = load_tasks("micro", split="heldout", limit=4)


def trajectory(task_id: str, sample: int, outcome: Outcome) -> Trajectory:
    reward = {Outcome.RESOLVED: 1.0, Outcome.INFRASTRUCTURE: None}.get(outcome, 0.0)
    response = Response(start=1, end=3, logprobs=(-1.0, -1.0), version=0, finish_reason="stop", sample_s=0.1)
    return Trajectory(
        task_id=task_id,
        sample=sample,
        agent="native",
        model="m",
        token_ids=(1, 2, 3),
        responses=(response,),
        outcome=outcome,
        reward=reward,
        timings_s={"agent": 2.0},
        patch=f"patch of {task_id}",
    )


def store(directory: Path, outcomes: list[list[Outcome]], policy: str = "gold") -> Path:
    """A store with one list of outcomes per task."""
    config = RolloutConfig(tasks="micro", split="heldout", limit=4, group_size=2, policy=policy)
    with Store(directory).writer() as writer:
        claim(directory, config, TASKS.records, stored_tasks=(), tokenizer="t")
        for record, samples in zip(TASKS, outcomes, strict=True):
            for sample, outcome in enumerate(samples):
                writer.append(trajectory(record.task.id, sample, outcome))
    return directory


GOOD, BAD, FAULT = Outcome.RESOLVED, Outcome.UNRESOLVED, Outcome.INFRASTRUCTURE


@pytest.fixture
def before(tmp_path: Path) -> Path:
    return store(tmp_path / "before", [[GOOD, BAD], [BAD, BAD], [FAULT, GOOD], [FAULT, FAULT]])


def run(*words: object) -> str:
    from swe_aem.cli.eval import app

    result = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def test_infrastructure_failures_are_in_no_rate(before: Path) -> None:
    (found,) = json.loads(run(before, "--json"))["runs"]
    assert (found["tasks"], found["samples"], found["resolved"], found["faults"]) == (3, 5, 2, 3)
    assert found["pass_at"][0]["estimate"]["value"] == pytest.approx((0.5 + 0 + 1) / 3)
    assert (found["if_all_missing_failed"], found["if_all_missing_resolved"]) == (0.25, 0.625)
    assert found["pass_at"][1]["left_out"] == 1
    assert found["complete"] is True
    assert found["sampled_tokens_per_resolved"] == 5
    text = run(before)
    assert "no verdict for infrastructure failures: 3 trajectories; 1 tasks have none at all" in text
    assert max(map(len, text.splitlines()[1:])) <= 100


def test_two_runs_are_compared_task_by_task(before: Path, tmp_path: Path) -> None:
    after = store(tmp_path / "after", [[GOOD, GOOD], [BAD, GOOD], [BAD, BAD], [GOOD, GOOD]])
    found = json.loads(run(before, after, "--json", "--resamples", "500"))["comparison"]
    assert (found["tasks"], found["only_first"], found["only_second"]) == (3, 0, 1)
    assert found["difference"] == pytest.approx((0.5 + 0.5 - 1) / 3)
    assert (len(found["gained"]), len(found["lost"])) == (2, 1)
    assert "fewer than 30 tasks" in run(before, after)


def test_scripts_are_compared_with_a_note_and_models_without(before: Path, tmp_path: Path) -> None:
    outcomes = [[GOOD, GOOD]] * 4
    noop = store(tmp_path / "noop", outcomes, policy="noop")
    first, second = (store(tmp_path / name, outcomes, policy=str(tmp_path / name)) for name in ("first", "second"))
    assert "NOTE: policy differs: gold and noop" in run(before, noop)
    assert f"NOTE: policy differs: gold and {first}" in run(before, first)
    assert "policy differs" not in run(first, second)


def test_a_run_that_is_not_done_says_so(tmp_path: Path) -> None:
    text = run(store(tmp_path / "half", [[GOOD], [], [], []]))
    assert "INCOMPLETE: 1 of 8 trajectories" in text


def test_predictions(before: Path, tmp_path: Path) -> None:
    run(before, "--preds", tmp_path / "preds.json")
    written = json.loads((tmp_path / "preds.json").read_text())
    assert list(written) == [record.task.id for record in TASKS.records[:2]]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere"], "name the --out of a rollout"),
        (["{empty}"], "holds no trajectories yet"),
        (["{store}", "--k", "1,x"], "expected numbers separated by commas"),
        (["{store}", "--k", "0"], "at least 1"),
    ],
)
def test_wrong_input_names_the_fix(words: list[str], said: str, before: Path, tmp_path: Path) -> None:
    (tmp_path / "empty" / "trajectories").mkdir(parents=True)
    with pytest.raises(UserError, match=said):
        run(*(word.format(empty=tmp_path / "empty", store=before) for word in words))
