"""metrics.jsonl: a line per step, also of a run that was killed."""

import json
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("torch", reason="needs the train extra")
pytest.importorskip("trl", reason="needs the train extra")

from swe_aem.store import FORMAT
from swe_aem.train.journal import Journal
from swe_aem.train.records import PHASES, read_metrics
from swe_aem.train.step_clock import Phase, StepClock
from swe_aem.train.steps import Step


def journal(directory: Path, *, step: int, done: int, clock: StepClock | None = None) -> Journal:
    feed: Any = SimpleNamespace(last=Step(number=step, groups=()))
    return Journal(directory, feed, num_minibatches=1, steps=4, done=done, clock=clock or StepClock())


def log(one: Journal, **figures: Any) -> None:
    nothing: Any = None
    one.on_log(nothing, nothing, nothing, figures)


def lines(directory: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]


def test_a_line_joins_rollouts_and_training(tmp_path: Path) -> None:
    more = {"rewards/resolved/mean": 0.5, "completions/mean_length": 3.0}
    log(journal(tmp_path, step=1, done=0), loss=0.5, reward=float("nan"), epoch=1, **more)
    (line,) = lines(tmp_path)
    assert (line["step"], line["loss"], line["reward"], line["rollout_wait_s"]) == (1, 0.5, None, 0.0)
    assert line["format"] == FORMAT
    assert "epoch" not in line
    assert "rewards/resolved/mean" not in line, "it is that of `reward`"
    assert line["completions/mean_length"] == 3.0, "what TRL says beyond the fields is kept"
    assert line["infrastructure_failures"] == 0


def test_what_trl_says_at_the_end_is_no_step(tmp_path: Path) -> None:
    log(journal(tmp_path, step=1, done=0), train_runtime=3.0)
    assert lines(tmp_path) == []


class Time:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.clock = StepClock(lambda: self.now_s)

    def spend(self, seconds: float, *phases: Phase) -> None:
        """Let time pass inside of these phases."""
        with ExitStack() as stack:
            for phase in phases:
                stack.enter_context(self.clock.phase(phase))
            self.now_s += seconds


def test_the_seconds_of_a_step_add_up_to_its_wall_time(tmp_path: Path) -> None:
    """Of two steps, with an evaluation before them that is of neither."""
    nothing: Any = None
    time = Time()
    one = journal(tmp_path, step=1, done=0, clock=time.clock)
    time.spend(50, "evaluation")
    one.on_train_begin(nothing, nothing, nothing)
    for _ in range(2):
        time.spend(1)
        one.on_step_begin(nothing, nothing, nothing)
        time.spend(2, "scoring")
        time.spend(3, "scoring", "weights")
        time.spend(4, "scoring", "rollout_wait")
        time.spend(5)
        one.on_step_end(nothing, nothing, nothing)
        time.spend(100, "evaluation")
        log(one, loss=0.5)
        time.spend(7, "checkpoint")
    first, second = read_metrics(tmp_path)
    for line, checkpoint_s in ((first, 0), (second, 7)):
        seconds = (4, 3, 2, 5, 100, checkpoint_s, 1)
        assert line.seconds_of_phases() == dict(zip(PHASES, seconds, strict=True))
        assert line.step_s == sum(seconds)
        assert line.train_s == 2 + 5 + checkpoint_s + 1, "neither waited nor evaluated"
    assert (first.wall_s, second.wall_s) == (115, 115 + 122)


def test_lines_after_the_checkpoint_and_a_torn_one_are_taken_back(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "wall_s": 7.0}\n{"step": 2, "wall_s": 9.0}\n{"step": 3, "wa')
    assert [metrics.step for metrics in read_metrics(tmp_path)] == [1, 2]
    log(journal(tmp_path, step=2, done=1), loss=1.0)
    assert [line["step"] for line in lines(tmp_path)] == [1, 2]
    assert lines(tmp_path)[1]["wall_s"] >= 7.0  # the clock resumes where the kept lines end
