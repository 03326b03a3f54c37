"""`ScriptedChat`: a chat policy that says what a test wrote."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from swe_aem.core import ChatCompletion, SamplingParams, Usage

Reply = str | dict[str, Any] | ChatCompletion | BaseException | Callable[[Sequence[dict[str, Any]]], Any]
"""Text, an assistant message, a completion, an error to raise, or a function of the messages that returns (or awaits)
one of these."""


class ChatRequest(NamedTuple):
    """What was asked."""

    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]]
    params: SamplingParams
    trajectory_id: str


class ScriptedChat:
    """Plays the replies in order, in each trajectory from the first, and repeats the last. Keeps what it was asked.

    Usage counts a token for four characters, and costs a dollar for a million tokens.
    """

    def __init__(self, replies: Sequence[Reply], *, name: str = "scripted-chat") -> None:
        self.name = name
        self.replies = list(replies)
        self.requests: list[ChatRequest] = []
        self.closed = False
        self._asked: Counter[str] = Counter()

    async def chat(
        self,
        messages: Sequence[dict[str, Any]],
        tools: Sequence[dict[str, Any]],
        params: SamplingParams,
        *,
        trajectory_id: str,
    ) -> ChatCompletion:
        """The next reply, as `core.ChatPolicy` says."""
        json.dumps([messages, tools], ensure_ascii=False).encode()  # a request has to hold it
        self.requests.append(ChatRequest(list(messages), list(tools), params, trajectory_id))
        reply = self.replies[min(self._asked[trajectory_id], len(self.replies) - 1)]
        self._asked[trajectory_id] += 1
        if callable(reply):
            reply = reply(messages)
            if hasattr(reply, "__await__"):
                reply = await reply
        if isinstance(reply, BaseException):
            raise reply
        if isinstance(reply, ChatCompletion):
            return reply
        message = reply if isinstance(reply, dict) else {"role": "assistant", "content": reply}
        prompt, said = _tokens([*messages, *tools]), _tokens([message])
        usage = Usage(prompt_tokens=prompt, completion_tokens=said, cost_usd=(prompt + said) / 1e6)
        return ChatCompletion(message=message, finish_reason="stop", usage=usage)

    async def close(self) -> None:
        """Note that it was closed."""
        self.closed = True


def calls(*called: tuple[str, Any], content: str | None = None, **members: Any) -> dict[str, Any]:
    """An assistant message that calls tools: name and arguments of each, an object or a text that is taken as it is.
    Each call of it has an id as of an API. `members` are further members of the message."""
    made = [
        {
            "id": f"api-{name}-{n}",
            "type": "function",
            "function": {"name": name, "arguments": given if isinstance(given, str) else json.dumps(given)},
        }
        for n, (name, given) in enumerate(called)
    ]
    return {"role": "assistant", "content": content, "tool_calls": made, **members}


def _tokens(said: Sequence[dict[str, Any]]) -> int:
    return -(-len(json.dumps(said)) // 4)
