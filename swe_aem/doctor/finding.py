"""`Finding`: the result of one check of the host; `Check`: a check, and what it is needed for."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from swe_aem.core.base import Frozen


class Level(StrEnum):
    """How serious a finding is."""

    OK = "ok"
    WARN = "warn"
    """Something will be slow, or a part that not everybody needs is missing."""
    FAIL = "fail"
    """Something that the purpose needs does not work."""


class Finding(Frozen):
    """One line of the doctor's report."""

    check: str
    level: Level
    found: str
    """What the check saw, in a few words."""
    fix: str = ""
    """The command or the change that fixes it; empty if all is well."""


class Purpose(StrEnum):
    """What the host is to be used for."""

    ROLLOUT = "rollout"
    """Rollouts in the embedded sandboxes."""
    DOCKER = "docker"
    """Rollouts in containers of docker."""
    PODMAN = "podman"
    """Rollouts in containers of podman."""
    TRAIN = "train"
    """Training on this host's GPUs."""


@dataclass(frozen=True)
class Check:
    """A check of one thing. `look` may raise: then the finding says that the check failed."""

    name: str
    look: Callable[[], Finding]
    needed_for: frozenset[Purpose]
    """For other purposes a `fail` is shown as a `warn`."""


def ok(check: str, found: str) -> Finding:
    """A finding that needs no action."""
    return Finding(check=check, level=Level.OK, found=found)


def warn(check: str, found: str, fix: str) -> Finding:
    """A finding about something that is slow, or missing and not needed by everybody."""
    return Finding(check=check, level=Level.WARN, found=found, fix=fix)


def fail(check: str, found: str, fix: str) -> Finding:
    """A finding about something that does not work."""
    return Finding(check=check, level=Level.FAIL, found=found, fix=fix)
