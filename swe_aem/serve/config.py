"""`ServersConfig`: the vLLM servers of a training run. Importable without torch."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from swe_aem.core.base import Frozen


class ServersConfig(Frozen):
    """Which servers sample, and how they get the trainer's weights. They are started apart: `swe-aem serve`."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    urls: Annotated[tuple[str, ...], Field(min_length=1)]
    """`http://host:port` of each."""
    sync: Literal["file", "gloo", "nccl", "lora"] = "file"
    """As the servers were started. file: a directory that both see; gloo: a broadcast over TCP; nccl: between GPUs,
    with vLLM where the trainer runs; lora: adapters in a directory that both see."""
    directory: Path | None = None
    """For file and lora: where; the run's own `weights/` if not given. On one host /dev/shm is fastest."""
    host: str = "127.0.0.1"
    """For gloo and nccl: the trainer's address as servers see it."""
    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    """What weights are sent in; as they are trained if not given. The servers' own halves what float32 weighs."""
    top_logprobs: Annotated[int, Field(ge=0, le=20)] = 20
    """Alternatives per token, for the entropy of each response in the store; 0 leaves surprisal."""
    request_timeout_s: Annotated[float, Field(gt=0)] = 1800.0
    """Seconds that one response may take, and that a switch of weights waits for those in flight."""
    patience_s: Annotated[float, Field(gt=0)] = 180.0
    """Seconds that requests wait for a server while none is well; longer than one takes to restart."""
