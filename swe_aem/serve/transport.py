"""Transports: ways to send a trainer's weights to servers. `serve.sync` drives an update, with any of them.

    FileTransport   one file, which a restarted server reads again
    GlooTransport   a broadcast over TCP between host memories
    NcclTransport   a broadcast between GPUs, by vLLM's own sender

Casting, writing and sending take a minute for a large model, in which agents, clocks and health checks must run on. So
all methods of a transport but `open` are plain functions that block, and `serve.sync` calls them in a thread. Needs
torch.
"""

import asyncio
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

import torch

from swe_aem.core.blocking import in_daemon_thread
from swe_aem.errors import PolicyError, UserError
from swe_aem.policy import ServerControl
from swe_aem.serve.own_directory import OwnDirectory

Weights = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class Parcel:
    """One update, ready to be sent."""

    label: str
    """The servers' label of these weights, different from every label of another trainer or an earlier run."""
    version: int
    update_info: dict[str, Any]
    """The body of the servers' update endpoint."""
    tensors: list[torch.Tensor] = field(default_factory=list)
    """The tensors to broadcast, in the announced order; empty if servers read a file."""


class Transport(Protocol):
    """A way to send weights to servers. Whatever is no coroutine is called in a thread, one call at a time."""

    atomic: bool
    """True if a failed update leaves a server's old weights unchanged."""
    again: bool
    """True if a parcel can be sent a second time, to a restarted server."""

    async def open(self, controls: Sequence[ServerControl], limit_s: float) -> None:
        """Connect trainer and servers; raises `PolicyError` if that fails."""
        ...

    def prepare(self, weights: Weights, version: int, label: str) -> Parcel:
        """Do everything that can be done before servers stop generating; `weights` are not read later."""
        ...

    def transmit(self, parcel: Parcel) -> None:
        """Send the tensors, while the servers receive them."""
        ...

    def settled(self, parcel: Parcel, *, delivered: bool) -> None:
        """Clean up after an update; `delivered` says whether at least one server has loaded it."""
        ...

    def close(self) -> None:
        """Clean up after the last update; idempotent."""
        ...


def sent(weights: Weights, dtype: str | None) -> dict[str, torch.Tensor]:
    """The tensors to send: contiguous, only the first of tied tensors, and in `dtype` if it is given."""
    wanted = None if dtype is None else getattr(torch, dtype)
    found: dict[str, torch.Tensor] = {}
    seen: set[tuple[int, torch.Size]] = set()
    for name, tensor in weights.items():
        identity = (tensor.data_ptr(), tensor.shape)
        if identity not in seen:
            seen.add(identity)
            found[name] = tensor.detach().to(dtype=wanted).contiguous()
    return found


class FileTransport:
    """A file in a directory that trainer and servers see under one path: one host, its /dev/shm, or shared storage."""

    atomic = True
    again = True

    def __init__(self, directory: Path, dtype: str | None = None) -> None:
        self._directory = directory.resolve()
        self._dtype = dtype
        self._own: OwnDirectory | None = None

    async def open(self, controls: Sequence[ServerControl], limit_s: float) -> None:
        """Make a subdirectory for this process, and remove those that killed processes left."""
        self._own = self._own or await in_daemon_thread(lambda: OwnDirectory(self._directory))

    def prepare(self, weights: Weights, version: int, label: str) -> Parcel:
        """Write the file; it gets its final name once it is complete."""
        from safetensors.torch import save_file

        assert self._own is not None
        path = self._own.path / f"{label}.safetensors"
        tensors = sent(weights, self._dtype)
        needed = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
        free = shutil.disk_usage(self._directory).free
        if needed > free:
            raise PolicyError(
                f"{self._directory} has {free / 1e9:.1f} GB free and these weights, stored beside the old ones, "
                f"take {needed / 1e9:.1f} GB: set servers.directory to a larger one"
            )
        unfinished = path.with_suffix(".part")
        save_file(tensors, unfinished)
        unfinished.rename(path)
        return Parcel(label, version, {"path": str(path)})

    def transmit(self, parcel: Parcel) -> None:
        """Nothing to send: the servers read the file."""

    def settled(self, parcel: Parcel, *, delivered: bool) -> None:
        """Keep only the file that the servers have loaded, for a server that restarts."""
        assert self._own is not None
        kept = Path(parcel.update_info["path"])
        for path in self._own.path.glob("*"):
            if (path == kept) != delivered:
                path.unlink(missing_ok=True)

    def close(self) -> None:
        """Remove the last file and the subdirectory."""
        if self._own is not None:
            self._own.close()


class _Broadcast:
    """The common part of the two broadcasts: a group of the trainer, which is rank 0, and all workers of all
    servers."""

    again = False

    def __init__(self, host: str, dtype: str | None = None) -> None:
        """`host` is the trainer's address as servers see it."""
        self._host = host
        self._dtype = dtype

    def prepare(self, weights: Weights, version: int, label: str) -> Parcel:
        """Cast and describe the tensors; nothing is sent before `transmit`."""
        tensors = sent(weights, self._dtype)
        info = {
            "names": list(tensors),
            "dtype_names": [str(tensor.dtype).removeprefix("torch.") for tensor in tensors.values()],
            "shapes": [list(tensor.shape) for tensor in tensors.values()],
        }
        return Parcel(label, version, info, list(tensors.values()))

    def settled(self, parcel: Parcel, *, delivered: bool) -> None:
        """Nothing to clean up."""

    def close(self) -> None:
        """Nothing to clean up."""

    async def _join(self, controls: Sequence[ServerControl], limit_s: float, join: Any, info: dict[str, Any]) -> Any:
        """Join the group here, by `join(world size)` in a thread, and on all servers at the same time."""
        sizes = await asyncio.gather(*(control.world_size() for control in controls))
        world = 1 + sum(sizes)
        offsets = [1 + sum(sizes[:n]) for n in range(len(sizes))]
        here = asyncio.create_task(in_daemon_thread(lambda: join(world)))
        there = [
            control.post(
                "/init_weight_transfer_engine",
                {"init_info": {**info, "rank_offset": offset, "world_size": world}},
                limit_s=limit_s,
            )
            for control, offset in zip(controls, offsets, strict=True)
        ]
        await asyncio.gather(*there)
        return await here


class GlooTransport(_Broadcast):
    """A broadcast between host memories, which needs neither GPUs nor a shared file system."""

    atomic = True

    async def open(self, controls: Sequence[ServerControl], limit_s: float) -> None:
        """Join the group."""
        from torch.distributed import ProcessGroupGloo, TCPStore  # pyright: ignore[reportPrivateImportUsage]

        limit = timedelta(seconds=limit_s)
        store = TCPStore(self._host, 0, is_master=True, timeout=limit, wait_for_workers=False)
        info = {"host": self._host, "port": store.port, "limit_s": limit_s}
        self._group: Any = await self._join(
            controls, limit_s, lambda world: ProcessGroupGloo(store, 0, world, limit), info
        )

    def transmit(self, parcel: Parcel) -> None:
        """Broadcast the tensors, each in one piece."""
        from torch.distributed import BroadcastOptions  # pyright: ignore[reportPrivateImportUsage]

        options = BroadcastOptions()
        options.rootRank = 0
        for tensor in parcel.tensors:
            self._group.broadcast([tensor.cpu()], options).wait()


class NcclTransport(_Broadcast):
    """A broadcast between GPUs by vLLM's own code, which needs vLLM in the trainer's environment."""

    atomic = False

    async def open(self, controls: Sequence[ServerControl], limit_s: float) -> None:
        """Join the group. Raises `UserError` if vLLM or a GPU is missing here."""
        try:
            from vllm.distributed.weight_transfer.nccl_common import (  # pyright: ignore[reportMissingImports]
                trainer_init,
            )
            from vllm.utils.network_utils import get_open_port  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise UserError(
                "servers.sync nccl sends with vLLM's own code: install the servers' version of vllm where the trainer "
                "runs, or set servers.sync to file"
            ) from error
        if not torch.cuda.is_available():
            raise UserError("servers.sync nccl needs a GPU on the trainer's side: set servers.sync to file")
        info = {"master_address": self._host, "master_port": get_open_port(), "packed": True}
        self._group: Any = await self._join(
            controls,
            limit_s,
            lambda world: trainer_init({**info, "rank_offset": 1, "world_size": world}),
            info,
        )

    def transmit(self, parcel: Parcel) -> None:
        """Broadcast the tensors, packed."""
        from vllm.distributed.weight_transfer.packed_tensor import (  # pyright: ignore[reportMissingImports]
            packed_nccl_broadcast_producer,
        )

        packed_nccl_broadcast_producer(
            iterator=iter(zip(parcel.update_info["names"], parcel.tensors, strict=True)),
            group=self._group,
            src=0,
            post_iter_func=lambda item: item[1].cuda(),
        )
