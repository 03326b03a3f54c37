"""The interface of a contender: start a sandbox, run a command in it, end it, and check that it is gone."""

import asyncio
import contextlib
import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

from swe_aem.core.base import Frozen

T = TypeVar("T")

WORKDIR = "/testbed"
COMMAND_TIMEOUT_S = 60
RUN_LABEL = "swe-aem.benchmark"
"""Label of everything that one run of the benchmark makes."""
UNIT_LABEL = "swe-aem.benchmark-unit"
"""Label of everything that one unit of measurement makes."""

INSTALL_PEERS = "install the peers with `uv sync --all-extras --group bench`"


class Unit(Frozen):
    """One contender, one number of sandboxes, one round: what a child process measures."""

    contender: str
    sandboxes: int
    image: str
    """Holds the example repository at /testbed and a SWE-ReX server."""
    rootfs: Path | None
    """The same image unpacked."""
    workspace: Path
    """The example repository on the host."""
    run: str
    id: str
    calls: int
    """A burst of calls has at least this many ..."""
    seconds: float
    """... and lasts at least this long."""
    starts: int
    """Sandboxes started one after the other where `sandboxes` is 1."""
    trajectories: int
    """Scripted trajectories, played by `sandboxes` workers; 0 for none."""

    @property
    def labels(self) -> dict[str, str]:
        """Docker labels of the unit."""
        return {RUN_LABEL: self.run, UNIT_LABEL: self.id}


class Missing(Exception):
    """A contender cannot be measured here; the message says why and what to install."""


class Box(Protocol):
    """A live sandbox of a contender."""

    async def run(self, command: str) -> tuple[int, str]:
        """Exit code and output of a bash command line in `WORKDIR`."""
        ...

    async def end(self) -> None:
        """End it as this contender's users do. It may still exist afterwards, if they end it in the background."""
        ...


class Contender(ABC):
    """A way to run commands in sandboxes."""

    def __init__(self, unit: Unit) -> None:
        self.unit = unit

    async def prepare(self) -> None:
        """Do what a long-lived process does once. Not measured."""
        return None

    @abstractmethod
    async def start(self) -> Box:
        """Start one sandbox."""

    @abstractmethod
    async def watch(self) -> Callable[[], bool]:
        """Remember what is live now. The function that is returned says whether any of it is left."""


class DockerContender(Contender):
    """A contender whose sandboxes are containers with the unit's labels."""

    @cached_property
    def engine(self) -> Any:
        """Client for looking at the engine, separate from the contender's."""
        import docker

        return docker.from_env(timeout=300)

    def _containers(self) -> list[dict[str, Any]]:
        return self.engine.api.containers(all=True, filters={"label": f"{UNIT_LABEL}={self.unit.id}"})

    async def watch(self) -> Callable[[], bool]:
        """Watch containers and their processes. Processes come first, because asking the engine slows it down."""
        pids = await asyncio.to_thread(self._main_pids)
        return lambda: any_alive(pids) or bool(self._containers())

    def _main_pids(self) -> list[int]:
        from docker.errors import NotFound

        pids = []
        for container in self._containers():
            with contextlib.suppress(NotFound):  # it went after it was listed
                pids.append(self.engine.api.inspect_container(container["Id"])["State"]["Pid"])
        return [pid for pid in pids if pid]


class Threads:
    """Runs a contender's blocking calls, one thread per sandbox, as its own batch runners do."""

    def __init__(self, count: int) -> None:
        self._pool = ThreadPoolExecutor(count)

    async def call(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Run it on a thread of the pool."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, partial(function, *args, **kwargs))


def any_alive(pids: list[int]) -> bool:
    """Does any of these host processes still exist?"""
    return any(os.path.exists(f"/proc/{pid}") for pid in pids)
