"""`HostShare`: how much of its host an agent has, beside the agents of other runs.

Two processes that drive runs on one cluster know nothing of each other, but their agents meet on each host. An agent
keeps a file there that says how many places it has, and takes no more than others leave: who comes first has what it
asks for. Where the settings name a number of places, an agent has that many, whatever others have.
"""

import fcntl
import logging
import math
import os
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from pydantic import ValidationError

from swe_aem.core.base import Frozen
from swe_aem.core.owner import Owner
from swe_aem.fleet.messages import HostSize, Opening
from swe_aem.sandbox.roots import state_dir

logger = logging.getLogger(__name__)


class RunShare(Frozen):
    """What the agent of a run has of this host."""

    run: str
    """The run, as a person knows it."""
    driver: str
    """Names the process that drives it."""
    owner: Owner
    """The agent's process."""
    places: int
    carries: int
    """Places that the host has for such work where nothing else runs."""

    def __str__(self) -> str:
        """For a person."""
        return f"{self.run} has {self.places} of {self.carries} places"


class HostShare:
    """The share of one agent, from when it opens until it closes or its process ends."""

    def __init__(self, opening: Opening, size: HostSize) -> None:
        """Takes what can be had of the places of `size`."""
        self._wanted, self._fixed = size.places, size.fixed
        carries = max(1, size.carries)
        self._mine = RunShare(
            run=opening.name, driver=opening.driver, owner=Owner.this_process(), places=0, carries=carries
        )
        self._name = f"{uuid.uuid4().hex}.json"
        self.others: tuple[RunShare, ...] = ()
        """Agents of other runs, when that was last looked at."""
        self.take()

    @property
    def places(self) -> int:
        """What this agent has."""
        return self._mine.places

    @property
    def is_short(self) -> bool:
        """Has this agent less than it wants?"""
        return self._mine.places < self._wanted

    def of(self, size: HostSize) -> HostSize:
        """The host's size, with the places that this agent has."""
        return replace(size, places=self.places, shared=tuple(map(str, self.others)))

    def take(self) -> int:
        """Take more if others leave more now; returns what this agent has."""
        if self.is_short:
            try:
                with _locked() as directory:
                    self.others = tuple(one for one in _living(directory) if one.driver != self._mine.driver)
                    places = max(self._mine.places, min(self._wanted, self._left()))
                    self._mine = self._mine.model_copy(update={"places": self._wanted if self._fixed else places})
                    (directory / self._name).write_text(self._mine.model_dump_json())
            except OSError as error:  # a host where nothing can be written is shared by nobody's counting
                logger.warning("what other runs have of this host is not known: %s", error)
                self._mine = self._mine.model_copy(update={"places": self._wanted})
        return self._mine.places

    def release(self) -> None:
        """Give all of it up."""
        with suppress(OSError), _locked() as directory:
            (directory / self._name).unlink()

    def _left(self) -> int:
        taken = sum(one.places / one.carries for one in self.others)
        return math.floor(self._mine.carries * (1 - taken) + 1e-6)


def shares_of_this_host() -> tuple[RunShare, ...]:
    """What the agents of all runs have of this host, by run; empty where that cannot be read."""
    try:
        with _locked() as directory:
            return tuple(_living(directory))
    except OSError as error:
        logger.warning("what runs have of this host is not known: %s", error)
        return ()


def sweep_shares() -> list[str]:
    """Forget what agents had that have ended; returns the names of their files."""
    directory = _directory()
    before = {path.name for path in directory.glob("*.json")}
    shares_of_this_host()
    return sorted(before - {path.name for path in directory.glob("*.json")})


def _directory() -> Path:
    return state_dir() / "agents"


@contextmanager
def _locked() -> Iterator[Path]:
    """The directory of this host's shares, for one process at a time; it is gone afterwards if there are none. Raises
    `OSError`."""
    directory = _directory()
    lock = _lock(directory)
    try:
        yield directory
    finally:
        with suppress(OSError):  # somebody has a share
            directory.rmdir()
        os.close(lock)


def _lock(directory: Path) -> int:
    """Lock the directory, which is made if it is missing, and may be removed by whoever has the lock."""
    while True:
        with suppress(FileExistsError):
            directory.mkdir(mode=0o700)
        with suppress(FileNotFoundError):
            lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            fcntl.flock(lock, fcntl.LOCK_EX)
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(lock), directory.stat()):
                    return lock
            os.close(lock)


def _living(directory: Path) -> list[RunShare]:
    """The shares of agents that live, by run."""
    found = [share for path in directory.glob("*.json") if (share := _share(path)) is not None]
    return sorted(found, key=lambda share: share.run)


def _share(path: Path) -> RunShare | None:
    """The share that a file says; None if its agent has ended, and then the file is removed, or is on another host."""
    with suppress(FileNotFoundError, ValidationError):  # released meanwhile; of another version, or not whole
        share = RunShare.model_validate_json(path.read_bytes())
        if share.owner.host != socket.gethostname():
            return None  # hosts share the directory, and whether that agent lives is not known here
        if share.owner.alive():
            return share
    path.unlink(missing_ok=True)
    return None
