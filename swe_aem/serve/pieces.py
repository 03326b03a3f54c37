"""Safetensors files of bounded size, written while their tensors come one by one.

The layout follows from names, shapes and types alone, so no more than a few tensors are ever held. A piece gets its
header when the last of its tensors is written: a piece that was interrupted cannot be read.
"""

import json
import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

PIECE_BYTES = 1 << 31
"""Bound of a piece; a larger tensor is a piece of its own."""
INDEX = "model.safetensors.index.json"
_WRITERS = 4
"""Tensors that are written at the same time."""
_TYPES = {
    "float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2", "int64": "I64", "int32": "I32", "int16": "I16", "int8": "I8", "uint8": "U8",
    "bool": "BOOL",
}  # fmt: skip


@dataclass(frozen=True)
class TensorInfo:
    """A tensor before it is there."""

    name: str
    dtype: str
    """Its data type as torch names it, without `torch.`"""
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Its size."""
        return torch.Size(self.shape).numel() * getattr(torch, self.dtype).itemsize

    @classmethod
    def of(cls, name: str, tensor: torch.Tensor, dtype: str | None = None) -> "TensorInfo":
        """What is known of a tensor that will be sent in `dtype`, or in its own."""
        return cls(name, dtype or str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape))


def grouped(tensors: Iterable[TensorInfo], most_bytes: int) -> Iterator[list[TensorInfo]]:
    """Consecutive tensors of at most `most_bytes` together, or a larger one alone."""
    group: list[TensorInfo] = []
    size = 0
    for one in tensors:
        if group and size + one.nbytes > most_bytes:
            yield group
            group, size = [], 0
        group.append(one)
        size += one.nbytes
    if group:
        yield group


def write_pieces(
    directory: Path,
    expected: Sequence[TensorInfo],
    tensors: Iterable[tuple[str, torch.Tensor]],
    *,
    piece_bytes: int = PIECE_BYTES,
) -> None:
    """Write tensors, which come in the order `expected`, as a Hugging Face checkpoint: model.safetensors, or numbered
    pieces and last their index. Raises `ValueError` if other tensors come."""
    pieces = list(grouped(expected, piece_bytes))
    names = [_piece_name(number, len(pieces)) for number in range(1, len(pieces) + 1)]
    coming = iter(tensors)
    with ThreadPoolExecutor(_WRITERS) as writers:
        for name, piece in zip(names, pieces, strict=True):
            _write_piece(directory / name, piece, coming, writers)
    if (more := next(coming, None)) is not None:
        raise ValueError(f"{more[0]} comes after the last of {len(expected)} tensors")
    if len(pieces) > 1:
        index = {
            "metadata": {"total_size": sum(one.nbytes for one in expected)},
            "weight_map": {one.name: name for name, piece in zip(names, pieces, strict=True) for one in piece},
        }
        unfinished = directory / f"{INDEX}.part"
        unfinished.write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
        unfinished.rename(directory / INDEX)


def _piece_name(number: int, count: int) -> str:
    return "model.safetensors" if count == 1 else f"model-{number:05}-of-{count:05}.safetensors"


def _write_piece(
    path: Path, piece: Sequence[TensorInfo], tensors: Iterator[tuple[str, torch.Tensor]], writers: ThreadPoolExecutor
) -> None:
    header = _header(piece)
    begun: deque[Future[None]] = deque()
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    try:
        place = len(header)
        for info in piece:
            name, tensor = next(tensors, ("", torch.empty(0)))
            if TensorInfo.of(name, tensor) != info:
                raise ValueError(f"{TensorInfo.of(name, tensor)} comes in the place of {info}")
            if len(begun) == _WRITERS:
                begun.popleft().result()
            begun.append(writers.submit(_write, file, tensor, place))
            place += info.nbytes
        for one in begun:
            one.result()
        os.pwrite(file, header, 0)
    finally:
        for one in begun:
            one.cancel()
            one.exception() if not one.cancelled() else None
        os.close(file)


def _header(piece: Sequence[TensorInfo]) -> bytes:
    """What a safetensors file begins with: the length of its header in 8 bytes, and the header as JSON."""
    entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    place = 0
    for one in piece:
        entries[one.name] = {
            "dtype": _TYPES[one.dtype],
            "shape": list(one.shape),
            "data_offsets": [place, place + one.nbytes],
        }
        place += one.nbytes
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _write(file: int, tensor: torch.Tensor, place: int) -> None:
    left = memoryview(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    while left:
        written = os.pwrite(file, left, place)
        left, place = left[written:], place + written
