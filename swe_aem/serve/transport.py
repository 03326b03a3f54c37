"""Transports: ways to send a trainer's weights to servers. `Sender` drives an update, with any of them.

    FileTransport      files, which a restarted server reads again
    GlooTransport      a broadcast over TCP between host memories
    NcclTransport      a broadcast between GPUs, by vLLM's own sender
    AdapterTransport   a LoRA adapter, in a directory that servers load under its name

All methods block. Needs torch.
"""

import json
import re
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

import torch

from swe_aem.core.blocking import begin_in_daemon_thread
from swe_aem.errors import PolicyError, UserError
from swe_aem.serve.handover import Named
from swe_aem.serve.own_directory import OwnDirectory
from swe_aem.serve.pieces import PIECE_BYTES, TensorInfo, grouped, write_pieces
from swe_aem.serve.planes import ControlPlane, Parcel

PACKED_BYTES = 1 << 28
"""Bound of the tensors that are packed into one broadcast of gloo."""
_UNFINISHED = ".part"


class Transport(Protocol):
    """A way to send weights to servers."""

    early: bool
    """True if everything is sent before the servers are told: generation need not wait for it."""

    def open(self, control: ControlPlane) -> None:
        """Connect trainer and servers, again after `leave`. Raises `UserError` if that fails, and `GroupChanged` if a
        server is lost meanwhile."""
        ...

    def leave(self) -> None:
        """Leave the group of a broadcast, so that servers that wait for tensors stop waiting; idempotent."""
        ...

    def announce(self, tensors: Sequence[TensorInfo], version: int, tag: str) -> Parcel:
        """The update that brings these tensors; `tag` is different for every trainer."""
        ...

    def transmit(self, parcel: Parcel, tensors: Iterator[Named]) -> None:
        """Send the tensors that were announced."""
        ...

    def settled(self, parcel: Parcel, *, delivered: bool) -> None:
        """Clean up after an update; `delivered` says whether at least one server has loaded it."""
        ...

    def close(self) -> None:
        """Clean up after the last update; idempotent."""
        ...


class FileTransport:
    """Files in a directory that trainer and servers see under one path: one host, its /dev/shm, or shared storage."""

    early = True

    def __init__(self, directory: Path, *, piece_bytes: int = PIECE_BYTES) -> None:
        """`piece_bytes` bounds one file."""
        self._directory = directory.resolve()
        self._piece_bytes = piece_bytes
        self._own: OwnDirectory | None = None
        self._announced: Sequence[TensorInfo] = ()

    def open(self, control: ControlPlane) -> None:
        """Make a subdirectory for this process, and remove those that killed processes left."""
        self._own = self._own or OwnDirectory(self._directory)

    def leave(self) -> None:
        """There is no group."""

    def announce(self, tensors: Sequence[TensorInfo], version: int, tag: str) -> Parcel:
        """Raises `PolicyError` if the files do not fit."""
        assert self._own is not None
        needed = sum(one.nbytes for one in tensors)
        free = shutil.disk_usage(self._directory).free
        if needed > free:
            raise PolicyError(
                f"{self._directory} has {free / 1e9:.1f} GB free and these weights, stored beside the old ones, "
                f"take {needed / 1e9:.1f} GB: set servers.directory to a larger one"
            )
        self._announced = tensors
        label = f"{tag}.{version}"
        return Parcel(label, version, {"path": str(self._own.path / label)}, atomic=True, again=True)

    def transmit(self, parcel: Parcel, tensors: Iterator[Named]) -> None:
        """Write the files; their directory gets its name once all are complete."""
        whole = Path(parcel.update_info["path"])
        unfinished = whole.with_name(whole.name + _UNFINISHED)
        for left in (whole, unfinished):
            shutil.rmtree(left, ignore_errors=True)
        unfinished.mkdir()
        write_pieces(unfinished, self._announced, tensors, piece_bytes=self._piece_bytes)
        unfinished.rename(whole)

    def settled(self, parcel: Parcel, *, delivered: bool) -> None:
        """Keep only the files that the servers have loaded, for a server that restarts."""
        assert self._own is not None
        latest = Path(parcel.update_info["path"])
        for path in self._own.path.iterdir():
            if (path.name.removesuffix(_UNFINISHED) == latest.name) != delivered:
                shutil.rmtree(path, ignore_errors=True)

    def close(self) -> None:
        """Remove the last files and the subdirectory."""
        if self._own is not None:
            self._own.close()


class _Broadcast:
    """The common part of the two broadcasts: a group of the trainer, which is rank 0, and all workers of all
    servers."""

    early = False

    def __init__(self, host: str, limit_s: float = 1800.0) -> None:
        """`host` is the trainer's address as servers see it; `limit_s` bounds joining, and one broadcast of gloo."""
        self._host = host
        self._limit_s = limit_s
        self._group: Any = None

    def leave(self) -> None:
        """Let go of the group. Over TCP its connections close, which servers that wait see at once."""
        self._group = None

    def settled(self, parcel: Parcel, *, delivered: bool) -> None:
        """Nothing to clean up."""

    def close(self) -> None:
        """Nothing to clean up."""

    def _join(self, control: ControlPlane, join: Any, info: dict[str, Any]) -> Any:
        """Join the group here, by `join(world size)` in a thread, and on all servers at the same time."""
        sizes = control.world_sizes()
        world = 1 + sum(sizes)
        here: Future[Any] = begin_in_daemon_thread(lambda: join(world))
        offsets = [1 + sum(sizes[:n]) for n in range(len(sizes))]
        control.join([{**info, "rank_offset": offset, "world_size": world} for offset in offsets])
        return here.result(self._limit_s)


def _announcement(tensors: Sequence[TensorInfo]) -> dict[str, Any]:
    """What receivers of a broadcast have to know."""
    return {
        "names": [one.name for one in tensors],
        "dtype_names": [one.dtype for one in tensors],
        "shapes": [list(one.shape) for one in tensors],
    }


class GlooTransport(_Broadcast):
    """A broadcast between host memories, which needs neither GPUs nor a shared file system."""

    def open(self, control: ControlPlane) -> None:
        """Join the group."""
        from torch.distributed import ProcessGroupGloo, TCPStore  # pyright: ignore[reportPrivateImportUsage]

        limit = timedelta(seconds=self._limit_s)
        store = TCPStore(self._host, 0, is_master=True, timeout=limit, wait_for_workers=False)
        info = {"host": self._host, "port": store.port, "limit_s": self._limit_s}
        self._group = self._join(control, lambda world: ProcessGroupGloo(store, 0, world, limit), info)

    def announce(self, tensors: Sequence[TensorInfo], version: int, tag: str) -> Parcel:
        """Says how many tensors each broadcast packs."""
        counts = [len(group) for group in grouped(tensors, PACKED_BYTES)]
        info = {**_announcement(tensors), "counts": counts}
        return Parcel(f"{tag}.{version}", version, info, atomic=True, again=False)

    def transmit(self, parcel: Parcel, tensors: Iterator[Named]) -> None:
        """Broadcast the tensors as they come, as many at a time as was said."""
        from torch.distributed import BroadcastOptions  # pyright: ignore[reportPrivateImportUsage]

        options = BroadcastOptions()
        options.rootRank = 0
        for count in parcel.update_info["counts"]:
            packed = torch.cat([_bytes(next(tensors)[1]) for _ in range(count)])
            self._group.broadcast([packed], options).wait()


def _bytes(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)


class NcclTransport(_Broadcast):
    """A broadcast between GPUs by vLLM's own code, which needs vLLM in the trainer's environment."""

    def open(self, control: ControlPlane) -> None:
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
        self._group = self._join(
            control, lambda world: trainer_init({**info, "rank_offset": 1, "world_size": world}), info
        )

    def announce(self, tensors: Sequence[TensorInfo], version: int, tag: str) -> Parcel:
        """Says what comes; vLLM packs it by sizes that both sides know."""
        return Parcel(f"{tag}.{version}", version, _announcement(tensors), atomic=False, again=False)

    def transmit(self, parcel: Parcel, tensors: Iterator[Named]) -> None:
        """Broadcast the tensors as they come, packed."""
        from vllm.distributed.weight_transfer.packed_tensor import (  # pyright: ignore[reportMissingImports]
            packed_nccl_broadcast_producer,
        )

        packed_nccl_broadcast_producer(
            iterator=tensors, group=self._group, src=0, post_iter_func=lambda named: named[1].cuda()
        )


class AdapterTransport:
    """A LoRA adapter as a directory that trainer and servers see."""

    early = True

    def __init__(self, directory: Path, adapter: Any) -> None:
        """`adapter` is the `peft` configuration."""
        self._directory = directory.resolve()
        self._adapter = adapter

    def open(self, control: ControlPlane) -> None:
        """Make the directory."""
        self._directory.mkdir(parents=True, exist_ok=True)

    def leave(self) -> None:
        """There is no group."""

    def announce(self, tensors: Sequence[TensorInfo], version: int, tag: str) -> Parcel:
        """The label is the name of the adapter's directory."""
        label = f"{tag}-v{version}"
        return Parcel(label, version, {"lora_path": str(self._directory / label)}, atomic=True, again=True)

    def transmit(self, parcel: Parcel, tensors: Iterator[Named]) -> None:
        """Write the adapter as peft does, in float32. Raises `UserError` if there is none."""
        from safetensors.torch import save_file

        weights = {
            re.sub(r"\.default(\.|$)", r"\1", name): tensor.detach().float().contiguous().cpu()
            for name, tensor in tensors
        }
        if not weights:
            raise UserError("servers.sync lora sends adapters, and the policy has none: set lora, or another sync")
        path = Path(parcel.update_info["lora_path"])
        path.mkdir(parents=True, exist_ok=True)
        save_file(weights, path / "adapter_model.safetensors")
        settings = self._adapter.to_dict()
        settings["inference_mode"] = True
        text = json.dumps(settings, default=lambda value: sorted(value) if isinstance(value, set) else str(value))
        (path / "adapter_config.json").write_text(text, encoding="utf-8")

    def settled(self, parcel: Parcel, *, delivered: bool) -> None:
        """Remove an adapter that no server has loaded; those that one has are removed once nobody asks for them."""
        if not delivered:
            shutil.rmtree(parcel.update_info["lora_path"], ignore_errors=True)

    def close(self) -> None:
        """The adapters stay."""
