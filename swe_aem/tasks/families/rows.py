"""Raw rows from files and from the Hugging Face hub, each with its place for error messages.

Nothing here depends on the columns of a row; the families in `registry.py` do.
"""

import json
from codecs import BOM_UTF8
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from swe_aem.errors import UserError

if TYPE_CHECKING:
    import pyarrow

Row = dict[str, Any]
FILE_SUFFIXES = (".jsonl", ".json", ".parquet")
"""Suffixes of the files that `read_file_rows` can read."""
DEFAULT_HUB_SPLIT = "test"


class Unreadable(NamedTuple):
    """What stands for a row that is no object: the other rows of its file can still be read."""

    problem: str


RawRows = Iterator[tuple[str, Row | Unreadable]]
"""Rows, each with its place: file and line (or row), from 1."""


def read_file_rows(path: Path) -> RawRows:
    """Yield (where, row) for each row of a JSONL, JSON or Parquet file.

    Raises `UserError` if the file cannot be read at all.
    """
    readers = {".jsonl": _read_jsonl, ".json": _read_json, ".parquet": _read_parquet}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise UserError(f"{path}: unknown kind of file; give one of {', '.join(FILE_SUFFIXES)}")
    try:
        yield from reader(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}); check the path") from error


def read_rows(source: str, split: str = DEFAULT_HUB_SPLIT) -> RawRows:
    """The rows of a file, or of one split of a data set on the hub."""
    path = Path(source).expanduser()
    return read_file_rows(path) if path.is_file() else read_hub_rows(source, split)


def read_hub_rows(name: str, split: str) -> RawRows:
    """Yield (where, row) for one split of a Hugging Face data set; raises `UserError` if it cannot be loaded."""
    import datasets  # slow to import, and needed for this kind of source only

    try:
        dataset = datasets.load_dataset(name, split=split)
    except Exception as error:  # the hub, the network and the data set's own code fail in many ways
        first_line = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"{name}: neither a file or directory here nor a data set that could be loaded from the hub "
            f"(split {split!r}: {first_line}); check the name, or give a path to a .jsonl, .json or .parquet file"
        ) from error
    for number, row in enumerate(dataset, start=1):
        yield f"{name} [{split}], row {number}", dict(row)


def _read_jsonl(path: Path) -> RawRows:
    # Only "\n" ends a record. `str.splitlines` would also split at U+2028, U+0085 and form feeds, which JSON allows raw
    # or which sloppy writers leave inside strings; `strict=False` lets such control characters pass.
    for number, line in enumerate(path.read_bytes().removeprefix(BOM_UTF8).split(b"\n"), start=1):
        if line.strip():
            yield f"{path}, line {number}", _json_row(line)


def _json_row(line: bytes) -> Row | Unreadable:
    try:
        return _as_row(_parse(line.decode()))
    except UnicodeDecodeError as error:
        return Unreadable(f"is not UTF-8 at byte {error.start}")
    except ValueError as error:
        return Unreadable(f"is not JSON ({error}); a record must be on one line")


def _read_json(path: Path) -> RawRows:
    try:
        content = _parse(path.read_bytes().decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is not UTF-8 at byte {error.start}; convert it to UTF-8") from error
    except ValueError as error:
        raise UserError(f"{path}: is not JSON ({error})") from error
    if not isinstance(content, list):
        raise UserError(
            f"{path}: the top level is not a list of rows; a file with one row per line must be named .jsonl"
        )
    for number, row in enumerate(content, start=1):
        yield f"{path}, row {number}", _as_row(row)


def _read_parquet(path: Path) -> RawRows:
    import pyarrow
    import pyarrow.parquet

    try:  # not `read_table`, which imports pandas if it is there: most of the time that listing a set took
        table = pyarrow.parquet.ParquetFile(path).read()
    except pyarrow.ArrowInvalid as error:
        raise UserError(f"{path}: is not a Parquet file ({error})") from error
    try:
        rows = table.to_pylist()
    except (ValueError, OverflowError):  # some row holds bytes that are no text, or a date that Python does not have
        rows = [_parquet_row(table, number) for number in range(table.num_rows)]
    for number, row in enumerate(rows, start=1):
        yield f"{path}, row {number}", row


def _parquet_row(table: "pyarrow.Table", number: int) -> Row | Unreadable:
    try:
        return table.slice(number, 1).to_pylist()[0]
    except (ValueError, OverflowError) as error:
        return Unreadable(f"cannot be decoded ({error})")


def _parse(text: str) -> Any:
    """JSON; raises `ValueError` for all that is none, nesting that is too deep included."""
    try:
        return json.loads(text, strict=False)
    except RecursionError:
        raise ValueError("nested too deep") from None


def _as_row(value: Any) -> Row | Unreadable:
    return value if isinstance(value, dict) else Unreadable(f"is a JSON {type(value).__name__}, not an object")
