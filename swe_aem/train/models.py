"""Loading what is trained: a model and its tokenizer from a directory or the hub, with an error that names the fix."""

from pathlib import Path
from typing import Any

from swe_aem.errors import UserError


def load_model(name: Path | str, *, dtype: str = "float32") -> Any:
    """A causal language model; raises `UserError` if transformers cannot load it."""
    import torch
    from transformers import AutoModelForCausalLM

    if str(name).startswith(("/", ".")) and not Path(name).is_dir():
        raise UserError(f"{name}: no such directory, and no model that transformers can load")
    try:
        return AutoModelForCausalLM.from_pretrained(name, dtype=getattr(torch, dtype))
    except (OSError, ValueError) as error:
        raise UserError(f"{name}: no model that transformers can load: {error}") from error


def on_cpu(device: str) -> bool:
    """Does the `device` of a configuration mean the processor? Said to accelerate and TRL alike, since processes find
    each other on a host without an accelerator only if they are told so."""
    import torch

    return device == "cpu" or (device == "auto" and not torch.accelerator.is_available())


def load_processing(name: Path | str) -> Any:
    """The tokenizer as transformers has it, for trainers, which save it beside the weights and pad with it."""
    from transformers import AutoTokenizer

    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise UserError(f"{name}: no tokenizer that transformers can load: {error}") from error
    tokenizer.padding_side = "left"
    if tokenizer.pad_token is None:
        raise UserError(f"{name}: its tokenizer has no pad token; name one in tokenizer_config.json")
    return tokenizer
