"""Holds: files that say which processes need an image. A process renews its own for as long as it lives.

A hold of this host counts while its process lives. Whether one on another host does cannot be seen from here, so its
hold counts until it has not been renewed for `SILENT_S`.
"""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from pydantic import ValidationError

from swe_aem.core.base import Frozen
from swe_aem.core.owner import Lease, Owner

RENEW_S = 300.0
SILENT_S = 1800.0
"""Seconds without a renewal after which a process on another host counts as gone."""


class Hold(Frozen):
    """A process that needs an image."""

    name: str
    lease: Lease


class Renewer:
    """Renews the holds of this process, in a thread that ends with it."""

    def __init__(self) -> None:
        self._pid: int | None = None
        self._paths: set[Path] = set()
        self._lock = threading.Lock()

    def add(self, path: Path) -> None:
        """Renew this hold from now on."""
        with self._lock:
            if self._pid != os.getpid():  # threads and holds stay behind in a fork
                self._pid, self._paths = os.getpid(), set()
                threading.Thread(target=self._renew_for_ever, name="holds", daemon=True).start()
            self._paths.add(path)

    def remove(self, path: Path) -> None:
        """Renew it no longer."""
        with self._lock:
            self._paths.discard(path)

    def renew(self) -> None:
        """Renew every hold now. One that is gone is not made again: what it held may be gone, too."""
        with self._lock:
            paths = tuple(self._paths)
        for path in paths:
            with suppress(OSError):
                os.utime(path)

    def _renew_for_ever(self) -> None:
        while True:
            time.sleep(RENEW_S)
            self.renew()


RENEWER = Renewer()
"""That of this process."""


def read_holds(directory: Path) -> Iterator[Hold]:
    """Every hold of a live process in a directory; others are deleted on the way."""
    here = Owner.this_process().host
    for path in directory.glob("[0-9a-f]*.json"):
        with suppress(FileNotFoundError, ValidationError):
            hold = Hold.model_validate_json(path.read_bytes())
            silent_s = time.time() - path.stat().st_mtime
            if hold.lease.orphaned or (hold.lease.owner.host != here and silent_s > SILENT_S):
                path.unlink(missing_ok=True)
            else:
                yield hold
