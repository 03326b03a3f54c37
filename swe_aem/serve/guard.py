"""The process between `swe-aem serve` and vLLM, which leaves nothing of the server behind, whatever ends first.

    supervisor ──pipe──> guard ──> vLLM, a process group of its own (API server, engine, workers)

vLLM's engine and workers outlive an API server that is killed. The guard ends the whole group when its pipe closes,
which also happens when the supervisor is killed, or when the API server ends; then it removes the shared memory that
the group made and its temporary directory. If the guard itself is killed, the kernel asks the API server to stop, which
ends the rest.
"""

import ctypes
import itertools
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)
_SHARED = Path("/dev/shm")
TERM_LIMIT_S = 15.0
_LOOKS_APART = 10


def main(arguments: list[str]) -> int:
    """Run a command until it ends or standard input is closed. Returns its exit code, or 0 if it was asked to end."""
    # vLLM leaves sockets and files in the temporary directory, so it gets one that is removed with it.
    with tempfile.TemporaryDirectory(prefix="vllm-", ignore_cleanup_errors=True) as scratch:
        return guarded(arguments, {**os.environ, "TMPDIR": scratch})


def guarded(arguments: list[str], environment: dict[str, str]) -> int:
    """Run a command as `main` does, with these environment variables."""
    of_others = set(_SHARED.iterdir())
    child = subprocess.Popen(
        arguments,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=lambda: end_with_parent(signal.SIGTERM),
        env=environment,
    )
    asked = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: asked.set())
    # Not sys.stdin: a thread that still reads it when the interpreter ends is a fatal error.
    threading.Thread(target=lambda: (os.read(0, 1), asked.set()), daemon=True).start()
    shared: set[Path] = set()
    looks = itertools.count()
    while child.poll() is None and not asked.wait(0.5):
        if next(looks) % _LOOKS_APART == 0:  # all processes of the host are read for it
            shared |= shared_memory(child.pid)
    end_group(child, shared)
    for path in shared - of_others:
        path.unlink(missing_ok=True)
    if asked.is_set():
        return 0
    return child.returncode if child.returncode >= 0 else 128 - child.returncode


def end_with_parent(number: signal.Signals) -> None:
    """Let the kernel send this process a signal when its parent ends."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, number)


def end_group(leader: "subprocess.Popen[bytes]", shared: set[Path]) -> None:
    """Ask the process group to end, then kill it. Adds the shared memory that it had mapped to `shared`."""
    shared |= shared_memory(leader.pid)
    with suppress(ProcessLookupError):
        os.killpg(leader.pid, signal.SIGTERM)
        os.killpg(leader.pid, signal.SIGCONT)  # a stopped process takes no signal but this one
    until = time.monotonic() + TERM_LIMIT_S
    while time.monotonic() < until and (leader.poll() is None or members(leader.pid)):
        time.sleep(0.1)
    with suppress(ProcessLookupError):
        os.killpg(leader.pid, signal.SIGKILL)
    leader.wait()


def members(group: int) -> list[int]:
    """Process ids of the living processes of a group."""
    found = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError, ValueError):
            state, _, pgrp = (entry / "stat").read_text().rpartition(")")[2].split()[:3]
            if int(pgrp) == group and state != "Z":
                found.append(int(entry.name))
    return found


def shared_memory(group: int) -> set[Path]:
    """Segments of shared memory that a group has mapped. Only files directly in /dev/shm count: a file in a directory
    there, such as a model or a trainer's weights, is not the server's."""
    found = set()
    for pid in members(group):
        with suppress(OSError):
            for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
                name = line.partition(f" {_SHARED}/")[2]
                if name and "/" not in name and not name.endswith(" (deleted)"):
                    found.add(_SHARED / name)
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
