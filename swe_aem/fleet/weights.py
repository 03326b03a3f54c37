"""`FleetWeights`: has the policies of agents follow the one whose servers this process gives new weights.

    leader's update ──held order──> every agent that can be reached: no new requests, those in flight end
                    <─ all idle ───                                  an agent that is lost or silent is not waited for
                    ──── order ───> they continue with the new version; one that joins gets it before its first place

A token of an agent that was not waited for is void, so that no line of it is stored.
"""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from swe_aem.fleet.node import Node, State
from swe_aem.policy.following import Order, ServerOrder

if TYPE_CHECKING:
    from swe_aem.fleet.fleet import Fleet

_CALL_LIMIT_S = 10.0
"""Longer than an agent takes to say that it is not idle yet."""


class FleetWeights:
    """The followers (`policy.following.Followers`) on the hosts of a fleet."""

    def __init__(self, servers: Sequence[ServerOrder]) -> None:
        """`servers` are as their leader has them at first."""
        self._order = Order(1, tuple(servers))
        self._changed_at = 0
        """The last held order that was obeyed before weights changed."""
        self._asking: set[str] = set()
        """Hosts from which requests may be at the servers."""
        self._fleet: Fleet | None = None

    def join(self, fleet: "Fleet") -> None:
        """The hosts are these."""
        self._fleet = fleet

    def is_current(self, node: Node) -> bool:
        """May the host be given a place?"""
        return not self._order.held and node.order == self._order.number

    def is_outdated(self, node: Node) -> bool:
        """Have weights changed without it, so that what it samples would bear another version?"""
        return node.order < self._changed_at

    async def keep(self, node: Node) -> None:
        """Tell a host every order, until it is lost."""
        self._asking.add(node.id)
        while node.state is not State.LOST:
            order = self._order
            if node.order == order.number:
                await self._hosts.change()
            elif await self._hosts.ask(node, "obey", order, within_s=_CALL_LIMIT_S):
                node.order = order.number
                self._hosts.notify()

    def hold(self, *, interrupted: bool) -> None:
        """Tell all agents to begin no request."""
        self._give(Order(self._order.number + 1, self._order.servers, held=True, interrupted=interrupted))

    async def idle(self) -> bool:
        """Wait until none has a request in flight, but for those that are lost, or silent for so long that they count
        as lost. False if there are such."""
        while any(node.order < self._order.number for node in self._reachable):
            await self._hosts.change()
        self._changed_at = self._order.number
        clean = self._asking <= {node.id for node in self._reachable}
        self._asking &= {node.id for node in self._hosts.nodes}
        return clean

    def release(self, servers: Sequence[ServerOrder]) -> None:
        """Tell all agents what the servers serve, and to continue."""
        self._give(Order(self._order.number + 1, tuple(servers)))

    async def unused(self, name: str) -> None:
        """Wait until no request of an agent names that model or adapter."""
        waiting = {node.id for node in self._reachable}
        while waiting:
            asked = [node for node in self._reachable if node.id in waiting]
            answers = await asyncio.gather(
                *(self._hosts.ask(node, "unused", name, within_s=_CALL_LIMIT_S) for node in asked)
            )
            waiting = {node.id for node, unused in zip(asked, answers, strict=True) if not unused}

    @property
    def _hosts(self) -> "Fleet":
        assert self._fleet is not None, "no fleet was joined"
        return self._fleet

    @property
    def _reachable(self) -> list[Node]:
        """Hosts that are open, and whose tokens are live."""
        return [node for node in self._hosts.nodes if node.state in (State.WORKS, State.SILENT)]

    def _give(self, order: Order) -> None:
        self._order = order
        self._hosts.notify()
