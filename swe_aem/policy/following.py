"""Policies of several processes that ask the same servers: one of them changes the weights, and the others follow it.

    leader: no new requests ──held order──> followers: no new requests; those in flight end, or are interrupted
                            <──── idle ───
            new weights
                            ──── order ───> followers: what each server has to serve, its version; requests continue

An order says all that a follower has to know, so that one may be sent twice, or left out where a later one is sent.
"""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from swe_aem.policy.vllm_control import ServedModel

if TYPE_CHECKING:
    from swe_aem.policy.vllm import VllmPolicy


@dataclass(frozen=True)
class ServerOrder:
    """What a follower has to know of a server."""

    url: str
    expected: ServedModel
    """What it has to serve."""
    version: int
    """Version that its responses are stamped with."""
    name: str
    """The model or adapter that requests name."""
    max_model_tokens: int | None
    """Tokens that prompt and response may have together."""
    out_reason: str | None
    """Why it is out of rotation; None if it is in."""


@dataclass(frozen=True)
class Order:
    """What a leader tells its followers."""

    number: int
    """Rises from order to order; a follower ignores one that is older than its last."""
    servers: tuple[ServerOrder, ...]
    held: bool = False
    """Begin no request until the next order that is not held."""
    interrupted: bool = False
    """The leader interrupts the servers meanwhile: what they cut off is continued later."""


class Followers(Protocol):
    """The policies that follow, as their leader sees them."""

    def hold(self, *, interrupted: bool) -> None:
        """Tell them to begin no request. `interrupted`: the leader cuts off those that are in flight."""
        ...

    async def idle(self) -> bool:
        """Wait until no request of theirs is in flight. False if one of them was given up, whose requests may still be
        at the servers, and whose responses nobody takes."""
        ...

    def release(self, servers: Sequence[ServerOrder]) -> None:
        """Tell them what the servers serve now, and to continue."""
        ...

    async def unused(self, name: str) -> None:
        """Wait until no request of theirs names that model or adapter."""
        ...


class NoFollowers:
    """Nobody follows."""

    def hold(self, *, interrupted: bool) -> None:
        """Nobody to tell."""

    async def idle(self) -> bool:
        """At once."""
        return True

    def release(self, servers: Sequence[ServerOrder]) -> None:
        """Nobody to tell."""

    async def unused(self, name: str) -> None:
        """At once."""


class Follower:
    """Has a policy do what the orders of its leader say."""

    def __init__(self, policy: "VllmPolicy") -> None:
        self._policy = policy
        self._last: Order | None = None
        self._taken: asyncio.Task[None] | None = None
        """Takes the last order."""
        self._checks = AsyncExitStack()
        """Holds back health checks while an order is held."""
        self._is_held = False

    async def obey(self, order: Order, *, within_s: float) -> bool:
        """Take an order. Has it been done, within this time? Where it is held, that includes that no request is in
        flight. Asked again it does not begin again."""
        if self._last is None or order.number > self._last.number:
            self._last = order
            if order.held:
                for server in self._policy.servers:
                    server.slots.close()
                    server.interrupted_by_leader(order.interrupted)
            self._taken = asyncio.create_task(self._take(order, self._taken))
        assert self._taken is not None
        try:
            async with asyncio.timeout(within_s):
                await asyncio.shield(self._taken)
                if order.held:
                    await asyncio.gather(*(server.slots.drained() for server in self._policy.servers))
        except TimeoutError:
            return False
        return order.number == self._last.number

    async def unused(self, name: str, *, within_s: float) -> bool:
        """Is no request in flight that names that model or adapter, or none any more within this time?"""
        try:
            async with asyncio.timeout(within_s):
                await asyncio.gather(*(server.wait_unused(name) for server in self._policy.servers))
        except TimeoutError:
            return False
        return True

    async def close(self) -> None:
        """Follow no more."""
        if self._taken is not None:
            self._taken.cancel()
            await asyncio.wait({self._taken})
        await self._checks.aclose()

    async def _take(self, order: Order, before: "asyncio.Task[None] | None") -> None:
        if before is not None:
            await asyncio.wait({before})
        if order is self._last and not self._is_held:
            await self._checks.enter_async_context(self._policy.between_checks())
            self._is_held = True
        if order is self._last and not order.held:  # a later one may have come meanwhile
            self._policy.follow(order.servers)
            self._is_held = False
            await self._checks.aclose()
