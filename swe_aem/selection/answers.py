"""`Answers`: what test runs and a verifier have said, kept as it comes, so that nothing is asked twice.

One JSON object per line: `key`, a digest of everything that the answer depends on, `kind` and `value`.
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

FILE = "answers.jsonl"


class Answers:
    """The answers of one directory. `opened` makes one."""

    def __init__(self, known: dict[str, Any], file: TextIO) -> None:
        self._known, self._file = known, file
        self.asked = 0
        """How many were added by this process."""

    def __contains__(self, key: str) -> bool:
        return key in self._known

    def __getitem__(self, key: str) -> Any:
        return self._known[key]

    def add(self, key: str, kind: str, value: Any) -> None:
        """Keep an answer."""
        self._file.write(json.dumps({"key": key, "kind": kind, "value": value}) + "\n")
        self._file.flush()
        self._known[key] = value
        self.asked += 1


@contextmanager
def opened(directory: Path) -> Iterator[Answers]:
    """The answers in a directory, which its caller has locked. A line that a killed process left unfinished is asked
    for again."""
    path = directory / FILE
    known: dict[str, Any] = {}
    sound = 0
    if path.exists():
        for line in path.read_bytes().splitlines(keepends=True):
            try:
                row = json.loads(line)
            except ValueError:
                break
            if not line.endswith(b"\n"):
                break
            known[row["key"]] = row["value"]
            sound += len(line)
    with path.open("a", encoding="utf-8") as file:
        file.truncate(sound)
        yield Answers(known, file)


def digest_of(*parts: Any) -> str:
    """The key of a question, from everything that its answer depends on."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()
