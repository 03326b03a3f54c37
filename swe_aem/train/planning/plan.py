"""`swe-aem train CONFIG --dry-run`: who would run where, what each would hold, and what is missing here."""

import asyncio
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from swe_aem.errors import SweAemError, UserError
from swe_aem.rollout import chosen_tasks
from swe_aem.sandbox import open_backend
from swe_aem.sandbox.config import SandboxConfig
from swe_aem.serve import healthy
from swe_aem.train.architecture import config_of
from swe_aem.train.config import HardwareConfig, TrainConfig
from swe_aem.train.launch.commands import server_line, server_of
from swe_aem.train.launch.gpus import gpu_count
from swe_aem.train.planning.fit import available_bytes, longest_row, trainer_estimate
from swe_aem.train.planning.memory import cache_bytes_per_token, lora_parameters, server_memory, state_bytes
from swe_aem.train.planning.micro_step import ADAPTER_DTYPE, BYTES
from swe_aem.train.planning.shapes import ModelShape, shape_of
from swe_aem.train.refusals import reasons_at_start, untrained

_CHECKPOINTS = 2
"""Kept, and each has weights and two moments."""


def plan(config: TrainConfig, directory: Path) -> Iterator[str]:
    """The plan, line by line. Needs no GPU, no server, no model and no torch."""
    trajectories = config.steps * config.rolled_out_groups * config.rollout.group_size
    work = f"{config.steps} steps, {trajectories} trajectories, into {directory}"
    images: list[str] = []
    try:
        images = [record.task.image for record in chosen_tasks(config.rollout)]
        yield f"{len(images)} tasks, {work}"
    except UserError as error:
        yield f"tasks of {config.rollout.tasks} (MISSING: {error}), {work}"
    yield from _sandboxes(config.rollout.sandbox, sorted(set(images)))
    yield from _refusals(config)
    try:
        shape = shape_of(config.model)
    except UserError as error:
        yield f"memory: not estimated: {error}"
        return
    active = f", {shape.active_parameters / 1e6:,.1f} million of them for each token" if shape.num_experts else ""
    yield f"model: {config.model}, {shape.parameters / 1e6:,.1f} million parameters{active}"
    hardware = config.hardware
    if hardware is not None:
        yield from _roles(config, hardware)
        yield from _trainer(config, hardware, shape)
        yield from _server(config, hardware, shape)
    yield from _missing(config, directory, shape)


def _refusals(config: TrainConfig) -> Iterator[str]:
    """Why the run would not start, and what it would leave alone."""
    sharded = config.hardware is not None and config.hardware.sharding != "none"
    for reason in reasons_at_start(config, sharded=sharded):
        yield f"REFUSED: {reason}"
    values = config_of(config.model)
    if values is not None:
        yield from untrained(config, values)


def _sandboxes(sandbox: SandboxConfig, images: Sequence[str]) -> Iterator[str]:
    try:
        missing = asyncio.run(_missing_images(sandbox, images))
    except SweAemError as error:
        yield f"MISSING {sandbox.type}: {error}"
        return
    if missing:
        yield f"MISSING images: {len(missing)} of {len(images)}, e.g. {missing[0]}"
    elif images:
        yield f"images: {len(images)}, all here"


async def _missing_images(sandbox: SandboxConfig, images: Sequence[str]) -> list[UserError]:
    """Why each image that is not here is not, which says how to get it."""
    missing = []
    async with open_backend(sandbox) as backend:
        for image in images:
            try:
                await backend.image_digest(image)
            except UserError as error:
                missing.append(error)
    return missing


def _roles(config: TrainConfig, hardware: HardwareConfig) -> Iterator[str]:
    serving = hardware.servers * hardware.gpus_per_server
    shared = hardware.trainer_gpus + serving > hardware.gpus_per_host == 1
    gpus = max(hardware.trainer_gpus, serving) if shared else hardware.trainer_gpus + serving
    hosts = -(-gpus // hardware.gpus_per_host)
    agents = config.rollout.scheduling.concurrency or "so many as it carries"
    yield f"hosts: {hosts} with {hardware.gpus_per_host} {hardware.gpu} of {hardware.gpu_memory_gb:g} GB each"
    sharding = {"none": "a whole copy each", "fsdp2": "shards (FSDP2)", "zero3": "shards (ZeRO-3)"}
    yield f"  trainer: {hardware.trainer_gpus} GPUs, {sharding[hardware.sharding]}; its first process rolls out"
    yield (
        f"  rollouts: on the first trainer's host, up to {agents} agents and as many grading sandboxes "
        f"({config.rollout.sandbox.type})"
    )
    urls = ", ".join(config.servers.urls) if config.servers else "none: the policy samples in the trainer"
    yield f"  servers: {hardware.servers} of {hardware.gpus_per_server} GPUs; {urls}"


def _trainer(config: TrainConfig, hardware: HardwareConfig, shape: ModelShape) -> Iterator[str]:
    memory = trainer_estimate(config, shape)
    parts = ", ".join(f"{name} {value / 1e9:.1f}" for name, value in memory.model_dump().items() if value)
    available = available_bytes(hardware)
    verdict = "" if memory.total <= available else "; DOES NOT FIT"
    yield (
        f"memory per trainer GPU, GB: {parts}; of layer and head the larger one: {memory.total / 1e9:.1f} of "
        f"{available / 1e9:.0f}{verdict}"
    )
    if config.asynchronous_checkpoints:
        copied = memory.gradients + memory.optimiser  # as many bytes of weights as of gradients
        sharded = hardware.sharding != "none"
        processes = min(hardware.trainer_gpus, hardware.gpus_per_host) if sharded else 1
        where = "each trainer's host" if sharded else "the first trainer's host"
        yield f"memory of {where} for asynchronous_checkpoints, GB: {copied * processes / 1e9:.1f}"
    if shape.delta_nets is not None:
        yield "  not counted: what layers keep for the backward pass, which is not known for those with delta nets"
        return
    longest = longest_row(config, shape)
    yield f"longest rows that fit: {longest} tokens; they may have {config.rollout.native.max_context_tokens}"


def _server(config: TrainConfig, hardware: HardwareConfig, shape: ModelShape) -> Iterator[str]:
    memory = server_memory(
        shape,
        gpu_bytes=hardware.gpu_memory_gb * 1e9,
        tensor_parallel=hardware.gpus_per_server,
        utilisation=hardware.server_share,
    )
    row = config.rollout.native.max_context_tokens
    state = state_bytes(shape, "bfloat16")
    longest = row + -(-state // cache_bytes_per_token(shape, "bfloat16"))
    yield (
        f"memory per server GPU, GB: weights {memory.weights / 1e9:.1f}, KV cache {memory.cache / 1e9:.1f}: "
        f"{memory.cache_tokens} tokens per server, {memory.cache_tokens // longest} trajectories of {row} tokens"
        + (f" with {state / 1e6:.0f} MB of state each" if state else "")
        + ("" if memory.cache_tokens >= longest else "; DOES NOT FIT: more gpus_per_server, or a shorter context")
    )


def _missing(config: TrainConfig, directory: Path, shape: ModelShape) -> Iterator[str]:
    """One line for each thing that a run would ask for, with the command that brings it."""
    if not (Path(config.model) / "config.json").is_file():
        yield f"MISSING model: hf download Qwen/{Path(config.model).name} --local-dir {config.model}"
    for number, url in enumerate(config.servers.urls if config.servers else ()):
        yield f"server {url} answers" if healthy(url) else f"MISSING server {url}: {_serve_command(config, number)}"
    if config.hardware is not None:
        found = gpu_count()
        if found < min(config.hardware.trainer_gpus, config.hardware.gpus_per_host):
            yield f"MISSING GPUs: this host has {found}, a trainer's has {config.hardware.gpus_per_host}"
    needed = _disk_bytes(config, shape)
    place = next(parent for parent in (directory, *directory.resolve().parents) if parent.exists())
    free = shutil.disk_usage(place).free
    word = "disk" if free >= needed else "MISSING disk"
    needs = f"{needed / 1e9:.0f} GB for checkpoints and weights on their way"
    yield f"{word}: {needs}, {free / 1e9:.0f} GB free"


def _serve_command(config: TrainConfig, number: int) -> str:
    """What starts the server of that number; with the GPUs behind the trainer's where they are on the same host."""
    servers, hardware = config.servers, config.hardware
    assert servers is not None
    gpus = None
    if hardware is not None and hardware.gpus_per_host > 1:
        first = hardware.trainer_gpus + number * hardware.gpus_per_server
        last = first + hardware.gpus_per_server
        gpus = tuple(map(str, range(first, last))) if last <= hardware.gpus_per_host else None
    port = int(servers.urls[number].rpartition(":")[2])
    return server_line(server_of(config, port=port, gpus=gpus, cpu=config.device == "cpu"))


def _disk_bytes(config: TrainConfig, shape: ModelShape) -> float:
    """The most at a time: an old checkpoint goes when a new one is whole. The policy, written at the end, is less."""
    copies = 3 * (_CHECKPOINTS + 1)
    if config.lora is not None:
        trained = lora_parameters(shape, config.lora.r, experts=bool(config.lora.experts))
        return (copies + 2) * BYTES[ADAPTER_DTYPE] * trained
    size = BYTES[config.dtype]
    sent = BYTES[(config.servers.dtype if config.servers else None) or config.dtype]
    return shape.parameters * (size * copies + 2 * sent)
