"""`ServersConfig`: the vLLM servers of a training run. Importable without torch."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from swe_aem.core.base import Frozen


class ServersConfig(Frozen):
    """The servers that sample, and how they get the trainer's weights. `swe-aem serve` starts them."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    urls: Annotated[tuple[str, ...], Field(min_length=1)]
    """`http://host:port` of each."""
    sync: Literal["file", "gloo", "nccl", "lora"] = "file"
    """How weights are sent; the same as the servers' `--sync`. file: a file in a directory that both see; gloo: a
    broadcast over TCP; nccl: a broadcast between GPUs, which needs vLLM where the trainer runs; lora: adapters in a
    directory that both see."""
    directory: Path | None = None
    """The directory for file and lora; the run's own `weights/` if not given. On one host /dev/shm is fastest."""
    host: str = "127.0.0.1"
    """For gloo and nccl: the trainer's address as servers see it."""
    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    """Data type in which weights are sent; the one that is trained if not given. A 16-bit type halves the size."""
    top_logprobs: Annotated[int, Field(ge=0, le=20)] = 20
    """Alternatives per token, for the stored entropy estimate of each response; with 0 it is the surprisal."""
    request_timeout_s: Annotated[float, Field(gt=0)] = 1800.0
    """Seconds that one response may take, and that an update of the weights waits for responses in flight."""
    patience_s: Annotated[float, Field(gt=0)] = 180.0
    """Seconds that requests wait while no server is healthy; longer than a restart takes."""
