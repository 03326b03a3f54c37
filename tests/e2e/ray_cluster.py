"""A Ray cluster of this host's own, started as people start it, with hosts that can be killed."""

import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

_TRIES = 3
"""Ray's raylet aborts where its Python helpers need more than 15 s to start, as on a busy machine."""
_START_S = 90.0
_OPTIONS = ["--object-store-memory=100000000", "--disable-usage-stats", "--block"]


class RayCluster:
    """A head without sandboxes, and hosts that have them."""

    def __init__(self, directory: Path) -> None:
        token = directory / "token"
        token.write_text(secrets.token_hex(32))
        token.chmod(0o600)
        ours = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token), "RAY_worker_niceness": "0"}
        self.environment = {**os.environ, **ours}
        self._directory = directory
        self._started: list[subprocess.Popen[bytes]] = []
        self.address = ""

    @property
    def hosts(self) -> list[subprocess.Popen[bytes]]:
        """Those that were added and not killed."""
        return self._started[1:]

    def start(self, *more: str, inside: Sequence[str] = ()) -> None:
        """Start the head, with more options of `ray start`; `inside` is what its command begins with."""
        head = ["--head", "--port=0", "--num-cpus=0", "--include-dashboard=false", *more]
        for number in range(_TRIES):
            session = self._directory / str(number)
            output = self._run([*head, f"--temp-dir={session}"], inside)[1]
            if output is not None:
                break
        else:
            raise AssertionError("Ray did not start")
        self.address = next(line.split("'")[1] for line in output.splitlines() if "ray start --address=" in line)

    def add(self, *more: str, inside: Sequence[str] = ()) -> subprocess.Popen[bytes]:
        """A further host; the arguments are those of `start`."""
        options = [f"--address={self.address}", "--num-cpus=1", '--resources={"sandboxes": 1}', *more]
        for _ in range(_TRIES):
            process, output = self._run(options, inside)
            if output is not None:
                return process
        raise AssertionError("a host did not join Ray")

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        """End a host, and all that runs there, at once."""
        for pid in process_tree(process.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()
        self._started.remove(process)

    def stop(self) -> None:
        """End all hosts, the head last."""
        for process in reversed(list(self._started)):
            self.kill(process)

    def _run(self, options: list[str], inside: Sequence[str]) -> tuple[subprocess.Popen[bytes], str | None]:
        """Start a host; returns what it printed, None if it did not start."""
        ray = Path(sys.executable).with_name("ray")
        log = self._directory / f"log-{len(list(self._directory.iterdir()))}"
        with log.open("wb") as file:
            process = subprocess.Popen(
                [*inside, ray, "start", *options, *_OPTIONS],
                stdout=file,
                stderr=file,
                env=self.environment,
                cwd=Path.cwd(),
            )
        self._started.append(process)
        end_s = time.monotonic() + _START_S
        while process.poll() is None and time.monotonic() < end_s:
            if "Ray runtime started" in (output := log.read_text()):
                return process, output
            time.sleep(0.1)
        self.kill(process)
        return process, None


@contextmanager
def ray_cluster() -> Iterator[RayCluster]:
    """A cluster for the length of a `with`; nothing of it is left."""
    directory = Path(tempfile.mkdtemp(prefix="ray-"))  # paths of its sockets must be short
    cluster = RayCluster(directory)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(directory, ignore_errors=True)


def process_tree(root: int) -> list[int]:
    """A process and those below it, as they are now."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            children.setdefault(int(stat.read_text().rpartition(")")[2].split()[1]), []).append(int(stat.parent.name))
    found = [root]
    for pid in found:
        found += children.get(pid, [])
    return found
