"""`Finding`: the result of one check, of a host or of a model's files, with what fixes it."""

from enum import StrEnum

from swe_aem.core.base import Frozen


class Level(StrEnum):
    """How serious a finding is."""

    OK = "ok"
    WARN = "warn"
    """Something will be slow, a part that not everybody needs is missing, or something should be known."""
    FAIL = "fail"
    """Something that is needed does not work."""


class Finding(Frozen):
    """One line of a report."""

    check: str
    level: Level
    found: str
    """What the check saw, in a few words."""
    fix: str = ""
    """The command or the change that fixes it; empty if all is well."""


def ok(check: str, found: str) -> Finding:
    """A finding that needs no action."""
    return Finding(check=check, level=Level.OK, found=found)


def warn(check: str, found: str, fix: str) -> Finding:
    """A finding about something that is slow, or missing and not needed by everybody."""
    return Finding(check=check, level=Level.WARN, found=found, fix=fix)


def fail(check: str, found: str, fix: str) -> Finding:
    """A finding about something that does not work."""
    return Finding(check=check, level=Level.FAIL, found=found, fix=fix)
