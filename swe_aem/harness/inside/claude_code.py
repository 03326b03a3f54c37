# /// script
# requires-python = ">=3.11"
# dependencies = []
#
# [tool.swe-aem]
# inside = true
# shell = "Bash"
# finish = {}
#
# [tool.swe-aem.npm]
# claude-code = "npm:@anthropic-ai/claude-code-linux-{cpu}@2.1.332"
#
# [tool.swe-aem.options]
# command_timeout_s = 120
# settings = {}
# ///
"""Claude Code in the sandbox, with its own prompts and tools. It speaks Anthropic's messages.

Only the gateway can be reached, so whatever asks other servers is off: telemetry, updates, error reports. So are the
small requests beside a conversation, such as those for its title, and compaction, which rewrites it. `settings` are
more of its settings.json.
"""

import json

from swe_aem_worker import AGENT_HOME, Conversation

_ON = "1"


def converse(conversation: Conversation) -> str:
    """Play one trajectory: it ends with the first response that calls no tool."""
    limit_ms = str(int(conversation.options["command_timeout_s"] * 1000))
    conversation.run_inside(
        f"{conversation.packages}/claude-code/claude",
        "--print",
        "--dangerously-skip-permissions",
        "--model",
        conversation.model,
        "--max-turns",
        str(conversation.max_turns),
        "--settings",
        json.dumps(conversation.options["settings"]),
        env={
            "ANTHROPIC_BASE_URL": conversation.base_url.removesuffix("/v1"),
            "ANTHROPIC_API_KEY": "none",
            "ANTHROPIC_DEFAULT_HAIKU_MODEL": conversation.model,
            "API_TIMEOUT_MS": "3600000",
            "BASH_DEFAULT_TIMEOUT_MS": limit_ms,
            "BASH_MAX_TIMEOUT_MS": limit_ms,
            "CLAUDE_CONFIG_DIR": AGENT_HOME,
            "CLAUDE_CODE_ATTRIBUTION_HEADER": "0",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": _ON,
            "DISABLE_AUTOUPDATER": _ON,
            "DISABLE_COMPACT": _ON,
            "DISABLE_ERROR_REPORTING": _ON,
            "DISABLE_TELEMETRY": _ON,
            "IS_SANDBOX": _ON,
        },
        said=conversation.instruction,
    )
    return "submitted"
