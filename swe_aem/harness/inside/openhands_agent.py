# /// script
# requires-python = ">=3.12"
# dependencies = ["openhands-sdk==1.58.0", "openhands-tools==1.58.0"]
#
# [tool.swe-aem]
# shell = "terminal"
# finish = { finish = { message = "The issue is resolved." } }
#
# [tool.swe-aem.environment]
# LITELLM_LOCAL_MODEL_COST_MAP = "True"
# OPENHANDS_SUPPRESS_BANNER = "1"
# LOG_LEVEL = "ERROR"
#
# [tool.swe-aem.options]
# fake_replies = 10
# instruction = ""
# no_change_timeout_s = 30
# ///
"""OpenHands with its own agent, prompts, tool schemas and terminal protocol; commands and files are in the sandbox.

The instruction has the eight phases of OpenHands' SWE-bench benchmark, reworded; `instruction` names the file of
another Jinja template, e.g. the published one. As in that benchmark, text without a tool call gets a reply:
`fake_replies` is how many, before the work counts as submitted. `no_change_timeout_s` is how long a command may print
nothing before the model is asked what to do.
"""

# pyright: reportMissingImports=false
import tempfile
from pathlib import Path

import openhands_editor
import openhands_terminal
from jinja2 import Template
from openhands.sdk import LLM, Agent, Conversation, LocalWorkspace, Tool
from openhands.sdk.conversation.state import ConversationExecutionStatus as Status
from openhands.sdk.event import ActionEvent
from openhands.sdk.event.conversation_error import ConversationErrorEvent
from openhands.sdk.tool.builtins.finish import FinishAction
from openhands.tools.task_tracker import TaskTrackerTool
from pydantic import SecretStr
from swe_aem_worker import Conversation as Given

_INSTRUCTION = Path(__file__).with_name("openhands_instruction.j2")
_FAKE_REPLY = (
    "Nobody can answer questions here. Continue as you think best, and call the finish tool, with your result as its "
    "message, once the issue is resolved.\n"
)
_GIVE_UP = "If you see no way to resolve it, call the finish tool as well.\n"


def converse(given: Given) -> str:
    """Play one trajectory."""
    with (
        tempfile.TemporaryDirectory() as scratch,
        openhands_terminal.using(given),
        openhands_editor.using(given),
    ):
        conversation = Conversation(
            agent=_agent(given),
            workspace=LocalWorkspace(working_dir=scratch),
            max_iteration_per_run=given.max_turns,
            visualizer=None,
        )
        try:
            instance = {
                "repo_path": given.workdir,
                "problem_statement": given.statement,
                "base_commit": given.base_commit,
            }
            template = Path(given.options["instruction"] or _INSTRUCTION).read_text(encoding="utf-8")
            conversation.send_message(Template(template).render(instance=instance))
            return _run(conversation, given.options["fake_replies"])
        finally:
            conversation.close()


def _run(conversation: Conversation, fake_replies: int) -> str:
    """Run until the agent finishes, with a reply for each message to the user."""
    for said in range(fake_replies + 1):
        conversation.run()
        status, events = conversation.state.execution_status, list(conversation.state.events)
        if status == Status.STUCK:
            return "turn_limit"
        if status != Status.FINISHED:
            codes = [event.code for event in events if isinstance(event, ConversationErrorEvent)]
            if codes[-1:] == ["MaxIterationsReached"]:
                return "turn_limit"
            raise RuntimeError(f"OpenHands ended with {status}: {', '.join(codes)}")
        actions = [event.action for event in events if isinstance(event, ActionEvent)]
        if (actions and isinstance(actions[-1], FinishAction)) or said == fake_replies:
            break
        conversation.send_message(_FAKE_REPLY + (_GIVE_UP if said else ""))
    return "submitted"


def _agent(given: Given) -> Agent:
    known = {"conversation": given.id}
    tools = [Tool(name="terminal", params=known), Tool(name="file_editor", params=known)]
    return Agent(
        llm=_llm(given),
        tools=[*tools, Tool(name=TaskTrackerTool.name)],
        system_prompt_kwargs={"cli_mode": True},
        condenser=None,
        agent_context=None,
    )


def _llm(given: Given) -> LLM:
    """The model behind the gateway. The overrides keep litellm from applying the settings of a model of the same
    name."""
    capabilities = ("reasoning_effort", "prompt_cache", "vision", "responses_api")
    settings = {
        "model": f"openai/{given.model}",
        "base_url": given.base_url,
        "api_key": SecretStr("none"),
        "usage_id": "agent",
        "api_mode": "chat",
        "capability_overrides": {f"supports_{name}": False for name in capabilities}
        | {"supports_sampling_params": True},
        "disable_vision": True,
        "reasoning_effort": None,
        "extended_thinking_budget": None,
        "prompt_cache_retention": None,
        "caching_prompt": False,
        "force_string_serializer": True,
        "input_cost_per_token": 0.0,
        "output_cost_per_token": 0.0,
        "max_input_tokens": given.max_context_tokens,
        "max_output_tokens": given.max_response_tokens,
        "num_retries": 3,
        "retry_min_wait": 1,
        "retry_max_wait": 2,
        "timeout": 3600,
    }
    return LLM(**{name: value for name, value in settings.items() if name in LLM.model_fields})
