"""The label of the weights that a server has loaded from a model's directory, so that a trainer that begins with the
same files need not send them.

    swe-aem serve DIRECTORY     gives its server the label of DIRECTORY before it was loaded
    swe-aem train               compares it with the label of its own DIRECTORY

Two equal labels are of the same files, unchanged: it is made of their inodes, sizes and times of change. Importable
without torch.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

_EXACT = {
    "F32": {"float32"},
    "BF16": {"bfloat16", "float32"},
    "F16": {"float16", "float32"},
}
"""Data types that hold every number of a safetensors file's data type."""
_INTEGERS = frozenset({"I8", "I16", "I32", "I64", "U8", "BOOL"})


def starting_label(model: str) -> str | None:
    """The label of the weights in a directory as they are now; None if there are none in safetensors files."""
    weights = _weights(model)
    if not weights:
        return None
    known = [(str(path.resolve()), one.st_ino, one.st_size, one.st_mtime_ns) for path, one in weights]
    return f"start-{hashlib.sha256(json.dumps(known).encode()).hexdigest()[:16]}"


def label_of_sent(model: str, *, trained: str, sent: str) -> str | None:
    """The label of a server that holds what a trainer would send of untrained weights: they are trained in one data
    type and sent in another. None if a cast would change a number, or there is no such label."""
    label = starting_label(model)
    types = {one for path, _ in _weights(model) for one in _data_types(path)} - _INTEGERS
    exact = all({trained, sent} <= _EXACT.get(one, set()) for one in types)
    return label if exact else None


def _weights(model: str) -> list[tuple[Path, os.stat_result]]:
    return [(path, path.stat()) for path in sorted(Path(model).glob("*.safetensors"))]


def _data_types(path: Path) -> Iterator[str]:
    with path.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    for name, tensor in header.items():
        if name != "__metadata__":
            yield tensor["dtype"]
