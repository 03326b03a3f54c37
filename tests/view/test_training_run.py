"""Reading a run: what a killed writer leaves, keys that are missing, and what is damaged."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from swe_aem.core import Outcome
from swe_aem.errors import UserError
from swe_aem.store import FORMAT, Store
from swe_aem.train.records import StepMetrics, read_metrics
from swe_aem.view.training_run import examples, read_training_run

FIELDS = {name: one for name, one in StepMetrics.model_fields.items() if one.annotation in (int | None, float | None)}
whole = st.integers(-(1 << 53), 1 << 53) | st.none()
number = st.floats(allow_nan=False, allow_infinity=False) | whole
metric_lines = st.fixed_dictionaries(
    {"step": st.integers(1, 9)},
    optional={
        **{field.alias or name: whole if field.annotation == int | None else number for name, field in FIELDS.items()},
        "outcomes": st.dictionaries(st.sampled_from([*Outcome, "unheard of"]), st.integers(0, 64), max_size=3),
        "broken_tasks": st.lists(st.text(), max_size=2),
        "reward_terms": st.none() | st.dictionaries(st.text(), st.none() | st.floats(-9, 9), max_size=2),
        "unknown/key": st.recursive(number, lambda inner: st.lists(inner, max_size=2), max_leaves=3) | st.text(),
    },
)
SUMMARY = '{"model": "m", "tasks": "t", "steps": %s, "wall_s": 5}'
disk = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)


def write(directory: Path, data: str | bytes, name: str = "metrics.jsonl") -> Path:
    directory.mkdir(exist_ok=True)
    (directory / name).write_bytes(data if isinstance(data, bytes) else data.encode())
    return directory


@disk
@given(lines=st.lists(metric_lines, min_size=1, max_size=4), data=st.data())
def test_at_every_truncation_the_whole_lines_are_read(tmp_path: Path, lines: list[Any], data: st.DataObject) -> None:
    encoded = [json.dumps(line, ensure_ascii=False).encode() + b"\n" for line in lines]
    offset = data.draw(st.integers(0, sum(map(len, encoded))))
    write(tmp_path, b"".join(encoded)[:offset])
    ends = [sum(map(len, encoded[: n + 1])) for n in range(len(lines))]
    complete = [line for line, end in zip(lines, ends, strict=True) if end - 1 <= offset]  # the newline may be missing
    found = read_metrics(tmp_path)
    assert [step.model_dump(mode="json", by_alias=True, exclude_unset=True) for step in found] == [
        line | {"format": FORMAT} for line in complete
    ]


@disk
@given(lines=st.lists(metric_lines, min_size=1, max_size=6))
def test_every_step_is_there_once_in_order_and_the_later_line_counts(tmp_path: Path, lines: list[Any]) -> None:
    run = read_training_run(write(tmp_path, "".join(json.dumps(line) + "\n" for line in lines)))
    last = {line["step"]: line for line in lines}
    assert [step.step for step in run.steps] == sorted(last)
    assert [step.loss for step in run.steps] == [last[step].get("loss") for step in sorted(last)]
    assert any("repeated by a resumed run" in note for note in run.notes) == (len(last) < len(lines))


@disk
@given(
    damage=st.binary(min_size=1, max_size=20).filter(lambda data: data.strip() and b"\n" not in data)
    | st.sampled_from([b"1", b"[]", b"null", b'"text"', b"{}", b'{"step": "x"}', b'{"step": 1, "loss": []}', b"\0\0"]),
    before=st.integers(0, 2),
)
def test_damage_in_the_middle_names_file_and_line(tmp_path: Path, damage: bytes, before: int) -> None:
    write(tmp_path, b'{"step": 1}\n' * before + damage + b'\n{"step": 2}\n')
    with pytest.raises(UserError, match=rf"metrics\.jsonl, line {before + 1}: .*delete"):
        read_training_run(tmp_path)


def test_a_last_line_with_its_newline_is_not_torn(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="line 2"):
        read_training_run(write(tmp_path, '{"step": 1}\n{"step"\n'))


def test_what_is_no_number_is_noted_and_left_out(tmp_path: Path) -> None:
    run = read_training_run(
        write(tmp_path, '{"step": 1, "loss": NaN}\n{"step": 2, "loss": 0.5}\n{"step": 3, "loss": Infinity}\n')
    )
    assert run.series("loss") == ([2], [0.5])
    assert run.notes == ("loss is not a finite number in 2 steps, first in step 1; plots leave them out.",)


def test_a_whole_run(whole_run: Path) -> None:
    run = read_training_run(whole_run)
    assert (run.last_step, run.wall_s, run.notes) == (40, 1500.0, ())
    assert [one.step for one in run.heldout] == [0, 20, 40]
    assert run.before is not None
    assert run.after is not None
    assert (run.before.pass_at_1, run.after.pass_at_1) == (10 / 96, 60 / 96)
    assert list(run.after.parts) == ["demonstrated", "new kinds"]
    assert sum(run.outcomes.values()) == 40 * 64
    assert list(run.outcomes) == ["resolved", "unresolved", "turn_limit", "infrastructure"]
    assert run.infrastructure_failures == run.outcomes["infrastructure"]


def test_a_run_that_has_not_ended(whole_run: Path) -> None:
    (whole_run / "summary.json").unlink()
    run = read_training_run(whole_run)
    assert run.summary is None
    assert run.before is None
    assert run.after is not None
    assert run.after.step == 20
    assert run.wall_s == run.steps[-1].wall_s


def test_a_run_that_was_given_more_steps_has_not_ended(whole_run: Path) -> None:
    assert read_training_run(whole_run).ended
    with (whole_run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 41, "wall_s": 1700}\n')
    run = read_training_run(whole_run)
    assert not run.ended
    assert run.wall_s == 1700
    assert [one.step for one in run.heldout] == [0, 20, 40]


def test_infrastructure_failures_are_counted_from_either_key(tmp_path: Path) -> None:
    lines = '{"step": 1, "infrastructure_failures": 2}\n{"step": 2, "outcomes": {"grader_failure": 3, "resolved": 1}}\n'
    run = read_training_run(write(tmp_path, lines))
    assert run.infrastructure_failures == 5
    assert any("1 of 2 steps do not tell their outcomes" in note for note in run.notes)
    assert read_training_run(write(tmp_path, '{"step": 1}\n')).infrastructure_failures is None


@pytest.mark.parametrize("text", ["", '{"step": 1'])
def test_a_run_that_has_not_finished_a_step(tmp_path: Path, text: str) -> None:
    run = read_training_run(write(tmp_path, text))
    assert (run.steps, run.last_step, run.ended, run.wall_s) == ((), 0, False, None)


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (None, "no such directory; name the --out"),
        ({}, "has no metrics.jsonl; name the --out"),
        ({"metrics.jsonl": '{"step": 1}\n', "summary.json": "{"}, "summary.json is not JSON; delete it"),
        ({"metrics.jsonl": '{"step": 1}\n', "summary.json": SUMMARY % '"many"'}, "summary.json: steps is "),
        ({"metrics.jsonl": '{"step": 1}\n', "heldout.jsonl": '{"step": 0}\nx\n'}, "heldout.jsonl, line 2"),
        ({"metrics.jsonl": '{"step": 1, "format": 99}\n'}, "metrics.jsonl, line 1: format 99 was written by a newer"),
        ({"metrics.jsonl": '{"step": 1}\n', "heldout.jsonl": '{"step": 0, "format": 99}\n'}, "line 1: format 99"),
        ({"metrics.jsonl": '{"step": 1}\n', "summary.json": '{"format": 99}'}, "summary.json: format 99"),
    ],
)
def test_wrong_input_names_the_fix(tmp_path: Path, files: dict[str, str] | None, said: str) -> None:
    for name, text in (files or {}).items():
        write(tmp_path, text, name)
    with pytest.raises(UserError, match=said):
        read_training_run(tmp_path if files is not None else tmp_path / "nowhere")


def test_examples_are_early_and_late_and_no_infrastructure_failures(whole_run: Path) -> None:
    found = [(one.what, one.trajectory.id) for one in examples(whole_run)]
    assert found == [("Late, resolved", "t5.1"), ("Late, unresolved", "t5.0"), ("Early", "t1.0")]


def test_no_trajectory_is_shown_twice(tmp_path: Path, kit: Any) -> None:
    assert examples(tmp_path) == []
    with Store(tmp_path / "rollouts").writer() as writer:
        writer.append(kit.trajectory("t", 0, Outcome.RESOLVED))
    assert [one.what for one in examples(tmp_path)] == ["Late, resolved"]
    shutil.rmtree(tmp_path / "rollouts")


def test_only_the_examples_are_loaded(whole_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = []
    load = Store.load
    monkeypatch.setattr(Store, "load", lambda store, entry: loaded.append(entry) or load(store, entry))
    monkeypatch.setattr(Store, "trajectories", lambda store: pytest.fail("reads everything"))
    examples(whole_run)
    assert len(loaded) == 3


def test_series_skips_missing_keys(tmp_path: Path) -> None:
    run = read_training_run(
        write(tmp_path, '{"step": 1, "aem/alpha_min": 0.5}\n{"step": 2}\n{"step": 3, "aem/alpha_min": 1}\n')
    )
    assert run.series("alpha_min") == ([1, 3], [0.5, 1.0])
    assert all(map(math.isfinite, run.series("alpha_min")[1]))
