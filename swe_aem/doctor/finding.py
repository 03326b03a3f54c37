"""`Check`: a check of the host, and the purposes that it is needed for."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from swe_aem.core.finding import Finding


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
