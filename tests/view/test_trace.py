"""A run's phases as a trace: what it says, and that a viewer can draw it."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from swe_aem.cli.export import app
from swe_aem.errors import UserError
from swe_aem.store import PhaseLog, phases, read_phases
from swe_aem.view.trace import trace
from tests.view.trace_rules import check, slices


def record(directory: Path, *rows: tuple[Any, ...]) -> None:
    """Phases (name, began, seconds, task and sample or step), as a run writes them."""
    directory.mkdir(parents=True, exist_ok=True)
    log = PhaseLog(directory)
    for name, began_s, seconds, *whose in rows:
        of = {"step": whose[0]} if len(whose) == 1 else dict(zip(("task_id", "sample", "attempt"), whose, strict=True))
        log.append(name, began_s, seconds, **of)
    log.close()


def test_a_training_run_has_its_trainer_and_its_rollouts(tmp_path: Path) -> None:
    record(
        tmp_path,
        ("evaluation", 0.0, 5.0, 0),
        ("rollout_wait", 10.0, 4.0, 1),
        ("optimising", 14.0, 3.0, 1),
        ("step", 10.0, 8.0, 1),
        ("checkpoint", 18.0, 1.0, 2),  # of a step that was killed
    )
    record(tmp_path / "rollouts", ("agent", 10.0, 2.0, "a", 0, 1), ("grade", 12.0, 1.0, "a", 0, 1))
    record(tmp_path / "heldout" / "step-0-greedy", ("agent", 1.0, 3.0, "b", 0, 1))
    found = trace(tmp_path)
    check(found)
    drawn = [(one["name"], one["ts"] / 1e6, one["dur"] / 1e6) for one in slices(found, "trainer")]
    assert drawn == [
        ("evaluation", 0, 5), ("step 1", 10, 8), ("rollout_wait", 10, 4), ("optimising", 14, 3), ("checkpoint", 18, 1),
    ]  # fmt: skip
    assert [one["name"] for one in slices(found, "rollouts")] == ["a.0", "agent", "grade"]
    assert [one["name"] for one in slices(found, "evaluation step-0-greedy")] == ["b.0", "agent"]


def test_attempts_share_as_many_tracks_as_there_were_at_once(tmp_path: Path) -> None:
    record(tmp_path, *(("agent", start, 2.0, "a", sample, 1) for sample, start in enumerate((0.0, 1.0, 2.0, 3.5))))
    found = trace(tmp_path)
    check(found)
    tracks = {one["args"]["sample"]: one["tid"] for one in slices(found, "trajectories") if one["name"] != "agent"}
    assert tracks == {0: 1, 1: 2, 2: 1, 3: 2}
    counted = [event["args"]["value"] for event in found["traceEvents"] if event["ph"] == "C"]
    assert counted == [1, 2, 2, 1, 2, 1, 0]


def test_an_attempt_that_a_rerun_began_again_is_shown_twice(tmp_path: Path) -> None:
    whose = ("a", 0, 1)
    begun = [("prepare", 0.0, 1.0, *whose), ("queue", 1.0, 1.0, *whose)]
    whole = [("prepare", 2.0, 1.0, *whose), ("start", 3.0, 1.0, *whose), ("prepare", 4.0, 1.0, *whose)]
    shifted = [(name, began_s + 100, seconds, *whose) for name, began_s, seconds, *_ in (*begun, *whole[1:])]
    record(tmp_path, *begun, *shifted)
    attempts = [one for one in slices(trace(tmp_path), "trajectories") if one["name"] == "a.0"]
    assert [one["dur"] / 1e6 for one in attempts] == [2, 5]


def test_a_torn_line_is_left_out_and_the_next_process_writes_on(tmp_path: Path) -> None:
    record(tmp_path, ("agent", 0.0, 1.0, "a", 0, 1))
    path = tmp_path / "phases.jsonl"
    path.write_bytes(path.read_bytes() + b'{"began_s": 3.0, "sec')
    assert [one.phase for one in read_phases(tmp_path)] == ["agent"]
    record(tmp_path, ("grade", 1.0, 1.0, "a", 0, 1))
    assert [one.phase for one in read_phases(tmp_path)] == ["agent", "grade"]


def test_the_file_stops_growing_at_its_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(phases, "LIMIT_BYTES", 500)
    record(tmp_path, *(("agent", 0.0, 1.0, "a", sample, 1) for sample in range(100)))
    assert 0 < len(list(read_phases(tmp_path))) < 10


_NUMBER = st.floats(0, 1000, allow_nan=False)
_ROWS = st.lists(
    st.tuples(
        st.sampled_from(["prepare", "queue", "start", "agent", "patch", "apply", "grade", "step", "optimising"]),
        _NUMBER,
        _NUMBER,
        st.one_of(st.tuples(st.integers(0, 3)), st.tuples(st.sampled_from("ab"), st.integers(0, 2), st.integers(1, 2))),
    ),
    min_size=1,
    max_size=30,
)


@given(_ROWS)
def test_whatever_was_recorded_can_be_drawn(tmp_path_factory: pytest.TempPathFactory, rows: list[Any]) -> None:
    directory = tmp_path_factory.mktemp("run")
    record(directory, *((name, began_s, seconds, *whose) for name, began_s, seconds, whose in rows))
    found = trace(directory)
    check(found)
    assert len([one for one in found["traceEvents"] if one["ph"] == "X"]) >= len(rows)


def test_the_command_writes_json(tmp_path: Path) -> None:
    record(tmp_path / "run", ("agent", 0.0, 1.0, "a", 0, 1))
    done = CliRunner().invoke(app, ["trace", str(tmp_path / "run"), "--out", str(tmp_path / "trace.json")])
    assert done.exit_code == 0, done.output
    check(json.loads((tmp_path / "trace.json").read_text()))


def test_a_run_without_phases_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no phases"):
        trace(tmp_path)
