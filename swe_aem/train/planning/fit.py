"""Does the largest micro-step of a configuration fit its GPUs, and which settings would make it fit? Importable without
torch."""

from collections.abc import Iterator
from typing import Any

from swe_aem.errors import UserError
from swe_aem.train.config import HardwareConfig, LoraConfig, TrainConfig
from swe_aem.train.planning.memory import TrainerMemory, trainer_memory
from swe_aem.train.planning.micro_step import Rows
from swe_aem.train.planning.shapes import ModelShape, shape_of

_ROW_STEP = 1024
"""Tokens in which the longest row is told."""
_LONGEST = 2**20
_SMALL_TILE_MB = 64


def trainer_estimate(config: TrainConfig, shape: ModelShape, shards: int | None = None) -> TrainerMemory:
    """What one of `shards` training processes holds in its largest micro-step; of as many as `hardware` says, if not
    given. Shards are float32 and compute in bfloat16, as the launch files say, whatever `dtype` is: accelerate holds
    the weights that mixed precision trains in float32."""
    compute = "bfloat16" if config.grpo.bf16 else "float16" if config.grpo.fp16 else config.dtype
    dtype, hardware = config.dtype, config.hardware
    if shards is None:
        shards = 1 if hardware is None or hardware.sharding == "none" else hardware.trainer_gpus
    if shards > 1:
        dtype, compute = "float32", "bfloat16"
    return trainer_memory(
        shape,
        rows=largest_rows(config),
        dtype=dtype,
        compute=compute,
        shards=shards,
        checkpointing=bool(config.grpo.gradient_checkpointing),
        passes=config.passes,
        lora_rank=config.lora.r if config.lora else None,
        expert_adapters=bool(config.lora and config.lora.experts),
    )


def largest_rows(config: TrainConfig) -> Rows:
    """The rows of the largest micro-step: as many as fit into `token_budget`, or `micro_batch_size` of the longest."""
    longest, budget = config.rollout.native.max_context_tokens, config.token_budget
    eager = config.attention == "eager"
    masked = 0
    if not config.attention.startswith("flash"):
        together = budget or 0
        apart = config.micro_batch_size * longest**2 if config.micro_batch_size > 1 or eager else 0
        masked = max(together**2, apart)
    return Rows(tokens=max(config.micro_batch_size * longest, budget or 0), mask_entries=masked, stores_matrix=eager)


def available_bytes(hardware: HardwareConfig) -> float:
    """What a training process may take of its GPU, which a server may share."""
    return hardware.gpu_memory_gb * 1e9 * (1 - hardware.server_share if hardware.gpus_per_host == 1 else 1)


def longest_row(config: TrainConfig, shape: ModelShape) -> int:
    """Tokens of the longest rows that fit the hardware with the other settings as they are, in steps of 1,024; 0 if
    none does."""
    hardware = config.hardware
    assert hardware is not None

    def fits(tokens: int) -> bool:
        changed = _with(config, "rollout.native.max_context_tokens", tokens)
        return trainer_estimate(changed, shape).total <= available_bytes(hardware)

    low, high = 0, _LONGEST // _ROW_STEP
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle * _ROW_STEP) else (low, middle - 1)
    return low * _ROW_STEP


def misfits(config: TrainConfig) -> Iterator[str]:
    """Why a run does not fit the GPUs of its `hardware`, with the settings that would make it fit. Nothing where the
    memory of the model is not known, or no GPU is used."""
    hardware = config.hardware
    if hardware is None or config.device == "cpu":
        return
    try:
        shape = shape_of(config.model)
    except UserError:
        return
    needed, available = trainer_estimate(config, shape).total, available_bytes(hardware)
    if needed <= available:
        return
    ways = [f"{words} ({total / 1e9:.1f} GB)" for words, total in _ways(config, shape, available)]
    if shape.delta_nets is None and (longest := longest_row(config, shape)):
        ways.append(f"rollout.native.max_context_tokens={longest}")
    said = " or ".join(ways) or "none of the settings of passes, a smaller model"
    rows = largest_rows(config)
    yield (
        f"{rows.tokens} tokens in a micro-step take {needed / 1e9:.1f} GB of a GPU that has {available / 1e9:.1f} for "
        f"training. What makes it fit: {said}"
    )


def _ways(config: TrainConfig, shape: ModelShape, available: float) -> Iterator[tuple[str, float]]:
    """Each setting that makes it fit alone, with the bytes that it then takes; if there is none, the first of them
    together that do."""
    together, words, alone = config, [], False
    for name, value in _changes(config):
        said = f"{name}={_said(value)}"
        total = trainer_estimate(_with(config, name, value), shape).total
        if total <= available:
            alone = True
            yield said, total
        elif total < trainer_estimate(config, shape).total:
            together = _with(together, name, value)
            words.append(said)
            if not alone and (total := trainer_estimate(together, shape).total) <= available:
                yield " with ".join(words), total
                return


def _changes(config: TrainConfig) -> Iterator[tuple[str, Any]]:
    """Settings that take less memory than those of a configuration, those that cost least time first."""
    hardware, longest = config.hardware, config.rollout.native.max_context_tokens
    assert hardware is not None
    if config.micro_batch_size > 1:
        yield "micro_batch_size", 1
    if config.token_budget is not None and config.token_budget > longest:
        yield "token_budget", longest
    if config.attention == "eager":
        yield "attention", "sdpa"
    if config.token_budget is not None and not config.attention.startswith("flash"):
        yield "attention", "flash_attention_2"
    if config.head_tile_mb > _SMALL_TILE_MB:
        yield "head_tile_mb", _SMALL_TILE_MB
    if not config.grpo.gradient_checkpointing:
        yield "grpo.gradient_checkpointing", True
    if config.selective_checkpointing:
        yield "selective_checkpointing", False
    if config.grpo.gradient_checkpointing and not config.activation_offloading:
        yield "activation_offloading", True
    if hardware.sharding == "none" and hardware.trainer_gpus > 1 and config.lora is None:
        yield "hardware.sharding", "fsdp2"
    if hardware.sharding != "none":
        yield "hardware.trainer_gpus", 2 * hardware.trainer_gpus
        yield "hardware.trainer_gpus", 4 * hardware.trainer_gpus
    if config.lora is None:
        yield "lora", LoraConfig()


def _said(value: Any) -> str:
    """A value as on the command line."""
    return "{}" if isinstance(value, LoraConfig) else str(value).lower()


def _with(config: Any, name: str, value: Any) -> Any:
    """The configuration with another value of a setting, whose name may have dots."""
    first, _, rest = name.partition(".")
    if rest:
        value = _with(getattr(config, first), rest, value)
    elif first == "lora" and config.hardware is not None:  # adapters are trained without shards
        whole = config.hardware.model_copy(update={"sharding": "none"})
        config = config.model_copy(update={"hardware": whole})
    return config.model_copy(update={first: value})
