"""`OwnDirectory`: a place of one process in a directory that others use too.

    DIRECTORY/weights-TAG@HOST/        its files
    DIRECTORY/weights-TAG@HOST.lock    locked for as long as the process lives

Of one that was killed the lock is free, and the next that starts on that host removes what it left.
"""

import fcntl
import shutil
import socket
import uuid
from contextlib import suppress
from pathlib import Path
from typing import IO


class OwnDirectory:
    """Made at once, removed by `close`."""

    def __init__(self, parent: Path) -> None:
        host = socket.gethostname()
        parent.mkdir(parents=True, exist_ok=True)
        for left in parent.glob(f"weights-*@{host}.lock"):
            with suppress(OSError), left.open("rb+") as lock:  # taken, or gone
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove(left)
        self.path = parent / f"weights-{uuid.uuid4().hex[:8]}@{host}"
        self._lock: IO[bytes] = Path(f"{self.path}.lock").open("wb")  # noqa: SIM115  (closed by close)
        with suppress(OSError):  # a file system without locks: nobody gets one, so nothing living is removed
            fcntl.flock(self._lock, fcntl.LOCK_EX)
        self.path.mkdir()

    def close(self) -> None:
        """Remove it with all that is in it; idempotent."""
        _remove(Path(self._lock.name))
        self._lock.close()


def _remove(lock: Path) -> None:
    shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
    lock.unlink(missing_ok=True)
