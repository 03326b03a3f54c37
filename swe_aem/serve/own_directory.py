"""`OwnDirectory`: a subdirectory for one process, in a directory that other processes use too.

    DIRECTORY/weights-TAG@HOST/        its files
    DIRECTORY/weights-TAG@HOST.lock    locked for as long as the process lives

If the process is killed its lock is released, and the next process that starts on that host removes its files.
"""

import fcntl
import shutil
import socket
import uuid
from contextlib import suppress
from pathlib import Path
from typing import IO


class OwnDirectory:
    """A subdirectory that the constructor makes and `close` removes."""

    def __init__(self, parent: Path) -> None:
        host = socket.gethostname()
        parent.mkdir(parents=True, exist_ok=True)
        for left in parent.glob(f"weights-*@{host}.lock"):
            with suppress(OSError), left.open("rb+") as lock:  # locked by a living process, or removed
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove(left)
        self.path = parent / f"weights-{uuid.uuid4().hex[:8]}@{host}"
        self._lock: IO[bytes] = Path(f"{self.path}.lock").open("wb")  # noqa: SIM115  (closed by close)
        with suppress(OSError):  # on a file system without locks nothing is ever removed
            fcntl.flock(self._lock, fcntl.LOCK_EX)
        self.path.mkdir()

    def close(self) -> None:
        """Remove the subdirectory with everything in it; idempotent."""
        _remove(Path(self._lock.name))
        self._lock.close()


def _remove(lock: Path) -> None:
    shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
    lock.unlink(missing_ok=True)
