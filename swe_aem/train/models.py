"""Loads the model that is trained and its tokenizer from a directory or the Hugging Face hub."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from swe_aem.errors import UserError
from swe_aem.train.config import Attention, LoraConfig, TrainConfig
from swe_aem.train.expert_adapters import adapter_targets


def load_model(name: Path | str, *, dtype: str = "float32", attention: Attention = "auto") -> Any:
    """A causal language model; raises `UserError` if transformers cannot load it, or not with that attention."""
    import torch
    from transformers import AutoModelForCausalLM

    if attention.startswith("flash") and not torch.accelerator.is_available():
        raise UserError(f"attention={attention} needs a GPU, and this host has none: use auto, sdpa or eager")
    chosen = {} if attention == "auto" else {"attn_implementation": attention}
    with _loading(name):
        model = AutoModelForCausalLM.from_pretrained(name, dtype=getattr(torch, dtype), **chosen)
    if attention != "auto" and (found := model.config._attn_implementation) not in _names(attention):
        raise UserError(f"attention={attention} is not what {name} would use, which is {found}: use auto, or {found}")
    return model


def without_weights(name: Path | str) -> Any:
    """A causal language model as it is loaded, but without memory for its weights. Raises `UserError` if transformers
    cannot load it."""
    from transformers import AutoModelForCausalLM

    with _loading(name):
        return AutoModelForCausalLM.from_pretrained(name, dtype="auto", device_map="meta")


def _names(attention: str) -> set[str]:
    """What transformers calls an implementation once it is loaded: one of flash attention is the kernel of the hub that
    stands in for a package that is not installed."""
    from transformers.modeling_flash_attention_utils import FLASH_ATTN_KERNEL_FALLBACK

    return {attention, FLASH_ATTN_KERNEL_FALLBACK.get(attention, attention)}


def load_trained(config: TrainConfig) -> Any:
    """The model that a run trains, as it is before the first step: with a new low-rank adapter if one is trained."""
    model = load_model(config.model, dtype=config.dtype, attention=config.attention)
    _keep_names_of_its_own_layers(model)
    return model if config.lora is None else adapted(model, config.lora)


def _keep_names_of_its_own_layers(model: Any) -> None:
    """Accelerate shards a model by the classes of layers that it names, and refuses one that it does not have. The text
    part of a model that also sees names both parts' (Qwen3.5, its mixtures too)."""
    has = {type(module).__name__ for module in model.modules()}
    model._no_split_modules = [name for name in model._no_split_modules or () if name in has]


def adapted(model: Any, lora: LoraConfig) -> Any:
    """The model with a new low-rank adapter, which alone is trained."""
    import peft

    adapter = peft.LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        task_type="CAUSAL_LM",
        **adapter_targets(model, lora),
    )
    return peft.get_peft_model(model, adapter)


def model_values(name: Path | str) -> dict[str, Any]:
    """The values of a model's configuration, defaults included, without its weights. Raises `UserError` if there is
    none that transformers knows."""
    from transformers import AutoConfig

    with _loading(name):
        return AutoConfig.from_pretrained(name).to_dict()


@contextmanager
def _loading(name: Path | str) -> Iterator[None]:
    """Raise `UserError` if there is no such directory, or transformers cannot load what is there."""
    if str(name).startswith(("/", ".")) and not Path(name).is_dir():
        raise UserError(f"{name}: no such directory, and no model that transformers can load")
    try:
        yield
    except (OSError, ValueError, ImportError) as error:
        raise UserError(f"{name}: no model that transformers can load: {error}") from error


def on_cpu(device: str) -> bool:
    """Does the `device` of a configuration mean the CPU? Both accelerate and TRL must be told: on a host without an
    accelerator, processes find each other only then."""
    import torch

    return device == "cpu" or (device == "auto" and not torch.accelerator.is_available())


def tokenizer_of(name: Path | str) -> str:
    """Where the `tokenizer.json` of a model is on this host, that of a hub's model once it is loaded. Raises
    `UserError` if there is none."""
    from transformers.utils.hub import cached_file

    try:
        return str(cached_file(str(name), "tokenizer.json"))
    except OSError as error:
        raise UserError(
            f"{name}: no tokenizer.json there, which agents read: save the tokenizer beside the model"
        ) from error


def load_processing(name: Path | str) -> Any:
    """The tokenizer of transformers, which trainers pad with and save beside the weights. Raises `UserError` if it
    cannot be loaded or has no pad token."""
    from transformers import AutoTokenizer

    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise UserError(f"{name}: no tokenizer that transformers can load: {error}") from error
    tokenizer.padding_side = "left"
    if tokenizer.pad_token is None:
        raise UserError(f"{name}: its tokenizer has no pad token; name one in tokenizer_config.json")
    return tokenizer
