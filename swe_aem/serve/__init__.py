"""Starts and supervises vLLM servers, and sends a trainer's weights to them.

`supervisor` starts and ends a server, `sync` sends new weights from the trainer, and `plugin` runs inside vLLM's
workers. `swe_aem.serve.connect`, which a trainer uses, needs torch and is imported by its own name.
"""

from swe_aem.serve.command import ServeCommandConfig, vllm_command, vllm_environment
from swe_aem.serve.config import ServersConfig
from swe_aem.serve.supervisor import Served, healthy

__all__ = ["ServeCommandConfig", "Served", "ServersConfig", "healthy", "vllm_command", "vllm_environment"]
