"""Kinds of failed pulls, told apart by the engine's message: it passes on the registry's text, not its status."""

import re
from enum import StrEnum

from swe_aem.errors import InfrastructureError


class PullFailure(StrEnum):
    """Why a pull failed; decides whether and when it is tried again."""

    RATE_LIMITED = "rate limited"
    UNREACHABLE = "unreachable"
    CORRUPT = "corrupt layer"
    STALLED = "stalled"
    TIMED_OUT = "out of time"
    MISSING = "not in the registry"
    DENIED = "not allowed"
    NO_SPACE = "disk full"
    MOVED = "not what was pinned"
    MALFORMED = "malformed image"
    OTHER = "failed"


FINAL = frozenset(
    {
        PullFailure.MISSING,
        PullFailure.DENIED,
        PullFailure.NO_SPACE,
        PullFailure.MOVED,
        PullFailure.MALFORMED,
        PullFailure.TIMED_OUT,
    }
)
"""Failures after which the same registry is not asked again."""

_SIGNS = (
    (PullFailure.RATE_LIMITED, r"toomanyrequests|too many requests|rate limit|\bstatus(?: code)?:? 429"),
    (PullFailure.NO_SPACE, r"no space left on device|disk quota exceeded"),
    (
        PullFailure.DENIED,
        r"unauthorized|authentication required|no basic auth|access denied|access to the resource is denied|"
        r"\bdenied:|forbidden|incorrect username|invalid username/password",
    ),
    (
        PullFailure.CORRUPT,
        r"verification failed|manifest (?:digest )?verif|failed to register layer|invalid checksum|invalid tar|"
        r"gzip: invalid|unexpected commit digest|does not match (?:expected )?digest",
    ),
    (
        PullFailure.UNREACHABLE,
        r"no such host|connection refused|network is unreachable|no route to host|i/o timeout|"
        r"temporary failure in name resolution|server misbehaving|tls handshake timeout|context deadline exceeded|"
        r"request canceled while waiting for connection|x509:|server gave http response to https",
    ),
    (
        PullFailure.MISSING,
        r"manifest unknown|name unknown|manifest for .* not found|repository .* not found|no matching manifest",
    ),
)
_RETRY_AFTER = re.compile(r"retry[- ]after:?\s*((?:[0-9.]+(?:h|ms|us|µs|ns|m|s)?)+)", re.IGNORECASE)
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(h|ms|us|µs|ns|m|s|)")
_UNIT_S = {"h": 3600.0, "m": 60.0, "s": 1.0, "": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}


class PullError(InfrastructureError):
    """A pull that failed."""

    def __init__(self, kind: PullFailure, said: str) -> None:
        super().__init__(f"{kind}: {said}")
        self.kind = kind
        self.said = said


def classify(said: str) -> PullFailure:
    """The kind of failure that an engine's message reports."""
    text = said.lower()
    return next((kind for kind, signs in _SIGNS if re.search(signs, text)), PullFailure.OTHER)


def retry_after_s(said: str) -> float | None:
    """How long a registry asks to wait, in seconds, if its message says so (ghcr.io: `retry-after: 153.1µs`)."""
    found = _RETRY_AFTER.search(said)
    if not found:
        return None
    parts = _PART.findall(found.group(1))
    return sum(float(number) * _UNIT_S[unit] for number, unit in parts) if parts else None
