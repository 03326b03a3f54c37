"""`open_hosts`: the hosts of a cluster on which a training run rolls out, and their way to its policy. Importable
without torch.

    servers:                agents ask them, and follow what this process does to their weights (`fleet.weights`)
    a model's directory:    agents ask this process, which samples, through an endpoint with a key (`policy.endpoint`)
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from swe_aem.core import Policy
from swe_aem.fleet import Host, engine_at
from swe_aem.fleet.access import EndpointAccess, PolicyAccess, ServersAccess
from swe_aem.fleet.engine import Engine
from swe_aem.fleet.standing import StandingFleet
from swe_aem.fleet.weights import FleetWeights
from swe_aem.policy import TransformersPolicy, VllmPolicy
from swe_aem.policy.endpoint import PolicyEndpoint
from swe_aem.rollout import RolloutConfig


@asynccontextmanager
async def open_hosts(
    config: RolloutConfig, directory: Path, policy: Policy, *, engine: Engine | None = None
) -> AsyncIterator[StandingFleet]:
    """Agents on the cluster that `config` names, for the length of an `async with`. `policy` is this process's, whose
    weights change here; `directory` is the store's. Raises what `Fleet.open` does."""
    assert config.cluster is not None
    engine = engine or engine_at(config.cluster.address)
    async with AsyncExitStack() as stack:
        weights = None
        if isinstance(policy, VllmPolicy):
            served = policy
            weights = policy.followers = FleetWeights(policy.orders)
            # A host may join while servers are started again.
            patient = policy.config.model_copy(update={"open_patience_s": policy.config.patience_s})

            async def access(host: Host) -> PolicyAccess:
                return ServersAccess(patient, served.orders)
        else:
            most = policy.max_model_tokens if isinstance(policy, TransformersPolicy) else None
            endpoint = await stack.enter_async_context(PolicyEndpoint(policy, max_model_tokens=most))

            async def access(host: Host) -> PolicyAccess:
                return EndpointAccess(await endpoint.listen(host.sees_us_at), endpoint.key)

        fleet = StandingFleet(engine, config, directory, access, weights=weights)
        await stack.enter_async_context(fleet.open())
        yield fleet
