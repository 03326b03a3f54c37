"""The process of an `Indexer`: reads requests, and indexes the stores in them in turn, a stretch of each at a time."""

import json
import os
import select
import sqlite3
import sys
from pathlib import Path
from typing import NamedTuple

from swe_aem.view.index.build import IndexBuilder

_NICE = 10
_READ_BYTES = 1 << 16


class _Request(NamedTuple):
    store: str
    database: str


def main() -> None:
    """Serve requests until the input ends."""
    os.nice(_NICE)
    requests = _Requests()
    builders: dict[_Request, IndexBuilder] = {}
    failures: dict[_Request, str | None] = {}
    waiting: list[_Request] = []
    while (new := requests.read(wait=not waiting)) is not None:
        waiting += [one for one in dict.fromkeys(new) if one not in waiting]
        if not waiting:
            continue
        one = waiting.pop(0)
        try:
            if one not in builders:
                builders[one] = IndexBuilder(Path(one.store), Path(one.database))
            more = builders[one].stretch()
            failure = None
        except OSError as error:
            more, failure = False, f"indexing stopped: {error}"
        except sqlite3.Error as error:
            place = f"{Path(one.database).parent}: free space there, or set SWE_AEM_CACHE to another directory"
            more, failure = False, f"indexing stopped: {error}, in {place}"
        if failure != failures.get(one):
            failures[one] = failure
            print(json.dumps({"store": one.store, "failure": failure}), flush=True)
        if more:
            waiting.append(one)


class _Requests:
    """What stands on the standard input."""

    def __init__(self) -> None:
        self._rest = b""

    def read(self, *, wait: bool) -> list[_Request] | None:
        """Requests that have come, none if there are none and it should not wait; None at the end of the input."""
        if not select.select([0], [], [], None if wait else 0)[0]:
            return []
        data = os.read(0, _READ_BYTES)
        if not data:
            return None
        *lines, self._rest = (self._rest + data).split(b"\n")
        return [_Request(**json.loads(line)) for line in lines]


if __name__ == "__main__":
    sys.exit(main())
