"""Responses as an agent sees them: content, reasoning and tool calls, whatever the model's chat format."""

import json
from typing import Any

from pydantic import Field

from swe_aem.core.base import Frozen

Message = dict[str, Any]
"""A chat message: `role`, `content`, and for assistants `reasoning_content` and `tool_calls`."""


NAMELESS = "malformed_tool_call"
"""The name given to a call whose text names no tool."""


class ParsedCall(Frozen):
    """One tool call as the model wrote it."""

    id: str = ""
    """The id that a chat API gave it; empty where `call_id` makes one."""
    name: str = ""
    arguments: dict[str, Any] = Field(default_factory=dict)
    raw: str
    """The text of the call."""
    problem: str | None = None
    """Why it is malformed, in words for the model; None if it is well formed."""
    unclosed: bool = False
    """True if the response ended before the call did."""
    converted: int = 0
    """1 if `arguments` was written as a JSON text or as null, else 0."""


class ParsedTurn(Frozen):
    """A parsed response."""

    content: str
    reasoning: str | None = None
    calls: tuple[ParsedCall, ...] = ()

    def message(self, number: int) -> Message:
        """The response as a chat message in OpenAI's format. Arguments are JSON text; those of a malformed call are its
        text as written.

        `number` is the number of the response in its conversation, from which the ids of its calls are made.
        """
        message: Message = {"role": "assistant", "content": self.content}
        if self.reasoning is not None:
            message["reasoning_content"] = self.reasoning
        if self.calls:
            message["tool_calls"] = [
                {
                    "id": id,
                    "type": "function",
                    "function": {
                        "name": call.name or NAMELESS,
                        "arguments": call.raw if call.problem else json.dumps(call.arguments, ensure_ascii=False),
                    },
                }
                for id, call in zip(self.call_ids(number), self.calls, strict=True)
            ]
        return message

    def call_ids(self, number: int) -> list[str]:
        """The ids of the calls of response `number` in its conversation."""
        return [call.id or call_id(number, n) for n, call in enumerate(self.calls)]


def call_id(response: int, n: int) -> str:
    """The id of tool call number `n` in response number `response` of a conversation."""
    return f"call_{response}_{n}"
