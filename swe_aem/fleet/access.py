"""How agents reach the policy of a training run: its servers, or the process that has the model."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Protocol

from swe_aem.core import Policy
from swe_aem.policy import VllmClientConfig, VllmPolicy
from swe_aem.policy.completions import CompletionsConfig, CompletionsPolicy
from swe_aem.policy.following import Follower, ServerOrder


@dataclass(frozen=True)
class AgentPolicy:
    """A policy on an agent."""

    policy: Policy
    follower: Follower | None = None
    """What has it obey orders, where another process changes the weights of its servers."""


class PolicyAccess(Protocol):
    """What an agent needs to know; it can be pickled."""

    def opened(self, at_once: int) -> AbstractAsyncContextManager[AgentPolicy]:
        """The policy for the length of an `async with`, of so many trajectories at once. Raises `UserError` if it
        cannot be reached."""
        ...


@dataclass(frozen=True)
class ServersAccess:
    """vLLM servers, whose weights another process changes."""

    config: VllmClientConfig
    told: tuple[ServerOrder, ...]
    """What that process said of them last."""

    @asynccontextmanager
    async def opened(self, at_once: int) -> AsyncIterator[AgentPolicy]:
        """A policy of its own on these servers."""
        async with VllmPolicy(self.config.model_copy(update={"at_once": at_once}), told=self.told) as policy:
            follower = Follower(policy)
            try:
                yield AgentPolicy(policy, follower)
            finally:
                await follower.close()


@dataclass(frozen=True)
class EndpointAccess:
    """A `PolicyEndpoint` of the process that trains or rolls out."""

    url: str
    key: str = field(repr=False)

    @asynccontextmanager
    async def opened(self, at_once: int) -> AsyncIterator[AgentPolicy]:
        """A client of it."""
        policy = CompletionsPolicy(CompletionsConfig(url=self.url, endpoint=True), key=self.key)
        try:
            await policy.open()
            yield AgentPolicy(policy)
        finally:
            await policy.close()
