"""Files to raw rows: what ends a record, and which complaints name the place."""

import datetime
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swe_aem.errors import UserError
from swe_aem.tasks.families.rows import Unreadable, read_file_rows, read_hub_rows

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text()
    | st.sampled_from(["\u2028", "\u0085", "\x0c", "\r\n", "\x1e"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
ROWS = st.lists(st.dictionaries(st.text(), VALUES, max_size=4), max_size=5)


def _write(path: Path, text: str) -> Path:
    path.write_bytes(text.encode())
    return path


@given(rows=ROWS, ascii_only=st.booleans(), blank=st.sampled_from(["", "\n", "  \n"]))
def test_jsonl_gives_back_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]], ascii_only: bool, blank: str
) -> None:
    # `ensure_ascii=False` leaves U+2028 and its kind raw inside strings, as some writers do
    text = "".join(json.dumps(row, ensure_ascii=ascii_only) + "\n" + blank for row in rows)
    path = _write(tmp_path_factory.mktemp("rows") / "x.jsonl", text)
    assert [row for _, row in read_file_rows(path)] == rows


def test_jsonl_tolerates_raw_control_characters(tmp_path: Path) -> None:
    path = _write(tmp_path / "x.jsonl", '{"a": "form\x0cfeed\tand tab"}\n')
    assert [row for _, row in read_file_rows(path)] == [{"a": "form\x0cfeed\tand tab"}]


def test_jsonl_with_windows_line_ends_and_byte_order_mark(tmp_path: Path) -> None:
    path = _write(tmp_path / "x.jsonl", '\ufeff{"a": 1}\r\n{"a": 2}')
    assert [row for _, row in read_file_rows(path)] == [{"a": 1}, {"a": 2}]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b'{"a": ', "is not JSON"),
        (b"[1]", "is a JSON list, not an object"),
        (b'{"a": "\xff"}', "is not UTF-8 at byte 7"),
        (b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deep"),
        (b'{"a": ' + b"1" * 5000 + b"}", "integer string conversion"),
    ],
)
def test_a_line_that_is_no_object_stands_for_itself(tmp_path: Path, line: bytes, problem: str) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'{"a": 1}\n\n' + line + b'\n{"a": 2}\n')
    (_, first), (where, bad), (_, last) = read_file_rows(path)
    assert (first, last) == ({"a": 1}, {"a": 2})
    assert where == f"{path}, line 3"
    assert isinstance(bad, Unreadable)
    assert problem in bad.problem


def test_a_json_list_with_an_entry_that_is_no_object(tmp_path: Path) -> None:
    path = _write(tmp_path / "x.json", '[{"a": 1}, 2]')
    assert [row for _, row in read_file_rows(path)] == [{"a": 1}, Unreadable("is a JSON int, not an object")]


@pytest.mark.parametrize("content", [b"\xff", b"[{", b"[" * 100_000])
def test_a_json_file_that_is_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(UserError, match=r"x\.json: is not (JSON|UTF-8)"):
        list(read_file_rows(tmp_path / "x.json"))


def test_json_list(tmp_path: Path) -> None:
    path = _write(tmp_path / "x.json", '[{"a": 1}, {"a": 2}]')
    assert list(read_file_rows(path)) == [(f"{path}, row 1", {"a": 1}), (f"{path}, row 2", {"a": 2})]


def test_json_that_is_no_list(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="top level is not a list"):
        list(read_file_rows(_write(tmp_path / "x.json", '{"a": 1}')))


def test_parquet(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    rows = [{"ids": ["a", "b"], "at": datetime.datetime(2024, 1, 1), "version": 3}]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "x.parquet")
    assert list(read_file_rows(tmp_path / "x.parquet")) == [(f"{tmp_path / 'x.parquet'}, row 1", rows[0])]


def test_a_parquet_row_that_cannot_be_decoded(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    binary = pyarrow.array([b"a", b"\xff", b"c"])
    text = pyarrow.Array.from_buffers(pyarrow.string(), 3, binary.buffers())  # as a writer that checks nothing
    pyarrow.parquet.write_table(pyarrow.table({"a": text}), tmp_path / "x.parquet")
    rows = [row for _, row in read_file_rows(tmp_path / "x.parquet")]
    assert (rows[0], rows[2]) == ({"a": "a"}, {"a": "c"})
    assert isinstance(rows[1], Unreadable)


def test_broken_parquet(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a Parquet file"):
        list(read_file_rows(_write(tmp_path / "x.parquet", "no")))


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        list(read_file_rows(tmp_path / "x.jsonl"))


def test_unknown_suffix(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"one of \.jsonl, \.json, \.parquet"):
        list(read_file_rows(_write(tmp_path / "x.csv", "a,b")))


def test_hub_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    asked = []

    def load(name: str, split: str) -> list[dict[str, int]]:
        asked.append((name, split))
        return [{"a": 1}]

    monkeypatch.setattr(datasets, "load_dataset", load)
    assert list(read_hub_rows("owner/set", "test")) == [("owner/set [test], row 1", {"a": 1})]
    assert asked == [("owner/set", "test")]


def test_hub_failure_names_the_source(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    def load(name: str, split: str) -> None:
        raise ConnectionError("no route\nsecond line")

    monkeypatch.setattr(datasets, "load_dataset", load)
    with pytest.raises(UserError, match=r"owner/set: .*no route\); check the name"):
        list(read_hub_rows("owner/set", "test"))
