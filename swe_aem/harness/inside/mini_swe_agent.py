# /// script
# requires-python = ">=3.11"
# dependencies = ["mini-swe-agent==2.4.6"]
#
# [tool.swe-aem]
# shell = "bash"
# finish = { bash = { command = "echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT" } }
#
# [tool.swe-aem.environment]
# LITELLM_LOCAL_MODEL_COST_MAP = "True"
# MSWEA_SILENT_STARTUP = "1"
# MSWEA_COST_TRACKING = "ignore_errors"
#
# [tool.swe-aem.options]
# config = "swebench.yaml"
# command_timeout_s = 60
# ///
"""mini-swe-agent with its own loop, prompts and templates; commands run in the trajectory's sandbox.

`config` names one of its configurations. Replaced are the environment (the sandbox activates conda, as its docker image
does), the model, which is behind the gateway, and the limit on cost, which is off.
"""

# pyright: reportMissingImports=false
import subprocess
from typing import Any

from minisweagent.agents.default import DefaultAgent
from minisweagent.config import builtin_config_dir, get_config_from_spec
from minisweagent.environments.local import LocalEnvironment
from minisweagent.models.litellm_model import LitellmModel
from swe_aem_worker import Conversation

_ENDS = {"Submitted": "submitted", "LimitsExceeded": "turn_limit", "RepeatedFormatError": "malformed"}


class SandboxEnvironment(LocalEnvironment):
    """mini-swe-agent's environment, with the sandbox in place of its subprocess."""

    def __init__(self, conversation: Conversation, **settings: Any) -> None:
        super().__init__(**settings)
        self.sandbox = conversation.sandbox

    def execute(self, action: dict, cwd: str = "", *, timeout: int | None = None) -> dict[str, Any]:
        """Run the action's command in a fresh shell; raises `Submitted` if it submits."""
        command, limit_s = action.get("command", ""), timeout or self.config.timeout
        done = self.sandbox.run(command, timeout_s=limit_s, cwd=cwd or self.config.cwd, env=self.config.env)
        output = {"output": done.text, "returncode": done.exit_code, "exception_info": ""}
        if done.timed_out:
            late = subprocess.TimeoutExpired(command, limit_s)
            why = f"An error occurred while executing the command: {late}"
            output |= {"returncode": -1, "exception_info": why, "extra": {"exception_type": "TimeoutExpired"}}
        self._check_finished(output)
        return output


def converse(conversation: Conversation) -> str:
    """Play one trajectory."""
    config = get_config_from_spec(builtin_config_dir / "benchmarks" / conversation.options["config"])
    environment = SandboxEnvironment(
        conversation,
        cwd=conversation.workdir,
        timeout=conversation.options["command_timeout_s"],
        env={name: value for name, value in config["environment"]["env"].items() if name != "BASH_ENV"},
    )
    asked = {**config["model"]["model_kwargs"], "api_base": conversation.base_url, "api_key": "none"}
    model = LitellmModel(**{**config["model"], "model_name": f"openai/{conversation.model}", "model_kwargs": asked})
    agent = DefaultAgent(model, environment, **{**config["agent"], "cost_limit": 0})
    status = agent.run(conversation.statement).get("exit_status", "")
    if status not in _ENDS:
        raise RuntimeError(f"mini-swe-agent ended with {status or 'nothing'}")
    return _ENDS[status]
