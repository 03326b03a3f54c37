"""`Engine`: what connects this process to agents on other hosts."""

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from swe_aem.errors import InfrastructureError


class NodeLost(InfrastructureError):
    """A host or its agent is gone: what it ran is to be rolled out elsewhere."""


class NodeDrained(NodeLost):
    """A host is taken away on purpose, as by a scheduler that needs it: no failure."""


class NodeSilent(InfrastructureError):
    """A host did not answer. What was asked of it may happen all the same."""


NO_HOSTS = (
    "agents go to hosts that were started with the resource `sandboxes`, or where none ever was, to those with "
    "processors (--num-cpus above 0), and the cluster has none of these now"
)
"""What is said where `Engine.nodes` lists none."""


@dataclass(frozen=True)
class Host:
    """A host that may have an agent."""

    id: str
    """Names it for as long as it belongs to the cluster: one that comes back has another id."""
    name: str
    draining: bool = False
    """Will it be taken away?"""
    sees_us_at: str = "127.0.0.1"
    """The address at which it reaches this process."""


class Engine(Protocol):
    """Starts agents on hosts, and calls them. Methods and their arguments are those of `NodeAgent`."""

    def open(self) -> AbstractAsyncContextManager[None]:
        """The connection, for the length of the block. Raises `UserError` if there is no cluster to be used."""
        ...

    async def nodes(self) -> list[Host]:
        """Hosts that belong to the cluster now. Raises `NodeSilent` if that cannot be found out."""
        ...

    async def start(self, host: str) -> Any:
        """A handle of a new agent on a host."""
        ...

    async def call(self, agent: Any, method: str, *arguments: Any, within_s: float | None = None) -> Any:
        """What a method of an agent returns, or raises.

        Cancelling this cancels the method there, and waits until it has ended. Raises `NodeLost`, and `NodeSilent`,
        also where there is no answer within so many seconds.
        """
        ...

    async def stop(self, agent: Any) -> None:
        """End an agent, whatever it does."""
        ...
