"""`look_at_hosts`: what each host of a cluster has, and whether it could roll out."""

import asyncio
import math
from dataclasses import dataclass

from swe_aem.errors import SweAemError, UserError
from swe_aem.fleet.engine import Engine, Host
from swe_aem.fleet.host_shares import RunShare
from swe_aem.fleet.messages import HostSize, Identity
from swe_aem.rollout import RolloutConfig
from swe_aem.rollout.breaker import describe

_LIMIT_S = 120.0


@dataclass(frozen=True)
class HostStatus:
    """One host."""

    host: Host
    size: HostSize | None
    """None if it could not be asked."""
    problem: str
    """What keeps it from rolling out; empty if nothing does."""
    shares: tuple[RunShare, ...] = ()
    """What runs have of it."""

    @property
    def places(self) -> int:
        """Places that it has where nothing runs; 0 if it could not be asked."""
        return 0 if self.size is None else self.size.carries

    @property
    def free(self) -> int:
        """Places that no run has."""
        taken = sum(share.places / share.carries for share in self.shares)
        return max(0, math.floor(self.places * (1 - taken) + 1e-6))


async def look_at_hosts(engine: Engine, config: RolloutConfig) -> list[HostStatus]:
    """Every host, with its places for the sandboxes of a configuration. An agent on each is asked, and ends.

    Raises `UserError` if there is no cluster to be used.
    """
    async with engine.open():
        return await asyncio.gather(*(_look_at(engine, host, config) for host in await engine.nodes()))


async def _look_at(engine: Engine, host: Host, config: RolloutConfig) -> HostStatus:
    try:
        agent = await engine.start(host.id)
        try:
            theirs = await engine.call(agent, "identity", within_s=_LIMIT_S)
            if problem := theirs.differs_from(Identity.own()):
                return HostStatus(host, None, problem)
            shares = await engine.call(agent, "shares", within_s=_LIMIT_S)
            size = await engine.call(agent, "size", config, within_s=_LIMIT_S)
        finally:
            await engine.stop(agent)
    except UserError as error:
        return HostStatus(host, None, str(error))
    except (SweAemError, OSError) as error:
        return HostStatus(host, None, describe(error))
    return HostStatus(host, size, "it is being drained" if host.draining else "", shares)
