"""`connect` opens the policy of a `ServersConfig` and the control plane of its weights; `sender` the data plane."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, assert_never

from swe_aem.errors import UserError
from swe_aem.policy import InFlight, RequestConfig, VllmClientConfig, VllmPolicy
from swe_aem.serve.adapter_sync import AdapterSync
from swe_aem.serve.config import ServersConfig
from swe_aem.serve.planes import ControlPlane
from swe_aem.serve.sync import WeightSync

if TYPE_CHECKING:
    from swe_aem.serve.sender import Sender
    from swe_aem.serve.transport import Transport


@asynccontextmanager
async def connect(
    config: ServersConfig,
    *,
    adapter: bool = False,
    in_flight: InFlight = "drain",
    routed_experts: bool = False,
    patient: bool = False,
    starting: str | None = None,
    at_once: int | None = None,
) -> AsyncIterator[tuple[VllmPolicy, WeightSync | AdapterSync]]:
    """Policy and control plane for the length of an `async with`. `adapter` says whether one is trained; `in_flight`
    holds where the configuration says nothing of it; `routed_experts` asks for those of each response; `patient`:
    servers that do not answer are waited for as requests do; `starting` is the label of servers that have the weights
    of version 0; `at_once` trajectories may sample at once, of which each server's slots begin with a share. Raises
    `UserError` if the configuration does not fit what is trained, or a server does not answer.
    Needs no torch."""
    if (config.sync == "lora") != adapter:
        raise UserError(
            f"an adapter is trained and servers.sync is {config.sync}: start servers with --sync lora, and set it"
            if adapter
            else "servers.sync lora is for adapters, and all weights are trained: set lora, or servers.sync file"
        )
    requests = config.model_dump(include=set(RequestConfig.model_fields))
    served = VllmClientConfig(
        urls=config.urls,
        in_flight=config.in_flight or in_flight,
        open_patience_s=config.patience_s if patient else 0.0,
        routed_experts=routed_experts,
        at_once=at_once,
        **requests,
    )
    async with VllmPolicy(served) as policy:
        sync = AdapterSync(policy) if adapter else WeightSync(policy, starting=starting)
        try:
            await sync.open()
            yield policy, sync
        finally:
            await sync.close()


def sender(
    config: ServersConfig,
    directory: Path,
    control: ControlPlane,
    adapter: Any | None = None,
    *,
    tensor_limit_s: float = 1800.0,
) -> "Sender":
    """The data plane, not yet open. `directory` holds weights if the configuration names no directory. `adapter` is the
    `peft` configuration if an adapter is trained. Needs torch."""
    from swe_aem.serve.sender import Sender

    return Sender(_transport(config, config.directory or directory, adapter), control, tensor_limit_s=tensor_limit_s)


def _transport(config: ServersConfig, directory: Path, adapter: Any | None) -> "Transport":
    from swe_aem.serve.transport import AdapterTransport, FileTransport, GlooTransport, NcclTransport

    match config.sync:
        case "file":
            return FileTransport(directory)
        case "gloo":
            return GlooTransport(config.host)
        case "nccl":
            return NcclTransport(config.host)
        case "lora":
            return AdapterTransport(directory, adapter)
        case _:
            assert_never(config.sync)
