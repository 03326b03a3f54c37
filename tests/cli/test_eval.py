"""`swe-aem eval` on stores that hold what rollouts leave behind, infrastructure failures included."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from swe_aem.core import Outcome, Response, Trajectory, Verdict
from swe_aem.errors import UserError
from swe_aem.rollout import RolloutConfig, claim
from swe_aem.store import Store
from swe_aem.tasks import LockEntry, load_tasks, lock_text, record_digest

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


def store(directory: Path, outcomes: list[list[Outcome]], policy: str = "gold", **settings: Any) -> Path:
    """A store with one list of outcomes per task."""
    config = RolloutConfig(tasks="micro", split="heldout", limit=4, group_size=2, policy=policy, **settings)
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


def test_where_swebenchs_rule_alone_says_something_else_is_listed_with_the_reason(tmp_path: Path) -> None:
    directory = store(tmp_path / "run", [[GOOD], [], [FAULT], []])
    verdict = Verdict(resolved=False, official_resolved=True, patch_applied=True, integrity=("its twins passed",))
    cheat = trajectory(TASKS.records[1].task.id, 0, Outcome.INTEGRITY_VIOLATION)
    odd = trajectory(TASKS.records[3].task.id, 0, Outcome.RESOLVED)
    once = Verdict(resolved=True, patch_applied=True, odd_once=("a twin passed", "another"))
    with Store(directory).writer() as writer:
        writer.append(cheat.model_copy(update={"verdict": verdict}))
        writer.append(odd.model_copy(update={"verdict": once}))
    text = run(directory)
    assert "swebench's rule alone: 1 of 1 samples resolved; the verdict differs on 1" in text
    assert f"{cheat.id}  unresolved  resolved  its twins passed" in " ".join(text.split(" ")).replace("   ", "  ")
    assert f"evidence of cheating: {cheat.id}: its twins passed" in text
    assert f"odd in one run of the tests and not in the next: {odd.id}: a twin passed" in text
    assert f"no verdict: {TASKS.records[2].task.id}.0" in text
    (found,) = json.loads(run(directory, "--json"))["runs"]
    assert [(one["task_id"], one["why"]) for one in found["differences"]] == [(cheat.task_id, "its twins passed")]


def test_predictions(before: Path, tmp_path: Path) -> None:
    run(before, "--preds", tmp_path / "preds.json")
    written = json.loads((tmp_path / "preds.json").read_text())
    assert list(written) == [record.task.id for record in TASKS.records[:2]]


def strength_lock(path: Path, *shares: tuple[int, int] | None) -> Path:
    """A lock that says how many of how many mutants each task's tests let pass."""
    entries = [
        LockEntry(
            task_id=record.task.id, record=record_digest(record), passed=True, network="none", backend="bubblewrap",
            image="i", gold_runs=1, gold_resolved=1, noop_runs=1, noop_resolved=0, boot_s=0, test_s=1, max_test_s=1,
            peak_memory_bytes=None, checked_on="2026-01-01", mutants=of[1] if of else None,
            mutants_passed=of[0] if of else 0,
        )
        for record, of in zip(TASKS, shares, strict=True)
    ]  # fmt: skip
    path.write_text(lock_text({entry.key: entry for entry in entries}))
    return path


def test_rates_are_given_without_tasks_of_weak_tests(before: Path, tmp_path: Path) -> None:
    lock = strength_lock(tmp_path / "a.lock", (1, 10), (0, 10), (5, 10), None)
    found = json.loads(run(before, "--lock", lock, "--json"))["runs"][0]["weak_tasks"]
    assert (found["bound"], found["strong"], found["unmeasured"]) == (0.2, 2, 0)
    assert found["weak"] == [TASKS.records[2].task.id]
    assert (found["pass_at_1_strong"]["value"], found["pass_at_1_weak"]["value"]) == (0.25, 1.0)
    text = run(before, "--lock", lock, "--weak", "0")
    assert "    at most 0%:            pass@1   0.0%" in text
    assert "    more than 0% (weak):   pass@1  75.0%" in text
    assert text.count("over 1 tasks\n") == 1
    found = json.loads(run(before, "--lock", strength_lock(lock, (1, 10), None, None, None), "--json"))["runs"][0]
    assert (found["weak_tasks"]["unmeasured"], found["weak_tasks"]["pass_at_1_weak"]) == (2, None)


def test_the_runs_own_lock_says_which_tests_are_weak(tmp_path: Path) -> None:
    lock = strength_lock(tmp_path / "a.lock", (1, 10), (0, 10), (4, 10), (5, 10))
    run_of_lock = store(tmp_path / "run", [[GOOD, BAD]] * 4, lock=lock, max_passing_mutants=0.4)
    assert f"as {lock} says" in run(run_of_lock)
    assert json.loads(run(run_of_lock, "--json"))["runs"][0]["weak_tasks"]["weak"] == [TASKS.records[3].task.id]
    lock.unlink()
    assert "mutants" not in run(run_of_lock)


def test_a_lock_without_strength_names_the_command(before: Path, tmp_path: Path) -> None:
    from swe_aem.cli.eval import app

    lock = strength_lock(tmp_path / "a.lock", None, None, None, None)
    result = CliRunner().invoke(app, [str(before), "--lock", str(lock)])
    assert f"`swe-aem tasks check --tasks micro --sandbox bubblewrap --lock {lock} --strength 10`" in result.stderr


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
