"""`KernelLog`: what the kernel of this host has logged since a moment."""

import os
import weakref
from collections.abc import Iterator
from pathlib import Path

KERNEL_LOG = Path("/dev/kmsg")
_RECORD_BYTES = 8192
"""The longest record of the kernel's log."""


class KernelLog:
    """New messages of the kernel's log. Where it cannot be read (it takes root), there are none."""

    def __init__(self, path: Path = KERNEL_LOG) -> None:
        try:
            self._log = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            self._log = -1
            return
        weakref.finalize(self, os.close, self._log)
        os.lseek(self._log, 0, os.SEEK_END)

    def new(self) -> Iterator[bytes]:
        """Messages, without their heads, since this object was made or they were last asked for."""
        while self._log >= 0:
            try:
                record = os.read(self._log, _RECORD_BYTES)
            except BrokenPipeError:  # records were overwritten before they were read; the next one is there
                continue
            except BlockingIOError:
                return
            if not record:
                return
            yield record.partition(b";")[2]
