"""`AppendedFile`: a file of lines that grows by one write per entry, whatever was killed before."""

import os
from pathlib import Path


class AppendedFile:
    """A file opened for appending. A write never raises: what cannot be written is counted in `lost`."""

    def __init__(self, path: Path) -> None:
        """Raises `OSError` if the file cannot be opened. A torn last line of a killed process gets its line break."""
        self.path = path
        self.fd = self._opened()
        self.size_bytes = os.fstat(self.fd).st_size
        self.lost = 0
        """Entries that could not be written."""
        self.why_lost = ""
        self._torn = self.size_bytes > 0 and os.pread(self.fd, 1, self.size_bytes - 1) != b"\n"

    def append(self, entry: bytes) -> bool:
        """Write an entry, line break included, in one call; False if that failed."""
        data = b"\n" + entry if self._torn else entry
        written = 0
        try:
            while written < len(data):
                written += os.write(self.fd, memoryview(data)[written:])
        except OSError as error:  # e.g. a full disk
            self.lost += 1
            self.why_lost = error.strerror or str(error)
        self.size_bytes += written
        if written:
            self._torn = written < len(data)
        return written == len(data)

    def move_aside(self, place: Path) -> bool:
        """Rename the file to `place` and continue in a new one of the old name, under the same file descriptor; False,
        and the file stays as it is, if that failed."""
        try:
            os.replace(self.path, place)
            try:
                fresh = self._opened()
            except OSError:
                os.replace(place, self.path)
                raise
        except OSError:  # e.g. the directory is gone, or too many files are open
            return False
        os.dup2(fresh, self.fd, inheritable=False)
        os.close(fresh)
        self.size_bytes, self._torn = 0, False
        return True

    def _opened(self) -> int:
        return os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)

    def close(self) -> None:
        """Close the file."""
        os.close(self.fd)
