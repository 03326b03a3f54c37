"""`Node`: a host as the run sees it: its agent, its places, the tokens that are live there, and how it has fared."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

from swe_aem.core import TrajectoryKey
from swe_aem.core.rendezvous import SPILL, weight
from swe_aem.fleet.engine import NodeLost

if TYPE_CHECKING:
    from swe_aem.fleet.starting_groups import FleetGroup

SUSPECT_AFTER = 3
"""Failures in a row from which a host is a suspect while others work."""
_PROBE_AFTER_S = 10.0
"""A suspect is given one trajectory after this time without a failure, doubled for each that fails too."""
_MOST_DOUBLINGS = 6


class State(Enum):
    """What may be asked of a host."""

    JOINING = "joining"
    WORKS = "works"
    SILENT = "silent"
    """It has not answered lately: it gets nothing new."""
    AWAY = "away"
    """It has been silent for so long that its trajectories were given to others. It may come back."""
    REFUSED = "refused"
    LOST = "lost"


@dataclass(eq=False)
class Attempt:
    """A live token: one trajectory on one host."""

    token: int
    key: TrajectoryKey
    void: NodeLost | None = None
    """Why the token is no longer live, once it is not."""
    failures: list[str] = field(default_factory=list)
    """Attempts that failed there, each as one phrase."""
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once the token is void."""

    def end(self, why: NodeLost) -> None:
        """The token is no longer live."""
        if self.void is None:
            self.void = why
            self.ended.set()


@dataclass(eq=False)
class Node:
    """One host."""

    id: str
    name: str
    state: State = State.JOINING
    agent: Any = None
    places: int = 0
    used: int = 0
    """Places that are taken."""
    groups: "list[FleetGroup]" = field(default_factory=list)
    """Those that are being started there; the first one has the next free place."""
    attempts: dict[int, Attempt] = field(default_factory=dict)
    heard_s: float = 0.0
    """When it last answered, on the loop's clock; likewise all other times here."""
    seen: int = 0
    """The last event that has arrived."""
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    """Set where somebody waits for the next look."""
    drained_at_s: float | None = None
    """When what still runs there is moved, if it is being drained."""
    streak: int = 0
    """Failures in a row."""
    failed_s: float = 0.0
    """When the last of them came."""
    probes: int = 0
    """Trajectories it was given as a suspect since something worked there."""
    why: str = ""
    """Why it is refused, or has no place."""
    order: int = 0
    """The last order about the weights of its policy that it has done (`policy.following.Order.number`)."""

    @property
    def takes_work(self) -> bool:
        """May it get trajectories, if it has a free place?"""
        return self.state is State.WORKS and self.drained_at_s is None and self.places > 0

    @property
    def load(self) -> int:
        """Places that are taken, and those that its groups need yet."""
        return self.used + sum(group.left for group in self.groups)

    @property
    def label(self) -> str:
        """The host, as a person knows it."""
        return f"host {self.name} ({self.id[:8]})"

    def worked(self) -> None:
        """Something worked there."""
        self.streak = self.probes = 0

    def failed(self, now_s: float) -> None:
        """Something failed there."""
        self.streak += 1
        self.failed_s = now_s

    def end_attempts(self, why: NodeLost) -> None:
        """No token is live there any more."""
        for attempt in self.attempts.values():
            attempt.end(why)

    def may_be_probed(self, now_s: float) -> bool:
        """Has a suspect waited for long enough to get one trajectory?"""
        pause_s = _PROBE_AFTER_S * 2 ** min(self.probes, _MOST_DOUBLINGS)
        return self.used == 0 and now_s >= self.failed_s + pause_s


def is_suspect(node: Node, nodes: Iterable[Node]) -> bool:
    """Does a host fail while another one does not? A host that fails fast has always the most free places."""
    if node.streak < SUSPECT_AFTER:
        return False
    return any(other.takes_work and other.streak < SUSPECT_AFTER for other in nodes if other is not node)


def choose(image: str, able: list[Node], group_size: int) -> Node | None:
    """The host for one more trajectory in an image: the one that the image's hash names, unless it has much more than
    its share of what runs or will; then the least loaded one (rendezvous hashing with bounded loads)."""
    if not able:
        return None
    share = (sum(node.load for node in able) + 1) / sum(node.places for node in able)
    for node in sorted(able, key=lambda node: _weight(image, node), reverse=True):
        if node.load < max(group_size, SPILL * share * node.places):
            return node
    return min(able, key=lambda node: node.load / node.places)


def _weight(image: str, node: Node) -> tuple[bytes, bytes]:
    """By name, for a host that comes back under another id still has its images; by id among hosts of one name."""
    return weight(image, node.name), weight(image, node.id)
