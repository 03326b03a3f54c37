"""The control plane of adapters: servers load each version under a name of its own, during generation, and a request
names the adapter that answers it. Importable without torch.
"""

import shutil
from collections.abc import Sequence
from typing import Any

from swe_aem.core.blocking import in_daemon_thread
from swe_aem.errors import PolicyError
from swe_aem.policy import NoServer, ServedModel, VllmPolicy, VllmServer
from swe_aem.serve.lost_servers import each, lost, patiently, reasons
from swe_aem.serve.planes import Parcel


class AdapterSync:
    """Gives servers a LoRA adapter, a directory that they see, under a name that holds its label
    (`planes.AsyncControlPlane`)."""

    def __init__(self, policy: VllmPolicy, *, limit_s: float = 300.0) -> None:
        """`limit_s` bounds loading one."""
        self._policy = policy
        self._limit_s = limit_s
        self._base: dict[VllmServer, ServedModel] = {}
        self._loaded: dict[str, str] = {}
        """Directories of the adapters that servers have, by their names, the oldest first."""
        self._begun: Parcel | None = None
        self.version: int | None = None
        """Version of the adapter that this sync has brought to the servers; None before the first."""

    async def open(self) -> None:
        """Note what the servers serve without adapters."""
        for server in self._policy.servers:
            self._base[server] = server.expected
        self._policy.repair = self._repair

    async def close(self) -> None:
        """Stop repairing restarted servers; servers and adapters stay as they are."""
        self._policy.repair = None

    async def world_sizes(self) -> tuple[int, ...]:
        """Nobody joins a group for an adapter."""
        return ()

    async def join(self, init_infos: Sequence[dict[str, Any]]) -> None:
        """Nobody joins a group for an adapter."""

    async def begin(self, parcel: Parcel) -> None:
        """Nothing stops for an adapter."""
        self._begun = parcel

    async def end(self, failure: str | None) -> None:
        """Load the adapter on every server, then let requests name it. A server that fails to load it is out of
        rotation until it does. Raises `PolicyError` if none loads it; requests continue with the previous adapter."""
        assert self._begun is not None, "no update has begun"
        parcel, self._begun = self._begun, None
        name = f"{self._policy.name}-{parcel.label}"
        await self._unload(keep=1)
        what = f"can take the adapter of {parcel.version} steps"
        await patiently(self._policy, what, lambda: self._deliver(parcel, name))
        self.version = parcel.version

    async def _deliver(self, parcel: Parcel, name: str) -> None:
        async with self._policy.between_checks():
            path = parcel.update_info["lora_path"]
            servers = self._policy.taking_weights()
            loaded = await each(servers, lambda server: self._load(server, name, path))
            if not loaded:
                why = reasons(servers)
                if len(await lost(servers)) == len(servers):
                    raise NoServer(f"every server was lost while it loaded the adapter: {why}")
                raise PolicyError(f"no server loaded the new adapter; all continue with the old one: {why}")
            self._loaded[name] = path
            for server in self._policy.servers:
                base = self._base[server]
                expected = base.model_copy(update={"names": (*base.names, name)})
                server.expect(expected, version=parcel.version, name=name)
                server.check_soon()  # one that lacked it may have it now

    async def _load(self, server: VllmServer, name: str, path: str) -> None:
        body = {"lora_name": name, "lora_path": path, "load_inplace": True}
        await server.control.post("/v1/load_lora_adapter", body, limit_s=self._limit_s)

    async def _unload(self, keep: int) -> None:
        """Unload all but the latest `keep` adapters, each once no request in flight names it."""
        while len(self._loaded) > keep:
            name = next(iter(self._loaded))
            path = self._loaded.pop(name)
            for server in self._policy.servers:
                await server.wait_unused(name)
            await self._policy.followers.unused(name)
            able = [server for server in self._policy.servers if server.out_reason is None]
            await each(able, lambda server, name=name: server.control.unload_adapter(name, limit_s=self._limit_s))
            await in_daemon_thread(lambda path=path: shutil.rmtree(path, ignore_errors=True))

    async def _repair(self, server: VllmServer) -> bool:
        try:
            for name, path in list(self._loaded.items())[-1:]:
                await self._load(server, name, path)
        except PolicyError as error:
            server.take_out(f"it was restarted and does not load the adapter: {error}", lacks_weights=True)
            return False
        return bool(self._loaded)
