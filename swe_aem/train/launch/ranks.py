"""`Ranks`: the training processes of a run behind a guard process, so that nothing of them is left behind.

    launcher ──pipe──> guard ──> accelerate launch ──> rank 0, rank 1, ...        (or one training process)

The guard of `swe_aem.serve` ends accelerate when the launcher is gone, and accelerate ends the ranks. A rank is killed
by the kernel when accelerate is (`end_with_accelerate`).
"""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from swe_aem.serve import guard

LAUNCHER = "SWE_AEM_LAUNCHER"
"""Environment variable of the training processes: the process id of what has launched them."""


class Ranks:
    """The training processes, for the length of a `with`."""

    def __init__(self, command: Sequence[str], gpus: Sequence[str] | None) -> None:
        """`gpus` are those that they see; None: all, or none, as this process does."""
        self._command = command
        self._gpus = gpus
        self._guard: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Ranks":
        self._guard = subprocess.Popen(
            [sys.executable, guard.__file__, *self._command],
            stdin=subprocess.PIPE,
            env=self._environment(os.environ),
            start_new_session=True,
        )
        return self

    def __exit__(self, *exc: object) -> None:
        self.end()
        self._process.wait()

    def _environment(self, inherited: Mapping[str, str]) -> dict[str, str]:
        ours = {LAUNCHER: str(os.getpid())}
        if self._gpus is not None:
            ours["CUDA_VISIBLE_DEVICES"] = ",".join(self._gpus)
        return {**inherited, **ours}

    @property
    def _process(self) -> "subprocess.Popen[bytes]":
        assert self._guard is not None
        return self._guard

    def poll(self) -> int | None:
        """Exit code of the training processes, None while they run."""
        return self._process.poll()

    def interrupt(self) -> None:
        """Interrupt the first training process as Ctrl-C does. It closes what it has open, and the others wait for it
        and end with it. accelerate would give it half a minute."""
        first = first_rank(self._process.pid)
        if first is not None:
            with suppress(ProcessLookupError):
                os.kill(first, signal.SIGINT)

    def end(self) -> None:
        """Ask all processes to end, and kill them if they do not soon."""
        assert self._process.stdin is not None
        self._process.stdin.close()


def first_rank(guarding: int) -> int | None:
    """Process id of rank 0 below a guard; what the guard has started if there is none yet, or only one process."""
    below = _children()
    started = below.get(guarding, [])
    generation = started
    while generation:
        for pid in generation:
            if b"RANK=0" in _variables(pid):
                return pid
        generation = [child for pid in generation for child in below.get(pid, [])]
    return started[0] if started else None


def _children() -> dict[int, list[int]]:
    """Process ids of the children of each process."""
    found: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            parent = int((entry / "stat").read_bytes().rpartition(b")")[2].split()[1])
            found.setdefault(parent, []).append(int(entry.name))
    return found


def _variables(pid: int) -> list[bytes]:
    with suppress(OSError):
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return []


def end_with_accelerate() -> None:
    """Let the kernel kill this process when the launcher of its group, accelerate or torchrun, is killed: each rank has
    a session of its own and would outlive it. Does nothing in a process that neither has started."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        guard.end_with_parent(signal.SIGKILL)
