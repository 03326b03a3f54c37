"""The control plane of updates: gives servers new weights while agents keep requesting responses.

    begin ──> no new requests, those in flight end ──> /pause ──> /start_weight_update ──> /update_weights ──> end
          ──> /finish_weight_update (label) ──> /resume ──> requests continue, stamped with the new version

A server that fails to load an update is out of rotation until it has loaded it. If all servers fail, all continue with
the old weights and `PolicyError` is raised; if the failed update may have left a mixture of weights, the servers stay
paused. Adapters are loaded during generation, each under its own name, and a request names the adapter that answers it.
The tensors come from the data plane (`sender`). Importable without torch.
"""

import asyncio
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from swe_aem.core.blocking import in_daemon_thread
from swe_aem.errors import PolicyError, UserError
from swe_aem.policy import ServedModel, VllmPolicy, VllmServer
from swe_aem.runlog import tell
from swe_aem.serve.planes import Parcel


class _Update:
    """An update between `begin` and `end`."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.receiving: asyncio.Future[None] = loop.create_future()
        """Done when the servers receive."""
        self.sent: asyncio.Future[str | None] = loop.create_future()
        """What `end` is given."""
        self.work: asyncio.Task[None] | None = None


class WeightSync:
    """Gives servers whole weights (`planes.AsyncControlPlane`)."""

    def __init__(self, policy: VllmPolicy, *, limit_s: float = 1800.0) -> None:
        """`limit_s` bounds each call to an endpoint that takes longer for larger models, and the time that servers wait
        for the tensors of an update."""
        self._policy = policy
        self._limit_s = limit_s
        self._latest: Parcel | None = None
        self._update: _Update | None = None

    @property
    def version(self) -> int | None:
        """Version of the weights that this sync has brought to the servers; None before the first."""
        return None if self._latest is None else self._latest.version

    async def open(self) -> None:
        """Raises `UserError` if a server was not started for updates."""
        try:
            for server in self._policy.servers:
                if (await server.control.served_model()).weights is None:
                    raise UserError(
                        f"{server.url} has no endpoints for new weights: start it with `swe-aem serve`, or "
                        "`vllm serve` with VLLM_SERVER_DEV_MODE=1 and --weight-transfer-config"
                    )
        except PolicyError as error:
            raise _other_way(error) from error
        self._policy.repair = self._repair

    async def close(self) -> None:
        """Give up an update that has not ended; the servers keep their weights."""
        self._policy.repair = None
        if self._update is not None and self._update.work is not None:
            self._update.work.cancel()
            with suppress(asyncio.CancelledError, PolicyError):
                await self._update.work

    async def world_sizes(self) -> tuple[int, ...]:
        """Worker processes of each server; the method of `ControlPlane`."""
        try:
            return tuple(await asyncio.gather(*(server.control.world_size() for server in self._policy.servers)))
        except PolicyError as error:
            raise _other_way(error) from error

    async def join(self, init_infos: Sequence[dict[str, Any]]) -> None:
        """Have servers join the trainer's group; the method of `ControlPlane`."""
        joining = [
            server.control.post("/init_weight_transfer_engine", {"init_info": info}, limit_s=self._limit_s)
            for server, info in zip(self._policy.servers, init_infos, strict=True)
        ]
        try:
            await asyncio.gather(*joining)
        except PolicyError as error:
            raise _other_way(error) from error

    async def begin(self, parcel: Parcel) -> None:
        """Have servers receive a parcel; the method of `ControlPlane`. Requests wait from now on until `end`."""
        assert self._update is None, "an update has not ended"
        update = self._update = _Update()
        update.work = asyncio.create_task(self._switched(parcel, update))
        await asyncio.wait((update.work, update.receiving), return_when=asyncio.FIRST_COMPLETED)
        if not update.receiving.done():
            self._update = None
            await update.work

    async def end(self, failure: str | None) -> None:
        """Have requests continue; the method of `ControlPlane`."""
        assert self._update is not None, "no update has begun"
        update, self._update = self._update, None
        assert update.work is not None
        if not update.sent.done():
            update.sent.set_result(failure)
        await update.work

    async def _switched(self, parcel: Parcel, update: _Update) -> None:
        if not parcel.again:
            await self._policy.wait_all_in_rotation()
        async with self._policy.switch() as servers:
            self._require_all(servers, parcel)
            failed = await self._deliver(servers, parcel, update)
            if len(failed) == len(servers):
                self._refuse(failed, parcel)
            self._latest = parcel
            self._note(failed, parcel)

    def _require_all(self, servers: Sequence[VllmServer], parcel: Parcel) -> None:
        """Raise `PolicyError` if a server is missing from a broadcast, which waits for every rank of its group."""
        missing = [server for server in self._policy.servers if server not in servers]
        if missing and not parcel.again:
            why = "; ".join(f"{server.url}: {server.out_reason}" for server in missing)
            raise PolicyError(f"the broadcast needs every server; all continue with the old weights: {why}")

    async def _deliver(
        self, servers: Sequence[VllmServer], parcel: Parcel, update: _Update
    ) -> dict[VllmServer, BaseException]:
        """Have servers receive a parcel, and return those that failed to load it with their errors."""
        try:
            await self._each(servers, "/pause", query={"mode": "wait"})
            await self._each(servers, "/start_weight_update")
        except PolicyError as error:
            await self._each(servers, "/resume", tolerant=True)
            raise PolicyError(
                f"the update was not begun; all servers continue with the old weights: {error}"
            ) from error
        receiving = [asyncio.create_task(self._receive(server, parcel)) for server in servers]
        update.receiving.set_result(None)
        broken = await self._sent(update)
        received = await asyncio.gather(*receiving, return_exceptions=True)
        failed = {server: one for server, one in zip(servers, received, strict=True) if one is not None}
        if broken is not None:
            failed = {server: failed.get(server, broken) for server in servers}
        whole = [server for server in servers if server not in failed or parcel.atomic]
        await self._each(whole, "/resume", tolerant=True)
        return failed

    async def _sent(self, update: _Update) -> PolicyError | None:
        """What went wrong with sending, if anything did."""
        try:
            async with asyncio.timeout(self._limit_s):
                failure = await update.sent
        except TimeoutError:
            return PolicyError(f"sending the weights took more than {self._limit_s:g} s")
        return None if failure is None else PolicyError(failure)

    async def _receive(self, server: VllmServer, parcel: Parcel) -> None:
        await server.control.post("/update_weights", {"update_info": parcel.update_info}, limit_s=self._limit_s)
        await server.control.post("/finish_weight_update", {"weight_version": parcel.label}, limit_s=self._limit_s)

    def _note(self, failed: Mapping[VllmServer, BaseException], parcel: Parcel) -> None:
        for server in self._policy.servers:
            expected = server.expected.model_copy(update={"weights": parcel.label})
            server.expect(expected, version=parcel.version, name=self._policy.name)
        for server, error in failed.items():
            server.suspect(f"it did not load version {parcel.version}: {error}")
            tell(f"{server.url} is out of rotation: {server.out_reason}")

    def _refuse(self, failed: Mapping[VllmServer, BaseException], parcel: Parcel) -> None:
        why = "; ".join(f"{server.url}: {error}" for server, error in failed.items())
        if parcel.atomic:
            raise PolicyError(f"no server loaded the new weights; all continue with the old ones: {why}")
        raise PolicyError(
            f"the update failed and servers may hold a mixture of weights: restart the servers, then this run. {why}"
        )

    async def _repair(self, server: VllmServer) -> bool:
        """Send the latest weights to a restarted server; false if that fails or they cannot be sent again."""
        parcel = self._latest
        if parcel is None or not parcel.again:
            return False
        try:
            await self._each([server], "/pause", query={"mode": "wait"})
            await self._each([server], "/start_weight_update")
            await self._receive(server, parcel)
            await self._each([server], "/resume")
        except PolicyError as error:
            server.take_out(f"it was restarted and does not load version {parcel.version}: {error}")
            return False
        return True

    async def _each(
        self, servers: Sequence[VllmServer], path: str, *, query: dict[str, str] | None = None, tolerant: bool = False
    ) -> None:
        posts = (server.control.post(path, limit_s=self._limit_s, query=query) for server in servers)
        for result in await asyncio.gather(*posts, return_exceptions=True):
            if isinstance(result, BaseException) and not tolerant:
                raise result


def _other_way(error: PolicyError) -> UserError:
    return UserError(f"servers cannot take weights this way (was --sync the same?): {error}")


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
        """Load the adapter on every server, then let requests name it. Raises `PolicyError` if a server fails to load
        it; requests then continue with the previous adapter."""
        assert self._begun is not None, "no update has begun"
        parcel, self._begun = self._begun, None
        name = f"{self._policy.name}-{parcel.label}"
        await self._unload(keep=1)
        async with self._policy.between_checks():
            path = parcel.update_info["lora_path"]
            servers = [server for server in self._policy.servers if server.out_reason is None]
            await asyncio.gather(*(self._load(server, name, path) for server in servers))
            self._loaded[name] = path
            for server in self._policy.servers:
                base = self._base[server]
                expected = base.model_copy(update={"names": (*base.names, name)})
                server.expect(expected, version=parcel.version, name=name)
        self.version = parcel.version

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
                if server.out_reason is None:
                    await server.control.unload_adapter(name, limit_s=self._limit_s)
            await in_daemon_thread(lambda path=path: shutil.rmtree(path, ignore_errors=True))

    async def _repair(self, server: VllmServer) -> bool:
        try:
            for name, path in list(self._loaded.items())[-1:]:
                await self._load(server, name, path)
        except PolicyError as error:
            server.take_out(f"it was restarted and does not load the adapter: {error}")
            return False
        return bool(self._loaded)
