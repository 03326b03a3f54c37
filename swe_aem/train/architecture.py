"""What a model's own config.json tells of its architecture before any weights are loaded. Importable without torch."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from swe_aem.errors import UserError

_NOISE = re.compile("drop|jitter")
_OF_CLASSIFIERS = ("classifier", "summary")
"""What names of dropout that only classification heads have begin with."""
LEFT_OUT = ("mtp.", "model.visual.")
"""What names of tensors begin with that transformers leaves out of a causal language model. The plugin of servers,
which cannot import this, has them too."""

_ATTENTION = {"full_attention", "sliding_attention", "chunked_attention"}
_RECURRENT = re.compile("mamba|ssm|rwkv|lstm|recurrent|conv_kernel|state_size")
"""What names of settings and model types have where layers carry a state from token to token."""

READ_AS_EXPERTS = frozenset({"gate", "gate_proj", "up_proj", "down_proj"})
"""Names of modules that peft takes for those of routed experts, and of their router, in some mixtures."""
SERVED_EXPERTS = frozenset({"qwen3_moe", "qwen3_next", "qwen3_5_moe_text"})
"""Model types of whose experts vLLM takes adapters, one by one."""
SOFTMAX_ROUTERS = SERVED_EXPERTS
"""Model types whose routers choose by a softmax over all experts, which can be replayed."""


def config_of(model: str) -> Mapping[str, Any] | None:
    """The values of a model directory's config.json, None if there is none. Raises `UserError` if it cannot be read."""
    path = Path(model) / "config.json"
    if not path.is_file():
        return None
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not a model's configuration: {error}") from error
    if not isinstance(values, dict):
        raise UserError(f"{path}: not a model's configuration: a mapping is expected")
    return values


def kind_of(values: Mapping[str, Any]) -> str:
    """The type of the model that training loads."""
    return str(text_of(values).get("model_type"))


def text_of(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """The values of the model that training loads: of one with parts for images, those of its text."""
    text = values.get("text_config")
    return text if isinstance(text, Mapping) else values


def left_out(model: str) -> list[str]:
    """Names of the tensors in a model directory's checkpoint that training a causal language model leaves out: parts
    for images and for predicting several tokens. Empty where there is no checkpoint. Raises `UserError` if it cannot be
    read."""
    index = Path(model) / "model.safetensors.index.json"
    paths = [index] if index.is_file() else sorted(Path(model).glob("*.safetensors"))
    found: set[str] = set()
    for path in paths:
        try:
            names = json.loads(path.read_bytes())["weight_map"] if path == index else _header(path)
            found |= {name for name in names if name.startswith(LEFT_OUT)}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path}: not a part of a checkpoint: {error}") from error
    return sorted(found)


def _header(path: Path) -> Any:
    """What a file of safetensors begins with: the length of a JSON object, in 8 bytes, and the object."""
    with path.open("rb") as file:
        return json.loads(file.read(int.from_bytes(file.read(8), "little")))


def other_than_attention(values: Mapping[str, Any]) -> list[str]:
    """The kinds of a model's layers that are no attention, as config.json calls them; "recurrent" where it has settings
    of such layers and no kinds."""
    values = text_of(values)
    if kinds := sorted({str(kind) for kind in values.get("layer_types") or ()} - _ATTENTION):
        return kinds
    names = (*values, str(values.get("model_type")))
    return ["recurrent"] if any(_RECURRENT.search(name) for name in names) else []


def experts(values: Mapping[str, Any]) -> int:
    """Experts of a layer; 0 for a dense model. Configurations count them under names that end with "experts", such as
    num_experts, num_local_experts or n_routed_experts, at the top or in a section."""
    found = [0]
    for name, value in _leaves(values):
        counts = value if isinstance(value, list) else [value]
        if name.endswith("experts"):
            found += [one for one in counts if isinstance(one, int) and not isinstance(one, bool)]
    return most if (most := max(found)) > 1 else 0


def noise(values: Mapping[str, Any]) -> dict[str, float]:
    """What makes two passes of the model differ while it trains: dropout and jitter above 0, by their names."""
    return {
        name: value
        for name, value in _leaves(values)
        if _NOISE.search(name)
        and not name.startswith(_OF_CLASSIFIERS)
        and isinstance(value, int | float)
        and not isinstance(value, bool)
        and value > 0
    }


def _leaves(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Names and values, those of sections included."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _leaves(value)
        else:
            yield str(name), value
