"""The policy that samples in a training run: servers, or a copy in this process."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Protocol

from swe_aem.core import Completion, Policy, SamplingParams
from swe_aem.policy import TransformersPolicy
from swe_aem.train.config import TrainConfig

_GATHER_S = 0.03
"""Seconds that a request waits for others to share its batch, which costs little more than one row."""

_MOST_ROWS = 64
"""Rows of a batch where the settings do not say how many agents there are: each has keys and values, whose memory no
processor or disk of the host tells."""


class Versioned(Protocol):
    """What knows the weights that a policy samples with: a policy in this process, or the control plane of servers."""

    @property
    def version(self) -> int | None:
        """Version of the trained weights that it samples with; 0 are those that training starts from. None where that
        is not known, as of servers before their first update that were not started with the same files."""
        ...


def sampled_together(config: TrainConfig) -> int:
    """How many rows a policy in this process samples at once: one for each agent that is asked for."""
    return config.rollout.scheduling.concurrency or min(_MOST_ROWS, config.rollout.at_once.concurrency)


class LoadedLater:
    """A policy in this process whose model is still being loaded: sandboxes start meanwhile, and whoever samples
    waits."""

    def __init__(self, name: str, loading: "asyncio.Future[TransformersPolicy]") -> None:
        self.name = name
        self._loading = loading

    async def loaded(self) -> TransformersPolicy:
        """The policy itself. Raises what loading the model raised."""
        return await asyncio.shield(self._loading)

    @property
    def version(self) -> int:
        """Version of the weights that responses are sampled with."""
        return self._loading.result().version if self._loading.done() else 0

    async def sample(self, prompt_ids: Sequence[int], params: SamplingParams, *, trajectory_id: str) -> Completion:
        """Sample one response, as `core.Policy` says."""
        return await (await self.loaded()).sample(prompt_ids, params, trajectory_id=trajectory_id)

    async def update(self, weights: Mapping[str, Any], version: int) -> None:
        """Load the weights of a state dict, as `TransformersPolicy` does."""
        await (await self.loaded()).update(weights, version)

    async def close(self) -> None:
        """Release the model. Nobody waits for one that is still being loaded: its thread ends with the process."""
        if self._loading.done() and self._loading.exception() is None:
            await self._loading.result().close()
        self._loading.cancel()


@asynccontextmanager
async def open_policy(
    config: TrainConfig, model: Callable[[], Any], *, patient: bool = False
) -> AsyncIterator[tuple[Policy, Versioned]]:
    """The policy and what knows its version, open for the length of an `async with`. `model` makes a copy of the model
    before training; it is called where the policy samples in this process, in a thread, and a `LoadedLater` stands for
    the policy. `patient`: servers that do not answer are waited for."""
    if config.servers is None:

        def load() -> TransformersPolicy:
            return TransformersPolicy(
                model(), name=config.model_name, max_batch=sampled_together(config), gather_s=_GATHER_S
            )

        policy = LoadedLater(config.model_name, asyncio.create_task(asyncio.to_thread(load)))
        try:
            yield policy, policy
        finally:
            await policy.close()
        return
    from swe_aem.serve.connect import connect
    from swe_aem.serve.starting import label_of_sent

    in_flight = "interrupt" if config.max_staleness else "drain"
    async with connect(
        config.servers,
        adapter=config.lora is not None,
        in_flight=in_flight,
        routed_experts=config.routing_replay,
        patient=patient,
        at_once=config.rollout.at_once.concurrency,
        starting=label_of_sent(config.model, trained=config.dtype, sent=config.servers.dtype or config.dtype),
    ) as (served, sync):
        yield served, sync
