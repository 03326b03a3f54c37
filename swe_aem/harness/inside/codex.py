# /// script
# requires-python = ">=3.11"
# dependencies = []
#
# [tool.swe-aem]
# inside = true
# shell = "exec_command"
# command = { cmd = "{command}", yield_time_ms = 30000 }
# finish = {}
#
# [tool.swe-aem.npm]
# codex = "npm:@openai/codex@0.171.0-linux-{cpu}"
#
# [tool.swe-aem.options]
# config = {}
# model = ""
# ///
"""Codex in the sandbox, with its own prompts and tools. It speaks OpenAI's responses.

Only the gateway can be reached, so whatever asks other servers is off: telemetry, updates, searches, plugins. So are
sub-agents, and compaction, which rewrites the history. `config` are more of its settings, by their dotted names;
`model` is the name under which it knows the policy, by which it chooses prompts and tools.
"""

import json
import platform

from swe_aem_worker import AGENT_HOME, Conversation

_PROGRAM = f"codex/vendor/{platform.machine()}-unknown-linux-musl/bin/codex"
_CONFIG = """
model_provider = "policy"
model_context_window = {endless}
model_auto_compact_token_limit = {endless}
check_for_update_on_startup = false
web_search = "disabled"
[analytics]
enabled = false
[feedback]
enabled = false
[agents]
enabled = false
[skills]
include_instructions = false
[skills.bundled]
enabled = false
[features]
apps = false
goals = false
hooks = false
image_generation = false
plugins = false
shell_snapshot = false
tool_suggest = false
view_image = false
[model_providers.policy]
name = "policy"
base_url = {url}
wire_api = "responses"
stream_idle_timeout_ms = 86400000
"""
_ENDLESS_TOKENS = 1 << 40
"""It compacts at nine tenths of what it knows of the context; the gateway ends a conversation that is too long."""


def converse(conversation: Conversation) -> str:
    """Play one trajectory: it ends with the first response that calls no tool."""
    config = _CONFIG.format(endless=_ENDLESS_TOKENS, url=json.dumps(conversation.base_url))
    more = [f"--config={name}={json.dumps(value)}" for name, value in conversation.options["config"].items()]
    conversation.sandbox.write_file(f"{AGENT_HOME}/config.toml", config.encode())
    conversation.run_inside(
        f"{conversation.packages}/{_PROGRAM}",
        "exec",
        "--dangerously-bypass-approvals-and-sandbox",
        "--skip-git-repo-check",
        "--ephemeral",
        "--model",
        conversation.options["model"] or conversation.model,
        *more,
        "-",
        env={"CODEX_HOME": AGENT_HOME},
        said=conversation.instruction,
    )
    return "submitted"
