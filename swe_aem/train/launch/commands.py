"""`LaunchPlan`: which servers and training processes a configuration means on this host, on which GPUs, and the
commands that start them."""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from swe_aem.core.base import Frozen
from swe_aem.errors import UserError
from swe_aem.serve import ServeCommandConfig
from swe_aem.train.architecture import config_of
from swe_aem.train.config import HardwareConfig, TrainConfig, shipped

SERVE = "serve"
"""Directory of the servers' logs in that of the run."""
_SHOWN_PORT = 29500
"""Where a shown command lets processes find each other; a launch takes a free port."""
_LORA_RANK = 64
"""Largest rank of adapters that `swe-aem serve` prepares a server for."""


class LaunchPlan(Frozen):
    """What `--launch` starts on this host."""

    servers: tuple[ServeCommandConfig, ...]
    processes: int
    """Training processes."""
    gpus: tuple[str, ...] | None
    """Their GPUs; None on a CPU."""
    launch_file: Path | None
    """The file that tells accelerate how weights are sharded; None if each process holds all of them."""
    arguments: tuple[str, ...]
    """What follows `swe-aem` in the command of a training process."""

    def ranks_command(self, port: int, python: str = sys.executable) -> list[str]:
        """The command of the training processes, which find each other at that port."""
        train = ["-m", "swe_aem", *self.arguments]
        if self.processes == 1 and self.launch_file is None:
            return [python, *train]
        line = [python, "-m", "accelerate.commands.launch"]
        if self.launch_file is not None:
            line += ["--config_file", str(self.launch_file)]
        else:
            line += ["--multi_gpu", "--mixed_precision", "no", "--dynamo_backend", "no"]
        line += ["--num_machines", "1", "--num_processes", str(self.processes), "--main_process_port", str(port)]
        return [*line, *train]

    def lines(self, directory: Path) -> list[str]:
        """Every command as it could be typed, servers first."""
        ranks = " ".join([*_devices(self.gpus), shlex.join(self.ranks_command(_SHOWN_PORT, "python"))])
        return [*(server_line(server, directory / SERVE) for server in self.servers), ranks]


def plan_launch(
    config: TrainConfig, *, arguments: Sequence[str], gpus: Sequence[str] | None, ports: Sequence[int]
) -> LaunchPlan:
    """The plan. `arguments` are those of the user's own command line behind `swe-aem`, `gpus` the devices of this host
    (None: a CPU), and `ports` one per server. Raises `UserError` if this host has too few GPUs."""
    hardware = config.hardware
    training, serving = assigned(config, gpus)
    sharding = hardware.sharding if hardware else "none"
    if gpus is None and sharding != "none":
        raise UserError(f"hardware.sharding is {sharding}, and accelerate shards nothing on a CPU: set it to none")
    servers = tuple(
        server_of(config, port=port, gpus=devices, cpu=gpus is None)
        for port, devices in zip(ports, serving, strict=True)
    )
    given = list(arguments)
    if servers:
        given += ["--set", f"servers.urls=[{','.join(server.url for server in servers)}]"]
    return LaunchPlan(
        servers=servers,
        processes=hardware.trainer_gpus if hardware else 1,
        gpus=training,
        launch_file=None if sharding == "none" else shipped(Path(f"configs/cluster/{sharding}.yaml")),
        arguments=tuple(given),
    )


def server_count(config: TrainConfig) -> int:
    """Servers that the configuration means; 0 if the policy samples in the trainer."""
    if config.servers is None:
        return 0
    return config.hardware.servers if config.hardware else len(config.servers.urls)


def assigned(
    config: TrainConfig, gpus: Sequence[str] | None
) -> tuple[tuple[str, ...] | None, list[tuple[str, ...] | None]]:
    """The GPUs that train, and those of each server: the first ones train, the next ones serve. On a host with one GPU
    both use it. Raises `UserError` if there are too few."""
    count = server_count(config)
    if gpus is None:
        return None, [None] * count
    hardware = config.hardware
    training = hardware.trainer_gpus if hardware else 1
    each = hardware.gpus_per_server if hardware else 1
    shared = hardware is not None and hardware.gpus_per_host == 1
    needed = max(training, count * each) if shared else training + count * each
    if needed > len(gpus):
        raise UserError(
            f"this run needs {needed} GPUs on one host ({training} for training, {count} servers of {each}), and "
            f"{len(gpus)} are here: change hardware, or see swe-aem docs learn/cluster for several hosts"
        )
    first = 0 if shared else training
    serving = [tuple(gpus[first + n * each : first + (n + 1) * each]) for n in range(count)]
    return tuple(gpus[:training]), [*serving]


def server_of(
    config: TrainConfig, *, port: int, gpus: tuple[str, ...] | None = None, cpu: bool = False
) -> ServeCommandConfig:
    """A server of the run. Its longest sequence is the run's, for vLLM starts only where the cache holds one."""
    servers, hardware = config.servers, config.hardware
    assert servers is not None
    extra: list[str] = []
    if config.lora is not None and config.lora.r > _LORA_RANK:
        extra += ["--max-lora-rank", str(config.lora.r)]
    if config.routing_replay:
        extra += ["--enable-return-routed-experts"]
    if hardware is not None and not cpu:
        extra += ["--gpu-memory-utilization", f"{hardware.server_share:g}"]
    return ServeCommandConfig(
        model=config.model,
        port=port,
        sync=servers.sync,
        dtype=servers.dtype or config.dtype,
        tensor_parallel=_parallel(hardware) if not cpu else 1,
        max_model_tokens=_longest(config),
        cpu=cpu,
        program=config.launch.vllm,
        gpus=gpus,
        extra=(*extra, *config.launch.vllm_arguments),
    )


def _parallel(hardware: HardwareConfig | None) -> int:
    return hardware.gpus_per_server if hardware else 1


def _longest(config: TrainConfig) -> int | None:
    """The run's longest sequence in tokens; None where the model itself ends before."""
    wanted = config.rollout.native.max_context_tokens
    limit = (config_of(config.model) or {}).get("max_position_embeddings")
    return wanted if limit is None or wanted <= limit else None


def server_line(server: ServeCommandConfig, log: Path | None = None) -> str:
    """The `swe-aem serve` command that starts this server."""
    line = [
        "swe-aem",
        "serve",
        server.model,
        "--port",
        str(server.port),
        "--sync",
        server.sync,
        "--dtype",
        server.dtype,
    ]
    if server.tensor_parallel > 1:
        line += ["--tensor-parallel", str(server.tensor_parallel)]
    if server.max_model_tokens is not None:
        line += ["--max-model-tokens", str(server.max_model_tokens)]
    if server.cpu:
        line.append("--cpu")
    if server.program != "vllm":
        line += ["--vllm", server.program]
    if log is not None:
        line += ["--log", str(log)]
    if server.extra:
        line += ["--", *server.extra]
    return " ".join([*_devices(server.gpus), shlex.join(line)])


def _devices(gpus: tuple[str, ...] | None) -> list[str]:
    return [] if gpus is None else [f"CUDA_VISIBLE_DEVICES={','.join(gpus)}"]
