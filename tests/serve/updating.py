"""Both planes of an update in one process, as a trainer and its rollouts are."""

import asyncio
from collections.abc import Mapping
from typing import Any

from swe_aem.core.blocking import in_daemon_thread
from swe_aem.serve.adapter_sync import AdapterSync
from swe_aem.serve.pieces import TensorInfo
from swe_aem.serve.planes import BlockingControl, GroupChanged
from swe_aem.serve.sender import Sender
from swe_aem.serve.sync import WeightSync
from swe_aem.serve.transport import Transport


class Updating:
    """A control plane of the running event loop, and a data plane in threads."""

    def __init__(self, sync: WeightSync | AdapterSync, transport: Transport, *, tensor_limit_s: float = 60.0) -> None:
        loop = asyncio.get_running_loop()
        control = BlockingControl(sync, lambda work: asyncio.run_coroutine_threadsafe(work, loop).result())
        self.sync = sync
        self.sender = Sender(transport, control, tensor_limit_s=tensor_limit_s)

    async def open(self) -> None:
        """Connect both."""
        await self.sync.open()
        await in_daemon_thread(self.sender.open)

    async def close(self) -> None:
        """Close both."""
        await self.sync.close()
        self.sender.close()

    async def update(self, weights: Mapping[str, Any], version: int) -> None:
        """Send a state dict, of tied tensors the first."""
        first = {(one.data_ptr(), one.shape): name for name, one in reversed(list(weights.items()))}
        sent = [(name, weights[name]) for name in weights if name in first.values()]
        infos = [TensorInfo.of(name, tensor) for name, tensor in sent]

        def work() -> None:
            self.sender.begin(infos, version)
            self.sender.send(sent)
            self.sender.end()

        while True:
            try:
                return await in_daemon_thread(work)
            except GroupChanged:
                """A broadcast lost a server, and is sent again."""
