"""`Indexer`: the process that fills indexes, seen from the one that asks them.

    python -m swe_aem.view.index.worker     one JSON line per request on its input, and on its output one per
                                            failure, and per store for which it is over

It takes turns between stores, so that a large one does not keep a small one waiting, and ends when its input does: with
the process that started it, however that ends.
"""

import contextlib
import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO

COMMAND = (sys.executable, "-m", "swe_aem.view.index.worker")
_END_S = 5.0


class Indexer:
    """Owns one process, which is started by the first request, and again by the next one after it has died."""

    def __init__(self, command: tuple[str, ...] = COMMAND) -> None:
        self._command = command
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._failures: dict[str, str | None] = {}

    @property
    def pid(self) -> int | None:
        """Process id while the process runs."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def request(self, store: Path, database: Path) -> None:
        """Have what is new in a store indexed. Returns at once; asking again while it is being done changes nothing."""
        line = json.dumps({"store": str(store.absolute()), "database": str(database)})
        with self._lock:
            for _ in range(2):  # the process may have died since it was last seen
                process = self._running()
                assert process.stdin is not None
                with contextlib.suppress(BrokenPipeError):
                    process.stdin.write(line + "\n")
                    process.stdin.flush()
                    return
                process.wait()

    def failure(self, store: Path) -> str | None:
        """Why the last request for a store that has ended came to nothing; None if none failed."""
        return self._failures.get(str(store.absolute()))

    def close(self) -> None:
        """End the process. What it has written stays, and a later request resumes."""
        with self._lock:
            process, self._process = self._process, None
            if process is None:
                return
            assert process.stdin is not None
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
            try:
                process.wait(_END_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _running(self) -> "subprocess.Popen[str]":
        if self._process is None or self._process.poll() is not None:
            self._process = process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                encoding="utf-8",
                start_new_session=True,  # a Ctrl-C is handled by the viewer alone
            )
            assert process.stdout is not None
            threading.Thread(target=self._listen, args=(process.stdout,), daemon=True).start()
        return self._process

    def _listen(self, output: IO[str]) -> None:
        with output:
            for line in output:
                told = json.loads(line)
                self._failures[told["store"]] = told["failure"]
