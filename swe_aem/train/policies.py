"""The policy that samples in a training run, and how it gets trained weights: servers, or a copy in this process."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

from swe_aem.core import Policy
from swe_aem.policy import TransformersPolicy
from swe_aem.train.checkpoint_names import CheckpointNames
from swe_aem.train.config import TrainConfig
from swe_aem.train.expert_adapters import ExpertAdapterNames

_GATHER_S = 0.03
"""Seconds that a request waits for others to share its batch, which costs little more than one row."""


class Updates(Protocol):
    """Something that samples and can be given new weights."""

    @property
    def version(self) -> int | None:
        """Version of the trained weights that it samples with; 0 are those that training starts from. None where that
        is not known, as of servers before their first update: a model's path does not tell what a server has read."""
        ...

    async def update(self, weights: Mapping[str, Any], version: int) -> None:
        """Sample with the weights of a state dict, which is read until this returns."""
        ...


@asynccontextmanager
async def open_policy(
    config: TrainConfig, directory: Path, model: Any, name: str
) -> AsyncIterator[tuple[Policy, Updates]]:
    """The policy and its updates, open for the length of an `async with`. `model` is the trained model, or a copy of it
    where the policy samples in this process."""
    if config.servers is None:
        concurrency = config.rollout.scheduling.concurrency
        policy = TransformersPolicy(model, name=name, max_batch=concurrency, gather_s=_GATHER_S)
        try:
            yield policy, policy
        finally:
            await policy.close()
        return
    from swe_aem.serve.connect import connect

    adapter = model.peft_config["default"] if config.lora else None
    in_flight = "interrupt" if config.max_staleness else "drain"
    async with connect(config.servers, directory / "weights", adapter, in_flight=in_flight) as (served, sync):
        yield served, _Renamed(sync, ExpertAdapterNames(model) if config.lora else CheckpointNames(model))


class _Renamed:
    """Updates of servers, which want other names and shapes than the model in memory has."""

    def __init__(self, updates: Updates, names: CheckpointNames | ExpertAdapterNames) -> None:
        self._updates = updates
        self._names = names

    @property
    def version(self) -> int | None:
        """That of the servers."""
        return self._updates.version

    async def update(self, weights: Mapping[str, Any], version: int) -> None:
        """Send the weights of a state dict, which is read until this returns."""
        await self._updates.update(dict(self._names(weights.items())), version)


def whole_weights(trainer: Any) -> Mapping[str, Any]:
    """The trained weights; where they are sharded, gathered on the first process. All processes must call it."""
    if trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:
        return trainer.accelerator.get_state_dict(trainer.model_wrapped)
    model: Any = trainer.accelerator.unwrap_model(trainer.model)
    return model.state_dict()
