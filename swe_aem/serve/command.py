"""`ServeConfig`: what is served and how, and the vLLM command line that follows from it."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from swe_aem.core.base import Frozen

_Count = Annotated[int, Field(ge=1)]

Sync = Literal["file", "gloo", "nccl", "lora", "none"]
"""How new weights reach a server: a file that both see, a broadcast over TCP, one between GPUs, adapters under a name
of their own, or not at all."""

PLUGIN = Path(__file__).resolve().parent / "plugin"
_CPU_CACHE_GB = 1


class ServeConfig(Frozen):
    """One server."""

    model: str
    """Directory of the model."""
    name: str = "policy"
    """What requests call it."""
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65535)] = 8000
    sync: Sync = "file"
    dtype: str = "auto"
    """Of weights and computation: auto is the model's own; float32 where log-probabilities are compared with a
    trainer's in float32."""
    tensor_parallel: _Count = 1
    """GPUs that the model is spread over."""
    max_model_tokens: _Count | None = None
    """Longest prompt and response together; the model's own if not given."""
    lora_rank: _Count = 64
    """Largest rank of adapters."""
    cpu: bool = False
    """For a build of vLLM for CPUs: no graphs, prompts in one piece, 1 GB of KV cache, threads where the system puts
    them."""
    program: str = "vllm"
    """The vllm command; it may be that of another environment."""
    extra: tuple[str, ...] = ()
    """Further arguments of `vllm serve`."""

    @property
    def url(self) -> str:
        """Where clients on this host find it."""
        host = "127.0.0.1" if self.host in ("0.0.0.0", "::") else self.host
        return f"http://{host}:{self.port}"


def command(config: ServeConfig) -> list[str]:
    """The command line. Log-probabilities are those of the scaled distribution, of the sampled token and 20 others."""
    line = [config.program, "serve", config.model, "--served-model-name", config.name]
    line += ["--host", config.host, "--port", str(config.port), "--dtype", config.dtype]
    line += ["--logprobs-mode", "processed_logprobs", "--max-logprobs", "20", "--disable-uvicorn-access-log"]
    if config.tensor_parallel > 1:
        line += ["--tensor-parallel-size", str(config.tensor_parallel)]
    if config.max_model_tokens is not None:
        line += ["--max-model-len", str(config.max_model_tokens)]
    if config.cpu:
        # Seeds of requests are generators, and on a CPU those cannot be turned back after a part of a prompt.
        line += ["--enforce-eager", "--no-enable-chunked-prefill"]
    if config.sync in ("file", "gloo"):
        line += ["--worker-extension-cls", "swe_aem_vllm.Extension"]
    if config.sync in ("file", "gloo", "nccl"):
        line += ["--weight-transfer-config", json.dumps({"backend": config.sync})]
    if config.sync == "lora":
        line += ["--enable-lora", "--max-lora-rank", str(config.lora_rank), "--max-loras", "2"]
    return [*line, *config.extra]


def environment(config: ServeConfig, inherited: Mapping[str, str]) -> dict[str, str]:
    """Environment variables: the inherited ones and what the sync and the device need."""
    ours = {"VLLM_NO_USAGE_STATS": "1"}
    if config.sync in ("file", "gloo", "nccl"):
        ours["VLLM_SERVER_DEV_MODE"] = "1"
    if config.sync in ("file", "gloo"):
        ours["PYTHONPATH"] = os.pathsep.join(filter(None, [str(PLUGIN), inherited.get("PYTHONPATH")]))
    if config.sync == "lora":
        ours["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] = "True"
    if config.cpu:
        ours |= {"VLLM_CPU_KVCACHE_SPACE": str(_CPU_CACHE_GB), "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
    return {**inherited, **ours}
