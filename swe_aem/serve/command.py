"""`ServeCommandConfig`: what a server serves and how, and the vLLM command line that follows from it."""

import json
import os
import shutil
import socket
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from swe_aem.core.base import Frozen

_Count = Annotated[int, Field(ge=1)]

Sync = Literal["file", "gloo", "nccl", "lora", "none"]
"""How new weights reach a server. file: a file on a file system that both see; gloo: a broadcast over TCP; nccl: a
broadcast between GPUs; lora: adapters, each with its own name; none: not at all."""

VLLM_VERSIONS = ((0, 31), (0, 33))
"""First and last version of vLLM that the plugin and the calls of its endpoints are written for."""
PLUGIN = Path(__file__).resolve().parent / "plugin"
_CPU_CACHE_GB = 1


class ServeCommandConfig(Frozen):
    """One server."""

    model: str
    """Directory of the model."""
    name: str = "policy"
    """The model's name in requests."""
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65535)] = 8000
    sync: Sync = "file"
    dtype: str = "auto"
    """Data type of weights and computation. auto is the model's own; use float32 to compare log-probabilities with a
    trainer in float32."""
    tensor_parallel: _Count = 1
    """GPUs that the model is spread over."""
    max_model_tokens: _Count | None = None
    """Most tokens of prompt and response together; the model's own limit if not given."""
    lora_rank: _Count = 64
    """Largest rank of LoRA adapters."""
    cpu: bool = False
    """For a CPU build of vLLM: no graphs, unchunked prompts, 1 GB of KV cache, threads not pinned to cores."""
    program: str = "vllm"
    """The vllm command, possibly that of another Python environment. `vllm` is the one on the PATH, or else that of
    serving/vllm-gpu."""
    gpus: tuple[str, ...] | None = None
    """The devices that it sees, as CUDA_VISIBLE_DEVICES names them; those of this process if not given."""
    extra: tuple[str, ...] = ()
    """Further arguments of `vllm serve`."""

    @property
    def url(self) -> str:
        """The URL for clients on this host."""
        host = "127.0.0.1" if self.host in ("0.0.0.0", "::") else self.host
        return f"http://{host}:{self.port}"


def vllm_command(config: ServeCommandConfig) -> list[str]:
    """The vllm command line. It makes vLLM report the log-probabilities of the temperature-scaled distribution, for the
    sampled token and 20 others."""
    line = [config.program, "serve", config.model, "--served-model-name", config.name]
    line += ["--host", config.host, "--port", str(config.port), "--dtype", config.dtype]
    line += ["--seed", str(_seed_of_server(config))]
    line += ["--logprobs-mode", "processed_logprobs", "--max-logprobs", "20", "--disable-uvicorn-access-log"]
    if config.tensor_parallel > 1:
        line += ["--tensor-parallel-size", str(config.tensor_parallel)]
    if config.max_model_tokens is not None:
        line += ["--max-model-len", str(config.max_model_tokens)]
    if config.cpu:
        # With chunked prompts vLLM rewinds the random generators of requests, which it cannot do on a CPU.
        line += ["--enforce-eager", "--no-enable-chunked-prefill"]
    if config.sync in ("file", "gloo"):
        line += ["--worker-extension-cls", "swe_aem_vllm.Extension"]
    if config.sync in ("file", "gloo", "nccl"):
        line += ["--weight-transfer-config", json.dumps({"backend": config.sync})]
    if config.sync == "lora":
        line += ["--enable-lora", "--max-lora-rank", str(config.lora_rank), "--max-loras", "2"]
    return [*line, *config.extra]


def find_program(program: str) -> str | None:
    """The path of a vllm command; of the default one where serving/vllm-gpu/install.sh has made it, if no other is on
    the PATH. None if there is none."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return shutil.which(program) or (shutil.which(cache / "swe-aem/vllm-gpu/bin/vllm") if program == "vllm" else None)


def _seed_of_server(config: ServeCommandConfig) -> int:
    """A seed for what requests without one draw: two servers with the same would give equal prompts equal responses."""
    return zlib.crc32(f"{socket.gethostname()}:{config.port}".encode()) >> 1


def vllm_environment(config: ServeCommandConfig, inherited: Mapping[str, str]) -> dict[str, str]:
    """Environment variables of the server: the inherited ones, and those that the sync and the device need."""
    ours = {"VLLM_NO_USAGE_STATS": "1"}
    if config.sync in ("file", "gloo", "nccl"):
        ours["VLLM_SERVER_DEV_MODE"] = "1"
    if config.sync in ("file", "gloo"):
        ours["PYTHONPATH"] = os.pathsep.join(filter(None, [str(PLUGIN), inherited.get("PYTHONPATH")]))
    if config.sync == "lora":
        ours["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] = "True"
    if config.cpu:
        ours |= {"VLLM_CPU_KVCACHE_SPACE": str(_CPU_CACHE_GB), "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
    if config.gpus is not None:
        ours["CUDA_VISIBLE_DEVICES"] = ",".join(config.gpus)
    return {**inherited, **ours}
