"""What a check found, and the registry of checks."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from swe_aem.core.base import Frozen


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARN = "warn"
    """Something will be slow, or a part that not everybody needs is missing."""
    FAIL = "fail"
    """What the purpose needs does not work."""


class Finding(Frozen):
    """One line of the doctor's report."""

    check: str
    level: Level
    found: str
    """What is there, in a few words."""
    fix: str = ""
    """The command or the change that fixes it; empty if all is well."""


class Purpose(StrEnum):
    """What the host is to be used for."""

    ROLLOUT = "rollout"
    """Rollouts in the embedded sandboxes."""
    DOCKER = "docker"
    """Rollouts in containers."""
    TRAIN = "train"
    """Training on this host's GPUs."""


@dataclass(frozen=True)
class Check:
    """A function that looks at one thing. It may raise: then the finding says that it could not look."""

    name: str
    look: Callable[[], Finding]
    needed_for: frozenset[Purpose]
    """For other purposes a `fail` is shown as a `warn`."""


def ok(check: str, found: str) -> Finding:
    """All is well."""
    return Finding(check=check, level=Level.OK, found=found)


def warn(check: str, found: str, fix: str) -> Finding:
    """It works, but slowly, or a part that not everybody needs is missing."""
    return Finding(check=check, level=Level.WARN, found=found, fix=fix)


def fail(check: str, found: str, fix: str) -> Finding:
    """It does not work."""
    return Finding(check=check, level=Level.FAIL, found=found, fix=fix)
