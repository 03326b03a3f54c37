"""Raw rows from files and from the Hugging Face hub, each with its place for error messages.

Nothing here depends on the columns of a row; the families in `registry.py` do.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from swe_aem.errors import UserError

Row = dict[str, Any]
FILE_SUFFIXES = (".jsonl", ".json", ".parquet")
"""Suffixes of the files that `read_file_rows` can read."""
DEFAULT_HUB_SPLIT = "test"


def read_file_rows(path: Path) -> Iterator[tuple[str, Row]]:
    """Yield (where, row) for each row of a JSONL, JSON or Parquet file; `where` names file and line (or row), 1-based.

    Raises `UserError` if the file cannot be read or a row is not an object.
    """
    readers = {".jsonl": _read_jsonl, ".json": _read_json, ".parquet": _read_parquet}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise UserError(f"{path}: unknown kind of file; give one of {', '.join(FILE_SUFFIXES)}")
    try:
        yield from reader(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}); check the path") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is not UTF-8 at byte {error.start}; convert it to UTF-8") from error


def read_rows(source: str, split: str = DEFAULT_HUB_SPLIT) -> Iterator[tuple[str, Row]]:
    """The rows of a file, or of one split of a data set on the hub."""
    path = Path(source).expanduser()
    return read_file_rows(path) if path.is_file() else read_hub_rows(source, split)


def read_hub_rows(name: str, split: str) -> Iterator[tuple[str, Row]]:
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


def _read_jsonl(path: Path) -> Iterator[tuple[str, Row]]:
    # Only "\n" ends a record. `str.splitlines` would also split at U+2028, U+0085 and form feeds, which JSON allows raw
    # or which sloppy writers leave inside strings; `strict=False` lets such control characters pass.
    for number, line in enumerate(path.read_bytes().decode("utf-8-sig").split("\n"), start=1):
        if line.strip():
            where = f"{path}, line {number}"
            yield where, _as_row(where, _parse(where, line))


def _read_json(path: Path) -> Iterator[tuple[str, Row]]:
    content = _parse(str(path), path.read_bytes().decode("utf-8-sig"))
    if not isinstance(content, list):
        raise UserError(
            f"{path}: the top level is not a list of rows; a file with one row per line must be named .jsonl"
        )
    for number, row in enumerate(content, start=1):
        where = f"{path}, row {number}"
        yield where, _as_row(where, row)


def _read_parquet(path: Path) -> Iterator[tuple[str, Row]]:
    import pyarrow
    import pyarrow.parquet

    try:
        rows = pyarrow.parquet.read_table(path).to_pylist()
    except pyarrow.ArrowInvalid as error:
        raise UserError(f"{path}: is not a Parquet file ({error})") from error
    for number, row in enumerate(rows, start=1):
        yield f"{path}, row {number}", row


def _parse(where: str, text: str) -> Any:
    try:
        return json.loads(text, strict=False)
    except json.JSONDecodeError as error:
        raise UserError(f"{where}: is not JSON ({error}); a record must be on one line") from error


def _as_row(where: str, value: Any) -> Row:
    if not isinstance(value, dict):
        raise UserError(f"{where}: is a JSON {type(value).__name__}, not an object")
    return value
