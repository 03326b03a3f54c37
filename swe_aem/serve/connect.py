"""`connect`: opens the policy of a `ServersConfig`, and the sync that sends it new weights. Needs torch."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, assert_never

from swe_aem.errors import UserError
from swe_aem.policy import InFlight, RequestConfig, VllmClientConfig, VllmPolicy
from swe_aem.serve.config import ServersConfig
from swe_aem.serve.sync import AdapterSync, WeightSync
from swe_aem.serve.transport import FileTransport, GlooTransport, NcclTransport, Transport


@asynccontextmanager
async def connect(
    config: ServersConfig, directory: Path, adapter: Any | None = None, *, in_flight: InFlight = "drain"
) -> AsyncIterator[tuple[VllmPolicy, WeightSync | AdapterSync]]:
    """Policy and sync for the length of an `async with`.

    `directory` holds weights if the configuration names no directory. `adapter` is the `peft` configuration if an
    adapter is trained. `in_flight` holds where the configuration says nothing of it. Raises `UserError` if the
    configuration does not fit what is trained, or a server does not answer.
    """
    if (config.sync == "lora") != (adapter is not None):
        raise UserError(
            "servers.sync lora is for adapters, and all weights are trained: set lora, or servers.sync file"
            if adapter is None
            else f"an adapter is trained and servers.sync is {config.sync}: start servers with --sync lora, and set it"
        )
    requests = config.model_dump(include=set(RequestConfig.model_fields))
    served = VllmClientConfig(urls=config.urls, in_flight=config.in_flight or in_flight, **requests)
    place = config.directory or directory
    async with VllmPolicy(served) as policy:
        sync = AdapterSync(policy, place, adapter) if adapter else WeightSync(policy, _transport(config, place))
        try:
            await sync.open()
            yield policy, sync
        finally:
            sync.close()


def _transport(config: ServersConfig, directory: Path) -> Transport:
    """How whole weights travel; adapters have `AdapterSync` instead."""
    match config.sync:
        case "file":
            return FileTransport(directory, config.dtype)
        case "gloo":
            return GlooTransport(config.host, config.dtype)
        case "nccl":
            return NcclTransport(config.host, config.dtype)
        case "lora":
            raise ValueError("servers.sync lora sends adapters, not whole weights")
        case _:
            assert_never(config.sync)
