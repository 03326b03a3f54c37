"""metrics.jsonl: a line per step, also of a run that was killed."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("torch", reason="needs the train extra")
pytest.importorskip("trl", reason="needs the train extra")

from swe_aem.store import FORMAT
from swe_aem.train import journal as module
from swe_aem.train.journal import Journal
from swe_aem.train.records import read_metrics
from swe_aem.train.steps import Step


def journal(directory: Path, *, step: int, done: int) -> Journal:
    feed: Any = SimpleNamespace(last=Step(number=step, groups=()), rollout_wait_s=0.5)
    return Journal(directory, feed, num_minibatches=1, steps=4, done=done)


def log(one: Journal, **figures: Any) -> None:
    nothing: Any = None
    one.on_log(nothing, nothing, nothing, figures)


def lines(directory: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]


def test_a_line_joins_rollouts_and_training(tmp_path: Path) -> None:
    more = {"rewards/resolved/mean": 0.5, "completions/mean_length": 3.0}
    log(journal(tmp_path, step=1, done=0), loss=0.5, reward=float("nan"), epoch=1, **more)
    (line,) = lines(tmp_path)
    assert (line["step"], line["loss"], line["reward"], line["rollout_wait_s"]) == (1, 0.5, None, 0.5)
    assert line["format"] == FORMAT
    assert "epoch" not in line
    assert "rewards/resolved/mean" not in line, "it is that of `reward`"
    assert line["completions/mean_length"] == 3.0, "what TRL says beyond the fields is kept"
    assert line["infrastructure_failures"] == 0


def test_what_trl_says_at_the_end_is_no_step(tmp_path: Path) -> None:
    log(journal(tmp_path, step=1, done=0), train_runtime=3.0)
    assert lines(tmp_path) == []


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The journal's clock, whose `now` a test moves, seconds."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


def test_an_evaluation_between_a_step_and_its_line_is_in_no_steps_seconds(tmp_path: Path, clock: Any) -> None:
    nothing: Any = None
    one = journal(tmp_path, step=1, done=0)
    for _ in range(2):
        clock.now += 3.0  # a step, of which 0.5 s are waiting
        one.on_step_end(nothing, nothing, nothing)
        clock.now += 100.0  # an evaluation
        log(one, loss=0.5)
    assert [(line["train_s"], line["wall_s"]) for line in lines(tmp_path)] == [(2.5, 103.0), (2.5, 206.0)]


def test_an_evaluation_before_training_is_no_part_of_the_first_step(tmp_path: Path, clock: Any) -> None:
    nothing: Any = None
    one = journal(tmp_path, step=1, done=0)
    clock.now += 100.0
    one.on_train_begin(nothing, nothing, nothing)
    clock.now += 3.0
    one.on_step_end(nothing, nothing, nothing)
    log(one, loss=0.5)
    assert [(line["train_s"], line["wall_s"]) for line in lines(tmp_path)] == [(2.5, 3.0)]


def test_lines_after_the_checkpoint_and_a_torn_one_are_taken_back(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "wall_s": 7.0}\n{"step": 2, "wall_s": 9.0}\n{"step": 3, "wa')
    assert [metrics.step for metrics in read_metrics(tmp_path)] == [1, 2]
    log(journal(tmp_path, step=2, done=1), loss=1.0)
    assert [line["step"] for line in lines(tmp_path)] == [1, 2]
    assert lines(tmp_path)[1]["wall_s"] >= 7.0  # the clock resumes where the kept lines end
