# /// script
# requires-python = ">=3.11"
# dependencies = []
#
# [tool.swe-aem]
# inside = true
# shell = "bash"
# command = { command = "{command}", description = "Runs a command" }
# finish = {}
#
# [tool.swe-aem.npm]
# opencode = "npm:opencode-linux-{cpu}@1.18.33"
#
# [tool.swe-aem.options]
# config = {}
# ///
"""OpenCode in the sandbox, with its own prompts and tools. It speaks OpenAI's chat completions.

Only the gateway can be reached, so whatever asks other servers is off: updates, sharing, lists of models, language
servers. So are titles, compaction and pruning, which are requests beside the conversation or rewrite it. `config` is
more of its opencode.json.
"""

import json

from swe_aem_worker import AGENT_HOME, Conversation

_ON = "1"


def _config(conversation: Conversation) -> dict:
    """Its opencode.json, with the gateway as the one provider."""
    limit = {"context": conversation.max_context_tokens, "output": conversation.max_response_tokens}
    provider = {
        "npm": "@ai-sdk/openai-compatible",
        "options": {"baseURL": conversation.base_url, "apiKey": "none", "timeout": False},
        "models": {"policy": {"name": conversation.model, "limit": limit, "tool_call": True}},
    }
    return {
        "model": "policy/policy",
        "small_model": "policy/policy",
        "enabled_providers": ["policy"],
        "provider": {"policy": provider},
        "permission": "allow",
        "agent": {"title": {"disable": True}, "summary": {"disable": True}},
        "compaction": {"auto": False, "prune": False},
        "autoupdate": False,
        "formatter": False,
        "lsp": False,
        "share": "disabled",
        "snapshot": False,
        **conversation.options["config"],
    }


def converse(conversation: Conversation) -> str:
    """Play one trajectory: it ends with the first response that calls no tool."""
    homes = {f"XDG_{name}_HOME": f"{AGENT_HOME}/{name.lower()}" for name in ("CACHE", "CONFIG", "DATA", "STATE")}
    conversation.run_inside(
        f"{conversation.packages}/opencode/bin/opencode",
        "run",
        env={
            **homes,
            "OPENCODE_CONFIG_CONTENT": json.dumps(_config(conversation)),
            "OPENCODE_DISABLE_AUTOUPDATE": _ON,
            "OPENCODE_DISABLE_DEFAULT_PLUGINS": _ON,
            "OPENCODE_DISABLE_LSP_DOWNLOAD": _ON,
            "OPENCODE_DISABLE_MODELS_FETCH": _ON,
        },
        said=conversation.instruction,
    )
    return "submitted"
