"""`ServersConfig`: the vLLM servers of a training run. Importable without torch."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, model_validator

from swe_aem.policy import TOP_LOGPROBS, InFlight, RequestConfig


class ServersConfig(RequestConfig):
    """The servers that sample, and how they get the trainer's weights. `swe-aem serve` starts them."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    urls: Annotated[tuple[str, ...], Field(min_length=1)] = ("http://127.0.0.1:8000",)
    """Base URL of each server, http://host:port. `train --launch` takes those of the servers that it starts instead."""
    top_logprobs: Annotated[int, Field(ge=0, le=TOP_LOGPROBS)] = 0
    """Alternatives per token that a server reports, to estimate the entropy of each response; 0 uses surprisal. Nothing
    in training needs them, and they cost time."""
    in_flight: InFlight | None = None
    """What becomes of responses in flight when new whole weights come. interrupt: they are cut off and continued with
    the new weights; drain: they end with the old ones first. If not given, interrupt where max_staleness is above 0;
    at 0 nothing is in flight then."""
    sync: Literal["file", "gloo", "nccl", "lora"] = "file"
    """How weights are sent; the same as the servers' `--sync`. file: a file in a directory that both see; gloo: a
    broadcast over TCP; nccl: a broadcast between GPUs, which needs vLLM where the trainer runs; lora: adapters in a
    directory that both see."""
    directory: Path | None = None
    """The directory with sync file and lora; the run's own `weights/` if not given. On one host /dev/shm is fastest."""
    host: str = "127.0.0.1"
    """Address of the trainer as the servers see it, with sync gloo and nccl."""
    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    """Data type in which weights are sent; the one that is trained if not given. A 16-bit type halves the size."""

    @model_validator(mode="after")
    def _in_flight_is_honoured(self) -> "ServersConfig":
        if self.sync == "lora" and self.in_flight is not None:
            raise ValueError(
                "in_flight is for whole weights: with sync lora each version is an adapter of its own, and a response "
                "in flight ends with the one that it began with; leave it out"
            )
        return self
