# /// script
# requires-python = ">=3.11"
# dependencies = []
#
# [tool.swe-aem]
# shell = "run"
# finish = { done = {} }
# ///
"""An agent that asks a sub-agent after each command, and then goes on from a summary in the place of its history."""

# pyright: reportMissingImports=false
import json
import urllib.request
from typing import Any

from swe_aem_worker import Conversation

TOOLS = [
    {"type": "function", "function": {"name": name, "description": name, "parameters": {"type": "object"}}}
    for name in ("run", "done")
]


def ask(conversation: Conversation, text: str) -> list[Any]:
    """The calls of the policy's response to one message."""
    body = {"model": "any", "messages": [{"role": "user", "content": text}], "tools": TOOLS}
    url, headers = f"{conversation.base_url}/chat/completions", {"Content-Type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(url, json.dumps(body).encode(), headers)) as answer:
        return json.load(answer)["choices"][0]["message"].get("tool_calls") or []


def converse(conversation: Conversation) -> str:
    said = conversation.statement
    while True:
        outputs = []
        for call in ask(conversation, said):
            if call["function"]["name"] == "done":
                return "submitted"
            command = json.loads(call["function"]["arguments"])["command"]
            outputs.append(conversation.sandbox.run(command, timeout_s=60).text)
        ask(conversation, f"Another agent ran a command. What does this say? {outputs}")
        said = f"{conversation.statement}\nSo far: commands ran, and said {outputs}"
