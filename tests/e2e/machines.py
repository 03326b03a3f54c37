"""Machines on this one: each has a name, a network, processes, mounts and control groups of its own. It can be switched
off, as one whose power fails, and its cable can be pulled."""

import os
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.conftest import absent

_CONTROLLERS = Path("/sys/fs/cgroup")
_LIMIT_S = 60.0
_FIRST_PROGRAM = "while :; do sleep 0.2; done"
"""A shell that waits takes in processes whose parents have ended."""


class Machine:
    """One of them, switched off."""

    def __init__(self, name: str, address: str, switch: str, disk: Path) -> None:
        """`switch` is the network namespace that has the bridge; `disk` is a directory that outlives the power."""
        self.name, self.address, self._switch, self._disk = name, address, switch, disk
        number = address.rpartition(".")[2]
        self._network, self._port = f"{switch}-{number}", f"port{number}"
        self._power: subprocess.Popen[bytes] | None = None
        self._first = 0
        self.is_cut_off = False
        """Is its cable out?"""
        self._at_start: set[str] = set()

    def on(self) -> None:
        """Start it, without any program."""
        self.temporary.mkdir(parents=True, exist_ok=True)
        _ip("netns", "add", self._network)
        _ip("link", "add", "eth0", "netns", self._network, "type", "veth", "peer", self._port, "netns", self._switch)
        _ip("-n", self._switch, "link", "set", self._port, "master", "bridge", "up")
        _ip("-n", self._network, "addr", "add", f"{self.address}/24", "dev", "eth0")
        for device in ("lo", "eth0"):
            _ip("-n", self._network, "link", "set", device, "up")
        steps = [f"hostname {self.name}", "mkdir -p /run/swe-aem"]
        steps += [f"mount -t tmpfs none {place}" for place in ("/run/swe-aem", "/dev/shm")]
        for group in self._groups:
            group.mkdir()
            steps.append(f"mount --bind {group} {group.parent}")
        spaces = ["--mount", "--uts", "--pid", "--fork", "--mount-proc", "--kill-child=KILL"]
        self._power = subprocess.Popen(
            [
                "nsenter",
                f"--net=/run/netns/{self._network}",
                "unshare",
                *spaces,
                "sh",
                "-ec",
                "; ".join([*steps, _FIRST_PROGRAM]),
            ]
        )
        _wait(f"{self.name} has started", self._is_up)
        self._at_start = self._mounts()
        self.is_cut_off = False

    def off(self) -> None:
        """End all that runs there, at once. Its disk remains."""
        if self._power is None:
            return
        first = Path(f"/proc/{self._first}")
        self._power.kill()
        self._power.wait()
        self._power = None
        _wait(f"{self.name} is off", lambda: not first.exists())
        _ip("-n", self._switch, "link", "del", self._port)  # at once, where that of a network may take minutes
        _ip("netns", "del", self._network)
        for group in self._groups:
            for inner in sorted(group.rglob("*/"), reverse=True):
                inner.rmdir()
            group.rmdir()

    def cut(self) -> None:
        """Pull its cable."""
        _ip("-n", self._switch, "link", "set", self._port, "down")
        self.is_cut_off = True

    def heal(self) -> None:
        """Put its cable back."""
        _ip("-n", self._switch, "link", "set", self._port, "up")
        self.is_cut_off = False

    def inside(self, environment: dict[str, str]) -> list[str]:
        """What a command begins with that is to run there, in the working directory and that environment."""
        own = {"TMPDIR": str(self.temporary), "SWE_AEM_CACHE": str(self._disk / "cache")}
        spaces = ["--net", "--mount", "--uts", "--pid"]
        return ["nsenter", f"--target={self._first}", *spaces, f"--wdns={Path.cwd()}", "env",
                *(f"{name}={value}" for name, value in (environment | own).items())]  # fmt: skip

    def run(self, *command: str) -> str:
        """What a command prints there; it must succeed."""
        done = subprocess.run([*self.inside({}), *command], capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{shlex.join(command)}: {done.stdout}{done.stderr}"
        return done.stdout

    def processes(self) -> dict[int, str]:
        """Command lines of the programs that run there, sandboxes' included, by the ids that they have there."""
        found = {}
        for process in self._root("proc").glob("[0-9]*"):
            with suppress(OSError):
                line = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace").strip()
                if line and _FIRST_PROGRAM not in line and line != "sleep 0.2":
                    found[int(process.name)] = line
        return found

    def kill(self, what: str) -> int:
        """End each program at once whose command line has that in it; how many there were."""
        found = [str(pid) for pid, line in self.processes().items() if what in line]
        if found:
            self.run("sh", "-c", f"kill -KILL {' '.join(found)} || :")
        return len(found)

    @property
    def temporary(self) -> Path:
        """Its directory for temporary files."""
        return self._disk / "tmp"

    def left(self) -> list[str]:
        """What is there that was not when it was switched on, less processes."""
        groups = {inner.name for group in self._groups for inner in group.glob("swe-aem/*/")}
        return [
            *(f"sandbox {one.name}" for one in self._root("run/swe-aem").iterdir()),
            *(f"mount {one}" for one in sorted(self._mounts() - self._at_start)),
            *(f"control group {one}" for one in sorted(groups)),
            *(f"file {one.name}" for one in self.temporary.glob("swe-aem-*")),
        ]

    @property
    def _groups(self) -> list[Path]:
        """Its control groups: one with version 2 of the kernel's interface, else one for each controller."""
        names = [""] if (_CONTROLLERS / "cgroup.controllers").exists() else ["memory", "pids", "cpu", "cpuacct"]
        return list(dict.fromkeys((_CONTROLLERS / name).resolve() / self._network for name in names))

    def _root(self, path: str) -> Path:
        return Path(f"/proc/{self._first}/root") / path

    def _mounts(self) -> set[str]:
        return {line.split()[4] for line in Path(f"/proc/{self._first}/mountinfo").read_text().splitlines()}

    def _is_up(self) -> bool:
        assert self._power is not None
        assert self._power.poll() is None, f"{self.name} did not start"
        children = Path(f"/proc/{self._power.pid}/task/{self._power.pid}/children").read_text().split()
        if not children:
            return False
        self._first = int(children[0])
        return any(line == "sleep 0.2" for line in _lines(self._root("proc")))


@contextmanager
def machines(names: list[str], directory: Path) -> Iterator[list[Machine]]:
    """Machines of these names on one switch, switched on; nothing of them is left, but their disks in `directory`."""
    if os.geteuid() != 0:
        absent("machines of their own take root")
    switch = f"swe-aem-{os.getpid()}"
    made = [Machine(name, f"10.78.0.{n}", switch, directory / name) for n, name in enumerate(names, start=1)]
    try:
        _ip("netns", "add", switch)
        _ip("-n", switch, "link", "add", "bridge", "type", "bridge")
        _ip("-n", switch, "link", "set", "bridge", "up")
        for machine in made:
            machine.on()
        yield made
    finally:
        for machine in made:
            machine.off()
        subprocess.run(["ip", "netns", "del", switch], check=False, capture_output=True)


def _lines(proc: Path) -> Iterator[str]:
    for process in proc.glob("[0-9]*/cmdline"):
        with suppress(OSError):
            yield process.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace").strip()


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


def _wait(what: str, is_so: Callable[[], bool]) -> None:
    end_s = time.monotonic() + _LIMIT_S
    while not is_so():
        assert time.monotonic() < end_s, f"not so within {_LIMIT_S:.0f} s: {what}"
        time.sleep(0.05)
