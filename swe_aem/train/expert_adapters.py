"""Adapters of a mixture of experts: which parameters get one, and how servers want those of experts named.

transformers holds the routed experts of a layer in two tensors, `experts.gate_up_proj` and `experts.down_proj`, which
are no linear layers. peft's adapter on such a tensor has one of rank r for each expert (`target_parameters`).
"""

from collections.abc import Iterable, Iterator
from typing import Any

from swe_aem.train.architecture import READ_AS_EXPERTS, SERVED_EXPERTS, experts
from swe_aem.train.config import LoraConfig

_STACKED = ("gate_up_proj", "down_proj")
"""The two tensors of a layer's experts. peft nests the adapter of the first in that of the second."""


def adapter_targets(model: Any, config: LoraConfig) -> dict[str, Any]:
    """`target_modules` and `target_parameters` of a `peft.LoraConfig`. In a mixture, linear layers whose names peft
    would take for experts are named as parameters, and the router has no adapter."""
    chosen = config.target_modules
    if not experts(model.config.to_dict()):
        return {"target_modules": chosen if isinstance(chosen, str) else list(chosen)}
    modules, parameters = set(chosen), []
    if chosen == "all-linear":
        modules, parameters = _linear(model)
    if config.experts:
        parameters += [
            name for name, one in model.named_parameters() if one.dim() == 3 and name.rpartition(".")[2] in _STACKED
        ]
    return {"target_modules": sorted(modules), "target_parameters": parameters}


def _linear(model: Any) -> tuple[set[str], list[str]]:
    """Every linear layer but the head: modules by the last part of their names, and parameters by their whole ones."""
    from torch.nn import Linear

    modules, parameters = set(), []
    head = model.get_output_embeddings()
    for name, module in model.named_modules():
        last = name.rpartition(".")[2]
        if not isinstance(module, Linear) or module is head:
            continue
        if last in READ_AS_EXPERTS:
            parameters.append(f"{name}.weight")
        else:
            modules.add(last)
    return modules, parameters


class ExpertAdapterNames:
    """The tensors of an adapter as vLLM takes them: those of experts one by one for the models that it holds so, as in
    `experts.3.gate_proj.lora_A`; else as peft has them."""

    def __init__(self, model: Any) -> None:
        """`model` is a `peft` model with one adapter."""
        self._rank = model.peft_config["default"].r
        self._served = model.config.model_type in SERVED_EXPERTS

    def __call__(self, tensors: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
        """Names and tensors, made from those of the peft model's state dict as they come."""
        for name, tensor in tensors:
            place, _, end = name.partition(".mlp.experts.")
            if self._served and "lora_" in end:
                yield from self._one_by_one(place, end, tensor)
            else:
                yield name, tensor

    def _one_by_one(self, place: str, end: str, tensor: Any) -> Iterator[tuple[str, Any]]:
        """The parts of lora_A (experts * r, in) or lora_B (out, r * experts), whose columns have the expert last. Gate
        and up have one lora_A between them, and half of the rows of lora_B each."""
        fused = end.startswith("base_layer.")
        end = end.removeprefix("base_layer.")
        first = end.startswith("lora_A")
        count = tensor.shape[0 if first else 1] // self._rank
        for expert in range(count):
            if first:
                part = tensor.reshape(count, self._rank, -1)[expert]
            else:
                part = tensor.reshape(-1, self._rank, count)[:, :, expert]
            half = part.shape[0] // 2
            if not fused:
                parts = {"down_proj": part}
            elif first:
                parts = {"gate_proj": part, "up_proj": part.clone()}  # files hold no tensor twice
            else:
                parts = {"gate_proj": part[:half], "up_proj": part[half:]}
            for projection, value in parts.items():
                yield f"{place}.mlp.experts.{expert}.{projection}.{end}", value
