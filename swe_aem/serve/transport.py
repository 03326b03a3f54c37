"""How a trainer's weights travel to servers. What drives an update is the same for all, and in `serve.sync`.

    FileTransport   one file; survives a server's restart, for it is read again
    GlooTransport   a broadcast over TCP between host memories
    NcclTransport   a broadcast between GPUs, by vLLM's own sender

Needs torch.
"""

import asyncio
import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

import torch

from swe_aem.errors import PolicyError, UserError
from swe_aem.policy.vllm_control import ServerControl
from swe_aem.serve.own_directory import OwnDirectory

Weights = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class Parcel:
    """One update, ready to go."""

    label: str
    """What servers call these weights: unlike any that another trainer or an earlier run gave them."""
    version: int
    update_info: dict[str, Any]
    """What servers are told of it."""
    tensors: list[torch.Tensor] = field(default_factory=list)
    """What is broadcast, in the order announced; nothing if servers fetch it themselves."""


class Transport(Protocol):
    """One way to servers."""

    atomic: bool
    """Does an update that fails leave a server's old weights whole?"""
    again: bool
    """Can a parcel be delivered a second time, to a server that was restarted?"""

    async def open(self, controls: Sequence[ServerControl], limit_s: float) -> None:
        """Introduce the servers to the trainer; raises `PolicyError` if they cannot be."""
        ...

    async def prepare(self, weights: Weights, version: int, label: str) -> Parcel:
        """All that can be done before servers stop generating."""
        ...

    async def transmit(self, parcel: Parcel) -> None:
        """Send, while the servers receive."""
        ...

    def settled(self, parcel: Parcel, *, delivered: bool) -> None:
        """Tidy up behind an update."""
        ...

    def close(self) -> None:
        """Tidy up behind the last one; idempotent."""
        ...


def sent(weights: Weights, dtype: str | None) -> dict[str, torch.Tensor]:
    """The tensors to send, contiguous: of tied ones the first, in `dtype` if one is given."""
    wanted = None if dtype is None else getattr(torch, dtype)
    found: dict[str, torch.Tensor] = {}
    seen: set[tuple[int, torch.Size]] = set()
    for name, tensor in weights.items():
        identity = (tensor.data_ptr(), tensor.shape)
        if identity not in seen:
            seen.add(identity)
            found[name] = tensor.detach().to(dtype=wanted).contiguous()
    return found


async def in_daemon_thread(work: Callable[[], Any]) -> Any:
    """The result of work that may block for ever, in a thread that keeps no process from ending."""
    result: Future[Any] = Future()
    result.set_running_or_notify_cancel()

    def run() -> None:
        try:
            result.set_result(work())
        except Exception as error:
            result.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return await asyncio.wrap_future(result)


class FileTransport:
    """A file in a directory that trainer and servers see under one path: one host, its /dev/shm, or shared storage."""

    atomic = True
    again = True

    def __init__(self, directory: Path, dtype: str | None = None) -> None:
        self._directory = directory.resolve()
        self._dtype = dtype
        self._own: OwnDirectory | None = None

    async def open(self, controls: Sequence[ServerControl], limit_s: float) -> None:
        """Nothing but a place of its own in the directory."""
        self._own = self._own or OwnDirectory(self._directory)

    async def prepare(self, weights: Weights, version: int, label: str) -> Parcel:
        """Write the file, under its name only when it is whole."""
        from safetensors.torch import save_file

        assert self._own is not None
        path = self._own.path / f"{label}.safetensors"
        tensors = sent(weights, self._dtype)
        needed = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
        free = shutil.disk_usage(self._directory).free
        if needed > free:
            raise PolicyError(
                f"{self._directory} has {free / 1e9:.1f} GB free and these weights, which lie beside the old ones, "
                f"take {needed / 1e9:.1f} GB: set servers.directory to a larger one"
            )

        def write() -> None:
            unfinished = path.with_suffix(".part")
            save_file(tensors, unfinished)
            unfinished.rename(path)

        await asyncio.to_thread(write)
        return Parcel(label, version, {"path": str(path)})

    async def transmit(self, parcel: Parcel) -> None:
        """Servers fetch it."""

    def settled(self, parcel: Parcel, *, delivered: bool) -> None:
        """Keep the file that servers hold, for one that is restarted, and no other."""
        assert self._own is not None
        kept = Path(parcel.update_info["path"])
        for path in self._own.path.glob("*"):
            if (path == kept) != delivered:
                path.unlink(missing_ok=True)

    def close(self) -> None:
        """Remove the last file too."""
        if self._own is not None:
            self._own.close()


class _Broadcast:
    """What the two broadcasts share: one group of the trainer, rank 0, and all workers of all servers."""

    again = False

    def __init__(self, host: str, dtype: str | None = None) -> None:
        """`host` is the trainer's address as servers see it."""
        self._host = host
        self._dtype = dtype

    async def prepare(self, weights: Weights, version: int, label: str) -> Parcel:
        """Only the announcement."""
        tensors = sent(weights, self._dtype)
        info = {
            "names": list(tensors),
            "dtype_names": [str(tensor.dtype).removeprefix("torch.") for tensor in tensors.values()],
            "shapes": [list(tensor.shape) for tensor in tensors.values()],
        }
        return Parcel(label, version, info, list(tensors.values()))

    def settled(self, parcel: Parcel, *, delivered: bool) -> None:
        """Nothing is left behind."""

    def close(self) -> None:
        """Nothing is left behind."""

    async def _join(self, controls: Sequence[ServerControl], limit_s: float, join: Any, info: dict[str, Any]) -> Any:
        """Join the group here, with `join(world size)` in a thread, and on all servers at once."""
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
    """Between host memories; needs neither GPUs nor a file system that both see."""

    atomic = True

    async def open(self, controls: Sequence[ServerControl], limit_s: float) -> None:
        """See `Transport`."""
        from torch.distributed import ProcessGroupGloo, TCPStore  # pyright: ignore[reportPrivateImportUsage]

        limit = timedelta(seconds=limit_s)
        store = TCPStore(self._host, 0, is_master=True, timeout=limit, wait_for_workers=False)
        info = {"host": self._host, "port": store.port, "limit_s": limit_s}
        self._group: Any = await self._join(
            controls, limit_s, lambda world: ProcessGroupGloo(store, 0, world, limit), info
        )

    async def transmit(self, parcel: Parcel) -> None:
        """See `Transport`."""
        from torch.distributed import BroadcastOptions  # pyright: ignore[reportPrivateImportUsage]

        def send() -> None:
            options = BroadcastOptions()
            options.rootRank = 0
            for tensor in parcel.tensors:
                self._group.broadcast([tensor.cpu()], options).wait()

        await in_daemon_thread(send)


class NcclTransport(_Broadcast):
    """Between GPUs, by vLLM's own sender, which needs vLLM in the trainer's environment."""

    atomic = False

    async def open(self, controls: Sequence[ServerControl], limit_s: float) -> None:
        """See `Transport`. Raises `UserError` if there is no vLLM or no GPU here."""
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

    async def transmit(self, parcel: Parcel) -> None:
        """See `Transport`."""
        from vllm.distributed.weight_transfer.packed_tensor import (  # pyright: ignore[reportMissingImports]
            packed_nccl_broadcast_producer,
        )

        def send() -> None:
            packed_nccl_broadcast_producer(
                iterator=iter(zip(parcel.update_info["names"], parcel.tensors, strict=True)),
                group=self._group,
                src=0,
                post_iter_func=lambda item: item[1].cuda(),
            )

        await in_daemon_thread(send)
