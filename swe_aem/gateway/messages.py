"""A canonical form of clients' messages, and the check whether an assistant message echoes a served response.

Clients do not send a conversation back as they received it: content may be a string or a list of parts, empty content
"", null or missing, arguments may have other spacing or key order, members such as `refusal` are added, reasoning is
dropped. Messages that mean the same have equal canonical forms, except for assistant messages, which `echoes` compares.
"""

import json
import math
import re
from typing import Any

from swe_aem.agent import Message

_ESCAPE = re.compile(r"\\+u([0-9a-fA-F]{4})")
"""A character's escape in JSON, whether it is JSON's own or stands in the string."""
_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant", "tool": "tool"}


UNSEEN = "[what stood here is no text, and the policy reads text only]"
"""Stands for a picture or document in the result of a tool, which the policy's own call has brought there."""


class BadRequest(Exception):
    """A request that the gateway refuses; the message says what to change."""


def canonical(message: Any) -> Message:
    """The canonical form of a message: `role`, `content` (a string), and the other members that its role needs. Raises
    `BadRequest`."""
    if not isinstance(message, dict) or message.get("role") not in _ROLES:
        raise BadRequest(f"a message needs one of the roles {', '.join(_ROLES)}")
    said: Message = {"role": _ROLES[message["role"]], "content": ""}
    said["content"] = _text(message.get("content"), of_tool=said["role"] == "tool")
    if said["role"] == "tool":
        said["tool_call_id"] = str(message.get("tool_call_id", ""))
    if said["role"] == "assistant":
        reasoning = _text(message.get("reasoning_content") or message.get("reasoning"))
        if reasoning:
            said["reasoning_content"] = reasoning
        if message.get("tool_calls"):
            said["tool_calls"] = [_call(call) for call in message["tool_calls"]]
    return said


def encodable(message: Message) -> Message:
    """The message without unpaired surrogates in its arguments, because clients cannot send these back as UTF-8."""
    calls = [
        {**call, "function": {**call["function"], "arguments": _paired(call["function"]["arguments"])}}
        for call in message.get("tool_calls", ())
    ]
    return {**message, "tool_calls": calls} if calls else message


def echoes(served: Message, sent: Message) -> bool:
    """Is the canonical message `sent` the assistant message `served`, as a client sends it back?

    Content may have lost white space at its ends, and reasoning may be missing. Calls must be the same, with arguments
    of the same value, in which Claude Code reads `\\u00e9` as é. A call that OpenCode cannot run is one of its tool
    `invalid`, which names the tool that was called. Arguments that were not a JSON object are not compared: each client
    changes them in its own way.
    """
    if sent["role"] != "assistant" or sent["content"].strip() != served["content"].strip():
        return False
    reasoning = sent.get("reasoning_content", "").strip()
    if reasoning and reasoning != served.get("reasoning_content", "").strip():
        return False
    calls, echoed = served.get("tool_calls", []), sent.get("tool_calls", [])
    return len(calls) == len(echoed) and all(map(_same_call, calls, echoed))


def parsed_arguments(text: str) -> dict[str, Any] | None:
    """The JSON object that a call's arguments hold; None if they do not hold one."""
    try:
        value = json.loads(text, parse_float=_number, parse_int=_number, parse_constant=_number)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _same_call(served: dict[str, Any], sent: dict[str, Any]) -> bool:
    if served["id"] != sent["id"]:
        return False
    name, echoed = served["function"]["name"], sent["function"]
    if name != echoed["name"]:
        return echoed["name"] == "invalid" and (parsed_arguments(echoed["arguments"]) or {}).get("tool") == name
    if served["function"]["arguments"] == echoed["arguments"]:
        return True
    arguments = parsed_arguments(served["function"]["arguments"])
    return arguments is None or _unescaped(arguments) == _unescaped(parsed_arguments(echoed["arguments"]))


def _paired(text: str) -> str:
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _number(text: str) -> int | float:
    """A JSON number as clients in JavaScript read and write it: a double, with 1.0 as 1. Raises `ValueError` for what
    is none, such as NaN."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is no number of JSON")
    return int(value) if value.is_integer() else value


def _unescaped(value: Any) -> str:
    """`_spelled`, with each `\\u00e9` that stands in a string as its character."""
    return _spelled(json.loads(_ESCAPE.sub(r"\\u\1", _spelled(value))))


def _spelled(value: Any) -> str:
    """One text per JSON value, so that true differs from 1."""
    return json.dumps(value, sort_keys=True)


def _text(content: Any, *, of_tool: bool = False) -> str:
    """Content as text; the parts of a list are joined by line ends, as servers do. Raises `BadRequest` for parts that
    are no text, which only the result of a tool may have."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        parts = [_part(part, of_tool=of_tool) for part in content]
        if all(isinstance(part, str) for part in parts):
            return "\n".join(parts)
        raise BadRequest("the policy reads text only; leave out images and audio")
    raise BadRequest("the content of a message is text, or a list of text parts")


def _part(part: Any, *, of_tool: bool) -> Any:
    """The text of a part; None if it has none."""
    if not isinstance(part, dict):
        return None
    return part.get("text", UNSEEN if of_tool else None)


def _call(call: Any) -> dict[str, Any]:
    try:
        id, name, arguments = call["id"], call["function"]["name"], call["function"].get("arguments") or ""
    except (KeyError, TypeError, AttributeError) as error:
        raise BadRequest(f"a tool call needs an id and a name: {error!r}") from error
    if id is None or name is None:
        raise BadRequest("a tool call needs an id and a name")
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return {"id": str(id), "type": "function", "function": {"name": str(name), "arguments": text}}
