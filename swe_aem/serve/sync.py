"""Sends new weights to running servers while agents keep requesting responses.

    prepare ──> no new requests, those in flight end ──> /pause ──> /start_weight_update ──> /update_weights
            ──> /finish_weight_update (label) ──> /resume ──> requests continue, stamped with the new version

A server that fails to load an update is out of rotation until it has loaded it. If all servers fail, all continue with
the old weights and `PolicyError` is raised; if the failed update may have left a mixture of weights, the servers stay
paused. Adapters are loaded during generation, each under its own name, and a request names the adapter that answers it.
"""

import asyncio
import json
import re
import shutil
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from swe_aem.core.blocking import in_daemon_thread
from swe_aem.errors import PolicyError, UserError
from swe_aem.policy import ServedModel, VllmPolicy, VllmServer
from swe_aem.runlog import tell
from swe_aem.serve.transport import Parcel, Transport, Weights


class WeightSync:
    """Sends whole weights by a transport."""

    def __init__(self, policy: VllmPolicy, transport: Transport, *, limit_s: float = 1800.0) -> None:
        """`limit_s` bounds each call to an endpoint that takes longer for larger models."""
        self._policy = policy
        self._transport = transport
        self._limit_s = limit_s
        self._tag = uuid.uuid4().hex[:8]
        self._latest: Parcel | None = None

    @property
    def version(self) -> int | None:
        """Version of the weights that this sync has brought to the servers; None before the first."""
        return None if self._latest is None else self._latest.version

    async def open(self) -> None:
        """Connect trainer and servers. Raises `UserError` if a server was not started for this sync."""
        try:
            await self._transport.open([server.control for server in self._policy.servers], self._limit_s)
            for server in self._policy.servers:
                if (await server.control.served_model()).weights is None:
                    raise UserError(
                        f"{server.url} has no endpoints for new weights: start it with `swe-aem serve`, or "
                        "`vllm serve` with VLLM_SERVER_DEV_MODE=1 and --weight-transfer-config"
                    )
        except PolicyError as error:
            raise UserError(f"servers cannot take weights this way (was --sync the same?): {error}") from error
        if self._transport.again:
            self._policy.repair = self._repair

    def close(self) -> None:
        """Close the transport; the servers keep their weights."""
        self._policy.repair = None
        self._transport.close()

    async def update(self, weights: Weights, version: int) -> None:
        """Send the weights of a state dict, under Hugging Face's names, to every server in rotation; they are read
        before this returns. Raises `PolicyError` if no server has loaded them."""
        label = f"{self._tag}.{version}"
        parcel = await in_daemon_thread(lambda: self._transport.prepare(weights, version, label))
        delivered = False
        try:
            if not self._transport.again:
                await self._policy.wait_all_in_rotation()
            async with self._policy.switch() as servers:
                self._require_all(servers)
                failed = await self._deliver(servers, parcel)
                delivered = len(failed) < len(servers)
                if delivered:
                    self._latest = parcel
                    self._note(failed, parcel)
                else:
                    self._refuse(failed)
        finally:
            await in_daemon_thread(lambda: self._transport.settled(parcel, delivered=delivered))

    def _require_all(self, servers: Sequence[VllmServer]) -> None:
        """Raise `PolicyError` if a server is missing from a broadcast, which waits for every rank of its group."""
        missing = [server for server in self._policy.servers if server not in servers]
        if missing and not self._transport.again:
            why = "; ".join(f"{server.url}: {server.out_reason}" for server in missing)
            raise PolicyError(f"the broadcast needs every server; all continue with the old weights: {why}")

    async def _deliver(self, servers: Sequence[VllmServer], parcel: Parcel) -> dict[VllmServer, BaseException]:
        """Send a parcel, and return the servers that failed to load it with their errors."""
        try:
            await self._each(servers, "/pause", query={"mode": "wait"})
            await self._each(servers, "/start_weight_update")
        except PolicyError as error:
            await self._each(servers, "/resume", tolerant=True)
            raise PolicyError(
                f"the update was not begun; all servers continue with the old weights: {error}"
            ) from error
        *received, broken = await asyncio.gather(
            *(self._receive(server, parcel) for server in servers), self._transmit(parcel), return_exceptions=True
        )
        failed = {server: one for server, one in zip(servers, received, strict=True) if one is not None}
        if broken is not None:
            failed = {server: failed.get(server, broken) for server in servers}
        whole = [server for server in servers if server not in failed or self._transport.atomic]
        await self._each(whole, "/resume", tolerant=True)
        return failed

    async def _receive(self, server: VllmServer, parcel: Parcel) -> None:
        await server.control.post("/update_weights", {"update_info": parcel.update_info}, limit_s=self._limit_s)
        await server.control.post("/finish_weight_update", {"weight_version": parcel.label}, limit_s=self._limit_s)

    async def _transmit(self, parcel: Parcel) -> None:
        try:
            async with asyncio.timeout(self._limit_s):
                await in_daemon_thread(lambda: self._transport.transmit(parcel))
        except TimeoutError as error:
            raise PolicyError(f"sending the weights took more than {self._limit_s:g} s") from error
        except RuntimeError as error:
            raise PolicyError(f"sending the weights failed: {error}") from error

    def _note(self, failed: Mapping[VllmServer, BaseException], parcel: Parcel) -> None:
        for server in self._policy.servers:
            expected = server.expected.model_copy(update={"weights": parcel.label})
            server.expect(expected, version=parcel.version, name=self._policy.name)
        for server, error in failed.items():
            server.suspect(f"it did not load version {parcel.version}: {error}")
            tell(f"{server.url} is out of rotation: {server.out_reason}")

    def _refuse(self, failed: Mapping[VllmServer, BaseException]) -> None:
        why = "; ".join(f"{server.url}: {error}" for server, error in failed.items())
        if self._transport.atomic:
            raise PolicyError(f"no server loaded the new weights; all continue with the old ones: {why}")
        raise PolicyError(
            f"the update failed and servers may hold a mixture of weights: restart the servers, then this run. {why}"
        )

    async def _repair(self, server: VllmServer) -> bool:
        """Send the latest weights to a restarted server; false if that fails."""
        parcel = self._latest
        if parcel is None:
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


class AdapterSync:
    """Sends a LoRA adapter as a directory that trainer and servers see, under a name that holds its version."""

    def __init__(self, policy: VllmPolicy, directory: Path, adapter: Any, *, limit_s: float = 300.0) -> None:
        """`adapter` is the `peft` configuration."""
        self._policy = policy
        self._directory = directory.resolve()
        self._adapter = adapter
        self._limit_s = limit_s
        self._tag = uuid.uuid4().hex[:8]
        self._base: dict[VllmServer, ServedModel] = {}
        self._loaded: list[str] = []
        self.version: int | None = None
        """Version of the adapter that this sync has brought to the servers; None before the first."""

    async def open(self) -> None:
        """Make the directory, and note what the servers serve without adapters."""
        self._directory.mkdir(parents=True, exist_ok=True)
        for server in self._policy.servers:
            self._base[server] = server.expected
        self._policy.repair = self._repair

    def close(self) -> None:
        """Stop repairing restarted servers; servers and adapters stay as they are."""
        self._policy.repair = None

    async def update(self, weights: Weights, version: int) -> None:
        """Load the adapter in a state dict of a `peft` model on every server, then let requests name it. Raises
        `PolicyError` if a server fails to load it; requests then continue with the previous adapter."""
        name = f"{self._policy.name}-{self._tag}-v{version}"
        path = self._directory / name
        await in_daemon_thread(lambda: self._save(weights, path))
        await self._unload(keep=1)
        async with self._policy.between_checks():
            servers = [server for server in self._policy.servers if server.out_reason is None]
            await asyncio.gather(*(self._load(server, name) for server in servers))
            if name not in self._loaded:
                self._loaded.append(name)
            for server in self._policy.servers:
                base = self._base[server]
                expected = base.model_copy(update={"names": (*base.names, name)})
                server.expect(expected, version=version, name=name)
        self.version = version

    async def _load(self, server: VllmServer, name: str) -> None:
        body = {"lora_name": name, "lora_path": str(self._directory / name), "load_inplace": True}
        await server.control.post("/v1/load_lora_adapter", body, limit_s=self._limit_s)

    async def _unload(self, keep: int) -> None:
        """Unload all but the latest `keep` adapters, each once no request in flight names it."""
        while len(self._loaded) > keep:
            name = self._loaded.pop(0)
            for server in self._policy.servers:
                await server.wait_unused(name)
                if server.out_reason is None:
                    await server.control.unload_adapter(name, limit_s=self._limit_s)
            await in_daemon_thread(lambda name=name: shutil.rmtree(self._directory / name, ignore_errors=True))

    async def _repair(self, server: VllmServer) -> bool:
        try:
            for name in self._loaded[-1:]:
                await self._load(server, name)
        except PolicyError as error:
            server.take_out(f"it was restarted and does not load the adapter: {error}")
            return False
        return bool(self._loaded)

    def _save(self, weights: Weights, path: Path) -> None:
        from safetensors.torch import save_file

        tensors = {
            re.sub(r"\.default(\.|$)", r"\1", name): tensor.detach().float().contiguous().cpu()
            for name, tensor in weights.items()
            if "lora_" in name
        }
        if not tensors:
            raise UserError("servers.sync lora sends adapters, and the policy has none: set lora, or another sync")
        path.mkdir(parents=True, exist_ok=True)
        save_file(tensors, path / "adapter_model.safetensors")
        settings = self._adapter.to_dict()
        settings["inference_mode"] = True
        text = json.dumps(settings, default=lambda value: sorted(value) if isinstance(value, set) else str(value))
        (path / "adapter_config.json").write_text(text, encoding="utf-8")
