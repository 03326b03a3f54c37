"""SWE-bench rows to records: odd types that data sets really use are read, everything else is named."""

import datetime
import json
from pathlib import Path
from typing import Any

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swe_aem.core import TaskRecord
from swe_aem.errors import UserError
from swe_aem.tasks.families.reading import LeftOut, Reading
from swe_aem.tasks.families.registry import RowReader
from swe_aem.tasks.families.rows import read_file_rows
from swe_aem.tasks.families.swebench import read

TEXT_COLUMNS = [
    "instance_id",
    "repo",
    "base_commit",
    "patch",
    "test_patch",
    "problem_statement",
    "image",
    "eval_script",
    "log_parser",
    "eval_type",
]


def read_record(where: str, row: dict[str, Any], split: str | None = None) -> TaskRecord:
    """One row, read as version 5."""
    return read(where, row, Reading(split=split))


def read_records(rows: Any) -> list[TaskRecord]:
    """Rows of any family."""
    return [record for record, _ in RowReader().read(rows, Reading())]


NAMES = st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), min_size=1, max_size=5)


def test_columns_reach_the_right_type(row: dict[str, Any]) -> None:
    record = read_record("here", row, "test")
    assert record.split == "test"
    assert record.task.model_dump() == {
        "id": "owner__name-1",
        "repo": "owner/name",
        "base_commit": "a" * 40,
        "problem_statement": "It is broken.",
        "image": "registry/image:latest",
        "workdir": "/testbed",
        "network": "none",
    }
    assert record.key.gold_patch == row["patch"]
    assert record.key.fail_to_pass == ("tests/x::a",)
    assert record.key.pass_to_pass == ("tests/x::b", "tests/x::c")
    assert record.key.timeout_s == 1800.0


def test_task_holds_nothing_that_gives_the_solution_away(row: dict[str, Any]) -> None:
    secrets = {name: f"secret-{name}" for name in ("patch", "test_patch", "eval_script", "hints_text")}
    secrets["FAIL_TO_PASS"] = '["secret-fail"]'
    secrets["PASS_TO_PASS"] = '["secret-pass"]'
    record = read_record("here", {**row, **secrets})
    assert "secret" not in record.task.model_dump_json()
    assert "secret-hints_text" not in record.model_dump_json()


@given(names=NAMES, form=st.sampled_from(["list", "tuple", "json", "numpy"]))
def test_test_names_in_every_form(names: list[str], form: str) -> None:
    value: Any = {"list": names, "tuple": tuple(names), "json": json.dumps(names)}.get(form)
    if form == "numpy":
        value = numpy.array(names, dtype=object)
    record = read_record("here", {**_row(), "FAIL_TO_PASS": value, "PASS_TO_PASS": value})
    assert record.key.fail_to_pass == record.key.pass_to_pass == tuple(names)


@given(column=st.sampled_from([*TEXT_COLUMNS, "version", "FAIL_TO_PASS", "PASS_TO_PASS"]), data=st.data())
def test_bad_field_is_named(column: str, data: st.DataObject) -> None:
    row = _row()
    bad = data.draw(st.sampled_from(["gone", None, True, 3.5, ["x", 1], {"a": 1}, "", "  "]))
    if bad == "gone":
        del row[column]
    else:
        row[column] = bad
    if column == "version" and bad in (3.5, "", "  "):
        return  # any text or number is a version
    with pytest.raises(UserError, match=rf"^here: field '{column}' "):
        read_record("here", row)


@given(st.dictionaries(st.sampled_from([*TEXT_COLUMNS, "FAIL_TO_PASS", "PASS_TO_PASS", "version"]), st.text()))
def test_any_text_is_read_or_refused(changes: dict[str, str]) -> None:
    refusal = None
    try:
        assert read_record("here", {**_row(), **changes}).task.id
    except UserError as error:
        refusal = str(error)
    assert refusal is None or refusal.startswith("here: field ")


def test_version_may_be_a_number(row: dict[str, Any]) -> None:
    assert read_record("here", {**row, "version": 13704}).key.version == "13704"


def test_created_at_may_be_anything(row: dict[str, Any]) -> None:
    assert read_record("here", {**row, "created_at": datetime.datetime(2024, 1, 1)})


def test_a_missing_field_is_named(row: dict[str, Any]) -> None:
    del row["image"]
    with pytest.raises(UserError, match="field 'image' is missing"):
        read_record("here", row)


def test_no_failing_test(row: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="at least one test must fail before the fix"):
        read_record("here", {**row, "FAIL_TO_PASS": "[]"})


def test_no_passing_test_is_fine(row: dict[str, Any]) -> None:
    assert read_record("here", {**row, "PASS_TO_PASS": []}).key.pass_to_pass == ()


@pytest.mark.parametrize("bad", ["../x", "a/b", "a b", ".x", "-x", "a\nb"])
def test_id_must_be_a_plain_name(row: dict[str, Any], bad: str) -> None:
    with pytest.raises(UserError, match=r"field 'instance_id' is .* not a plain name"):
        read_record("here", {**row, "instance_id": bad})


@pytest.mark.parametrize("bad", ["main", "abc; rm -rf", "--all", "a" * 65])
def test_base_commit_must_be_an_id(row: dict[str, Any], bad: str) -> None:
    with pytest.raises(UserError, match=r"field 'base_commit' is .* not a commit id"):
        read_record("here", {**row, "base_commit": bad})


def test_lone_surrogate(row: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="field 'patch' has half of a surrogate pair at character 1"):
        read_record("here", {**row, "patch": "a\ud800"})


def test_unknown_eval_type(row: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="field 'eval_type' is 'maybe', not one of pass_and_fail, fail_only"):
        read_record("here", {**row, "eval_type": "maybe"})


def test_repeated_id_names_both_places(row: dict[str, Any]) -> None:
    reader = RowReader()
    assert len(list(reader.read([("line 1", row), ("line 2", row)], Reading()))) == 1
    assert reader.left_out == [LeftOut("owner__name-1", "line 2", "the id 'owner__name-1' was seen before (line 1)")]


def test_own_timeout(row: dict[str, Any]) -> None:
    assert read_record("here", {**row, "timeout_s": 60}).key.timeout_s == 60.0


@pytest.mark.parametrize("bad", ["60", 0, -1, True, float("nan")])
def test_bad_timeout(row: dict[str, Any], bad: object) -> None:
    with pytest.raises(UserError, match="field 'timeout_s' is not a positive number"):
        read_record("here", {**row, "timeout_s": bad})


def test_requests_needs_swallowed_packets(row: dict[str, Any]) -> None:
    assert read_record("here", {**row, "repo": "psf/requests"}).task.network == "blackhole"


def test_real_rows(dataset_rows: Path) -> None:
    counts = {}
    for path in sorted(dataset_rows.glob("*.jsonl")):
        raw = [row for _, row in read_file_rows(path)]
        records = read_records(read_file_rows(path))
        counts[path.stem] = len(records)
        for row, record in zip(raw, records, strict=True):
            wanted = row["FAIL_TO_PASS"]
            wanted = json.loads(wanted) if isinstance(wanted, str) else wanted
            assert record.key.fail_to_pass == tuple(wanted)
            assert record.task.problem_statement == row["problem_statement"]
            assert ">>>>> Start Test Output" in record.key.eval_script
    assert counts == {
        "lite_sample": 10,
        "multilingual_sample": 10,
        "multimodal_dev_sample": 4,
        "verified_sample": 31,
    }


def _row() -> dict[str, Any]:
    """A valid row outside of fixtures, which hypothesis would share between examples."""
    texts = dict.fromkeys(TEXT_COLUMNS, "x")
    return {
        **texts,
        "base_commit": "a" * 40,
        "eval_type": "fail_only",
        "log_parser": "parse_log_jest",
        "version": "1",
        "FAIL_TO_PASS": ["a"],
        "PASS_TO_PASS": [],
    }
