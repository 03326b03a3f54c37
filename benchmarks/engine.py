"""The docker engine seen from outside: its CPU time from /proc, and removal of the containers that a run left."""

import os
import time
from pathlib import Path

import docker
from contenders.base import RUN_LABEL
from docker.errors import APIError

REMOVE_TIMEOUT_S = 60.0
_NAMES = ("dockerd", "containerd", "containerd-shim", "docker-proxy")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def _ticks() -> dict[str, int]:
    """User plus system clock ticks of every engine process by pid. Children (runc, the commands) are not counted."""
    found = {}
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            name, _, rest = (directory / "stat").read_text().partition("(")[2].rpartition(")")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if name.startswith(_NAMES):
            fields = rest.split()
            found[directory.name] = int(fields[11]) + int(fields[12])
    return found


class EngineClock:
    """CPU time that the engine used since this object was made; processes that ended meanwhile are not counted."""

    def __init__(self) -> None:
        self._before = _ticks()

    def used_s(self) -> float:
        """Seconds, in steps of a clock tick (10 ms) per process."""
        return sum(now - self._before.get(pid, 0) for pid, now in _ticks().items()) / _TICKS_PER_S


def remove_containers(client: docker.DockerClient, run: str) -> None:
    """Remove every container with the run's label, and wait until they are gone."""
    end_s = time.monotonic() + REMOVE_TIMEOUT_S
    while left := client.api.containers(all=True, filters={"label": f"{RUN_LABEL}={run}"}):
        if time.monotonic() > end_s:
            raise RuntimeError(f"{len(left)} containers of run {run} cannot be removed")
        for container in left:
            try:
                client.api.remove_container(container["Id"], force=True, v=True)
            except APIError as error:
                if error.status_code not in (404, 409):  # it is gone, or going
                    raise
        time.sleep(0.05)
