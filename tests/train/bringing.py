"""Weights of a model brought to servers as training brings them, in one process."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from swe_aem.core.blocking import in_daemon_thread
from swe_aem.serve.planes import BlockingControl
from swe_aem.train.config import TrainConfig
from swe_aem.train.policies import open_policy
from swe_aem.train.processes import Processes
from swe_aem.train.weight_updates import WeightUpdates


def trainer_of(model: Any) -> Any:
    """What updates read of a trainer in one process."""
    import torch

    accelerator = SimpleNamespace(device=torch.device("cpu"), unwrap_model=lambda model: model)
    return SimpleNamespace(accelerator=accelerator, model=model, is_fsdp_enabled=False)


@asynccontextmanager
async def bringing(
    config: TrainConfig, directory: Path, model: Any
) -> AsyncIterator[tuple[Any, Callable[[Any, int], Awaitable[None]]]]:
    """The servers' policy, and `await bring(model, version)`."""
    async with open_policy(config, model) as (policy, sync):
        loop = asyncio.get_running_loop()
        plane: Any = sync
        control = BlockingControl(plane, lambda work: asyncio.run_coroutine_threadsafe(work, loop).result())
        worker: Any = SimpleNamespace(control=control)
        updates = WeightUpdates(config, Processes(cpu=True, collective_timeout_s=100), worker)
        with ExitStack() as stack:
            await in_daemon_thread(lambda: updates.open(stack, directory, model))

            async def bring(current: Any, version: int) -> None:
                updates.trainer = trainer_of(current)
                await in_daemon_thread(lambda: updates.bring(version, lambda: True))

            yield policy, bring
