"""Starts and supervises vLLM servers, and sends a trainer's weights to them.

`supervisor` starts and ends a server, and `plugin` runs inside vLLM's workers. New weights have two planes (`planes`):
`sync` controls servers, `sender` sends tensors by a `transport`. `connect` opens both; sending needs torch.
"""

from swe_aem.serve.command import ServeCommandConfig, vllm_command, vllm_environment
from swe_aem.serve.config import ServersConfig
from swe_aem.serve.supervisor import Served, healthy

__all__ = ["ServeCommandConfig", "Served", "ServersConfig", "healthy", "vllm_command", "vllm_environment"]
