"""Regional compilation: a model's layers compiled by torch, one kind of layer at a time, and what compiled so far.

Layers of one kind share one compiled function, so compiling takes the time of one layer, however many there are. The
function stands in place of the layer's own `forward`. What wraps a layer stays outside of it and uncompiled:
checkpointing, which transformers puts around `forward`, and the hooks of shards. No module is wrapped, so that names of
parameters do not change.

Importable without torch.
"""

import os
import shlex
import shutil
import sysconfig
from pathlib import Path
from typing import Any, Literal

from swe_aem.runlog import tell

Compile = Literal["none", "layers"]
LIMIT = 16
"""Most graphs of one kind of layer. Passes with and without gradients, with and without a mask, of one row and of
several each need one; lengths of rows do not."""


def compile_layers(model: Any) -> None:
    """Have torch compile each kind of decoder layer of a model at its first pass, for rows of any length."""
    import torch
    from transformers.modeling_layers import GradientCheckpointingLayer

    torch._dynamo.config.recompile_limit = max(LIMIT, torch._dynamo.config.recompile_limit)
    kinds: dict[type, type] = {}
    for layer in model.modules():
        if isinstance(layer, GradientCheckpointingLayer):
            kind = type(layer)
            if kind not in kinds:
                kinds[kind] = _compiled(kind)
            layer.__class__ = kinds[kind]


def _compiled(kind: type) -> type:
    """A layer's class with a compiled `forward`, under the same name, by which accelerate finds what it shards.
    transformers puts checkpointing around the `forward` of each class, the one that is made here too."""
    import torch

    plain = getattr(kind.forward, "__wrapped__", kind.forward)  # type: ignore[attr-defined]
    body = {"forward": torch.compile(plain, dynamic=True), "__module__": kind.__module__, "__doc__": kind.__doc__}
    return type(kind.__name__, (kind,), body)


class Compilations:
    """What torch has compiled in this process, between one look and the next."""

    def __init__(self) -> None:
        self._seen = self._counted()
        self._told = False

    def figures(self) -> dict[str, float]:
        """Metrics since the last call. Tells once where torch has given up, so that a layer runs uncompiled."""
        before, self._seen = self._seen, self._counted()
        if self._seen["limit_reached"] and not self._told:
            self._told = True
            tell(
                f"compile: layers have been compiled for {LIMIT} kinds of input, the limit, and run uncompiled for any "
                "other from now on; TORCH_LOGS=recompiles says why each was another kind"
            )
        return {f"compile/{name}": self._seen[name] - before[name] for name in ("graphs", "graph_breaks", "s")}

    @staticmethod
    def _counted() -> dict[str, float]:
        from torch._dynamo.utils import calculate_time_spent, counters

        return {
            "graphs": counters["stats"]["unique_graphs"],
            "graph_breaks": sum(counters["graph_break"].values()),
            "s": calculate_time_spent()["total_wall_time"],
            "limit_reached": sum("recompile limit exceeded" in reason for reason in counters["unimplemented"]),
        }


def missing_compiler(device: str) -> str | None:
    """What torch needs on this host to compile for a `device` of a configuration and does not find, with the fix; None
    if nothing is missing."""
    on_gpu = device == "cuda"
    named = os.environ.get("CC" if on_gpu else "CXX")
    found = [named] if named else ["gcc", "clang"] if on_gpu else ["g++"]
    if not any(shutil.which(shlex.split(one)[0]) for one in found):
        kind, variable, package = ("C", "CC", "gcc") if on_gpu else ("C++", "CXX", "g++")
        return f"a {kind} compiler, and there is no {' or '.join(found)}: install {package}, or name one in {variable}"
    if not Path(sysconfig.get_path("include"), "Python.h").is_file():
        return "the headers of Python, and there is no Python.h: install python3-dev, or a Python of uv's"
    return None
