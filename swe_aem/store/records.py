"""Reading files of one JSON object per line that only grow, as `failures.jsonl` and `phases.jsonl` do."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from swe_aem.core.base import Frozen

R = TypeVar("R", bound=Frozen)


def read_records(path: Path, kind: type[R], having: bytes = b"") -> Iterator[R]:
    """The records of a file in the order of writing, none if there is no file; with `having`, those alone whose lines
    hold that. A line that a killed process tore is left out."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        for data in file:
            if having not in data:
                continue
            try:
                # Not by pydantic's own reader of JSON, which refuses lone surrogates: a task's id may hold one.
                yield kind.model_validate(json.loads(data))
            except ValueError:  # ValidationError is one
                continue
