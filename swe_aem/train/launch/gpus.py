"""The GPUs of this host, by the names that CUDA_VISIBLE_DEVICES takes."""

import os
from importlib.util import find_spec

from swe_aem.train.config import TrainConfig


def gpu_count() -> int:
    """GPUs that this process may use; 0 where torch is not installed."""
    if find_spec("torch") is None:
        return 0
    import torch

    return torch.cuda.device_count()


def gpus_here(config: TrainConfig) -> list[str] | None:
    """The GPUs of this host that this process may use, by the names that CUDA_VISIBLE_DEVICES takes; None to run on
    CPUs: `device` is cpu, or auto where there are no GPUs and no `hardware` asks for them."""
    if config.device == "cpu":
        return None
    count = gpu_count()
    if not count and config.device == "auto" and config.hardware is None:
        return None
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    return chosen.split(",")[:count] if chosen else [str(number) for number in range(count)]


def gpus_planned(config: TrainConfig) -> list[str] | None:
    """The GPUs of a host as `hardware` describes it; those of this host without."""
    if config.hardware is None or config.device == "cpu":
        return gpus_here(config)
    return [str(number) for number in range(config.hardware.gpus_per_host)]
