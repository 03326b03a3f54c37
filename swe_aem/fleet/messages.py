"""What crosses between this process and the agents: frozen data that can be pickled."""

import hashlib
import os
import pickle
import platform
import socket
import uuid
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import swe_aem
from swe_aem.core import TaskRecord
from swe_aem.errors import ExtensionFailed, SweAemError
from swe_aem.rollout import RolloutConfig, this_host
from swe_aem.runlog import traceback_of
from swe_aem.tasks import TaskSet

if TYPE_CHECKING:
    from swe_aem.fleet.host_work import OpenHostWork

Kind = Literal[
    "phase",
    "phase_ended",
    "failed",
    "tell",
    "released",
    "agent_failed",
    "agent_worked",
    "grading_failed",
    "grading_worked",
    "answered",
    "unanswered",
    "used",
    "used_in_vain",
    "again",
    "agent_ended",
]
"""What an event says: a call of what trajectories share in a run."""


@dataclass(frozen=True)
class Identity:
    """The software of a process; all of a fleet must have the same."""

    swe_aem: str
    """Version, and a digest of the source."""
    python: str

    @staticmethod
    def own() -> "Identity":
        """This process's."""
        return Identity(f"{swe_aem.__version__} ({_source_digest()})", platform.python_version())

    def differs_from(self, own: "Identity") -> str:
        """In what another process's software differs from this one's, and what to do; empty if it does not."""
        if self == own:
            return ""
        return (
            f"it has swe-aem {self.swe_aem} on Python {self.python}, and this process {own.swe_aem} on Python "
            f"{own.python}: install the same on all hosts"
        )


@dataclass(frozen=True)
class Opening:
    """What an agent needs to know before its first job."""

    work: "OpenHostWork"
    """What does the jobs: a function of a module, which is sent by its name."""
    config: RolloutConfig
    tasks: TaskSet
    """Without records: those come with each job."""
    run: str
    """Id of the run, for labels."""
    directory: str
    """Where the command was started: relative paths of the configuration start there."""
    identity: Identity
    """The software that an agent must have."""
    broken_tasks: bytes = b"{}"
    """What the store knows of broken tasks: the content of its file."""
    settings: Any = None
    """What `work` needs to know beyond that."""
    name: str = ""
    """The run, as a person knows it."""
    driver: str = field(default_factory=lambda: uuid.uuid4().hex)
    """Names the process that drives the run."""


@dataclass(frozen=True)
class HostSize:
    """What a host has for sandboxes."""

    processors: int
    memory_bytes: int
    """Free when it was looked at."""
    places: int
    """Jobs that may run at once: what the settings say, or what the host carries and other runs leave."""
    carries: int = 0
    """Jobs that the host carries where nothing else runs."""
    fixed: bool = True
    """Do the settings say how many places, whatever the host carries?"""
    shared: tuple[str, ...] = ()
    """What the agents of other runs have of it, a phrase for each."""

    @staticmethod
    def of_this_host(places: int, carries: int | None = None, *, fixed: bool = True) -> "HostSize":
        """This host's, with so many places."""
        host = this_host()
        return HostSize(host.processors, host.memory_bytes, places, places if carries is None else carries, fixed)

    @staticmethod
    def for_trajectories(config: RolloutConfig) -> "HostSize":
        """This host's, for the trajectories of a configuration."""
        fixed = config.scheduling.concurrency is not None
        return HostSize.of_this_host(config.at_once.concurrency, config.carried.concurrency, fixed=fixed)

    @staticmethod
    def for_scripts(config: RolloutConfig, places: int | None = None) -> "HostSize":
        """This host's, for evaluation scripts in the sandboxes of a configuration: `places`, if that is given."""
        fixed = places is not None or config.scheduling.grading is not None
        return HostSize.of_this_host(places or config.at_once.grading, config.carried.grading, fixed=fixed)


@dataclass(frozen=True)
class Job:
    """One trajectory to roll out, or other work on one task."""

    token: int
    """Names this attempt among all of the run: only the line of a live token is stored."""
    record: TaskRecord
    sample: int
    earlier: tuple[str, ...]
    """Failed attempts elsewhere."""
    left_s: float
    """Seconds of the trajectory's time that are left; infinite where there is no limit."""
    payload: Any = None
    """What is to be worked on, where that is more than the task."""


@dataclass(frozen=True)
class SharingRollout:
    """One of several rollouts that use the same agents, as the payload of its jobs."""

    number: int
    config: RolloutConfig
    tasks: TaskSet
    """Without records: those come with each job."""
    run: str
    """Id of the run, for labels."""
    live: frozenset[int]
    """Numbers of all rollouts that use the agents when the job is made."""


@dataclass(frozen=True)
class Live:
    """Which tokens an agent may work for."""

    issued: int
    """The last token that has been issued; later ones are not spoken of."""
    tokens: frozenset[int]
    """Those of the agent that are live."""
    seen: int
    """The last event that has arrived."""
    budget_spent: bool
    """Is the run's budget used up?"""
    images: tuple[str, ...] = ()
    """Those of groups that wait to be started there."""


@dataclass(frozen=True)
class Event:
    """Something that a run has to know, numbered from 1 by each agent."""

    number: int
    kind: Kind
    arguments: tuple[Any, ...]
    rollout: int = 0
    """The number of the rollout that it speaks of, where several share agents (`SharingRollout.number`)."""


@dataclass(frozen=True)
class Report:
    """Events that had not arrived when it was made."""

    events: tuple[Event, ...]
    now_s: float
    """The host's monotonic clock."""
    broken_tasks: bytes | None = None
    """What is known of broken tasks, if that has changed."""
    places: int | None = None
    """What the agent has now of its host's; None where it shares that with nobody."""


@dataclass(frozen=True)
class Finished:
    """How a job's attempts on a host ended."""

    events: int
    """The last event of the host by then; those up to it come before the result."""
    result: Any = None
    error: Exception | None = None
    """In place of a result: what was raised."""


def run_name(name: str) -> str:
    """A run that this process drives, told from others of that name."""
    return f"{name} ({socket.gethostname()}, process {os.getpid()})"


def portable(error: Exception) -> Exception:
    """An exception that survives being pickled. Where its traceback matters, a note has it."""
    if isinstance(error, ExtensionFailed) or not isinstance(error, SweAemError):
        error.add_note(traceback_of(error))
    try:
        pickle.loads(pickle.dumps(error))
    except Exception as odd:  # an exception of anybody's own may do anything then
        instead = RuntimeError(f"{type(error).__name__}: {error} (it cannot be pickled: {odd})")
        instead.add_note(traceback_of(error))
        return instead
    return error


@cache
def _source_digest() -> str:
    root = Path(swe_aem.__file__).parent
    state = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        if "bundled" not in path.relative_to(root).parts:
            state.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return state.hexdigest()[:12]
