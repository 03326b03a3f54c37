"""Hosts that fail for real: a docker engine of a test's own to stop and kill, a small disk to fill, busy processors."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.conftest import MICRO_IMAGE, absent

_ANSWER_S = 120.0
"""An engine that is killed with containers running ends each of them when it comes back, before it answers."""


class OwnEngine:
    """A docker engine beside the host's own, with images, containers and a socket of its own below a directory.

    It has a network of its own too: an engine without a bridge takes away the one that is there. Its sandboxes have no
    network, as the bundled tasks' have none, so it needs neither a bridge nor rules of the firewall.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.host = f"unix://{directory}/docker.sock"
        self.environment = {**os.environ, "DOCKER_HOST": self.host}
        self._pid_files = (directory / "pid", directory / "exec-root" / "containerd" / "containerd.pid")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the engine and wait until it answers."""
        for file in self._pid_files:
            file.unlink(missing_ok=True)
        roots = [f"--{name}={self._directory / name}" for name in ("data-root", "exec-root")]
        network = ["--bridge=none", "--iptables=false", "--ip-forward=false"]
        namespaces = ["--containerd-namespace=swe-aem-test", "--containerd-plugins-namespace=swe-aem-test-plugins"]
        place = [f"--host={self.host}", f"--pidfile={self._pid_files[0]}", *roots]
        command = ["unshare", "--net", "dockerd", *place, *network, *namespaces]
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        end_s = time.monotonic() + _ANSWER_S
        while self.docker("info", check=False).returncode != 0:
            assert self._process.poll() is None, self._log()
            assert time.monotonic() < end_s, self._log()
            time.sleep(0.1)

    def stop(self) -> None:
        """End the engine as an administrator does, which stops its containers."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(_ANSWER_S)
            self._process = None

    def kill(self) -> None:
        """End the engine and its helper at once; its containers live on until it comes back."""
        for file in self._pid_files:
            with suppress(OSError, ValueError):
                os.kill(int(file.read_text()), signal.SIGKILL)
        if self._process is not None:
            self._process.wait()
            self._process = None

    def clear(self) -> None:
        """Take away the processes and mounts that a killed engine has left."""
        for keeper in self._keepers():
            for pid in [*descendants(keeper), keeper]:
                send(pid, signal.SIGKILL)
        mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        for mount in reversed([mount for mount in mounts if mount.startswith(f"{self._directory}/")]):
            subprocess.run(["umount", "--lazy", mount], check=True)

    def _keepers(self) -> list[int]:
        """Processes that keep a container running without their engine."""
        found = []
        for command in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):
                if b"containerd-shim" in (line := command.read_bytes()) and os.fsencode(self._directory) in line:
                    found.append(int(command.parent.name))
        return found

    def docker(self, *arguments: str, check: bool = True) -> "subprocess.CompletedProcess[bytes]":
        """Run a docker command at this engine."""
        return subprocess.run(["docker", *arguments], env=self.environment, capture_output=True, check=check)

    def load(self, image: str) -> None:
        """Copy an image from the host's own engine."""
        save = subprocess.Popen(["docker", "save", image], stdout=subprocess.PIPE)
        with save:
            subprocess.run(["docker", "load"], env=self.environment, stdin=save.stdout, check=True, capture_output=True)
        assert save.returncode == 0

    def _log(self) -> str:
        return (self._directory / "log").read_text("utf-8", "replace")[-3000:]


@contextmanager
def own_engine() -> Iterator[OwnEngine]:
    """An engine that has the bundled tasks' image; it and all that it made is gone afterwards."""
    if os.geteuid() != 0 or shutil.which("dockerd") is None:
        absent("starting a docker engine takes root and dockerd")
    directory = Path(tempfile.mkdtemp(prefix="engine-"))  # a socket's path has at most 108 bytes
    engine = OwnEngine(directory)
    try:
        engine.start()
        engine.load(MICRO_IMAGE)
        yield engine
    finally:
        engine.kill()
        engine.clear()
        shutil.rmtree(directory)


@contextmanager
def small_disk(directory: Path, size_bytes: int) -> Iterator[Path]:
    """A file system of its own in a file, mounted below `directory`."""
    if os.geteuid() != 0:
        absent("mounting a disk takes root")
    image, mounted = directory / "disk.img", directory / "disk"
    mounted.mkdir()
    with image.open("wb") as file:
        file.truncate(size_bytes)
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", str(image)], check=True)
    subprocess.run(["mount", "-o", "loop", str(image), str(mounted)], check=True)
    try:
        yield mounted
    finally:
        subprocess.run(["umount", "--lazy", str(mounted)], check=True)


@contextmanager
def filled(disk: Path) -> Iterator[None]:
    """A disk without a free block."""
    filler = disk / "filler"
    try:
        with filler.open("wb", buffering=0) as file:
            for size in (1 << 20, 4096):
                try:
                    while True:
                        file.write(bytes(size))
                except OSError:
                    continue
        yield
    finally:
        filler.unlink()


@contextmanager
def busy(processes: int) -> Iterator[None]:
    """Processes that never sleep while this one lives, each in a session of its own: the kernel may share out one part
    to one session."""
    command = ["sh", "-c", f"while kill -0 {os.getpid()}; do :; done"]
    running = [subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL) for _ in range(processes)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
        for process in running:
            process.wait()


def descendants(pid: int) -> list[int]:
    """Process ids below `pid`, in any depth."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text("utf-8", "replace").rpartition(")")[2].split()
        except OSError:
            continue
        parents.setdefault(int(fields[1]), []).append(int(entry.parent.name))

    def below(one: int) -> Iterator[int]:
        for child in parents.get(one, []):
            yield child
            yield from below(child)

    return list(below(pid))


def commands(pids: Iterable[int]) -> dict[int, str]:
    """What those of these processes run that have not ended; one that has may wait for its parent to read how."""
    found = {}
    for pid in pids:
        with suppress(OSError):
            line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()[0] != "Z":
                found[pid] = line
    return found


def send(pid: int, number: signal.Signals) -> None:
    """A signal to a process that may have ended."""
    with suppress(ProcessLookupError):
        os.kill(pid, number)


@contextmanager
def two_networks() -> Iterator[dict[str, str]]:
    """Two network namespaces joined by a cable, as two hosts of a cluster are: address to name. In both the cable's end
    is `eth0`. Nothing outside of them is reached."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        absent("network namespaces take root and iproute2")
    names = [f"swe-aem-{os.getpid()}-{end}" for end in "ab"]
    networks = {f"10.77.0.{number}": name for number, name in enumerate(names, start=1)}

    def ip(*words: str) -> None:
        subprocess.run(["ip", *words], check=True)

    try:
        for name in names:
            ip("netns", "add", name)
        ip("link", "add", "eth0", "netns", names[0], "type", "veth", "peer", "name", "eth0", "netns", names[1])
        for address, name in networks.items():
            ip("-n", name, "addr", "add", f"{address}/24", "dev", "eth0")
            for device in ("lo", "eth0"):
                ip("-n", name, "link", "set", device, "up")
        yield networks
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)
