"""A chat API's message: read as a turn, and made fit to be sent back.

A call that is malformed for an agent may not even be accepted in the history of the next request, for servers parse the
arguments of earlier calls. So it is sent back as a call that is well formed, with what the model wrote as its argument
`raw`, beside the answer that tells the model what was wrong.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from swe_aem.agent.families.calls import no_doubles, read_arguments
from swe_aem.agent.parsed import NAMELESS, Message, ParsedCall, ParsedTurn, call_id
from swe_aem.core import ChatCompletion

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""The names of functions that APIs take."""


def read_message(completion: ChatCompletion, number: int) -> ParsedTurn:
    """The turn that a message is; `number` is that of the response in its conversation. Never fails: a call that cannot
    be understood is malformed."""
    message = completion.message
    calls: list[ParsedCall] = []
    for n, call in enumerate(message.get("tool_calls") or ()):
        id = str(call.get("id") or "")
        if not id or any(id == other.id for other in calls):
            id = call_id(number, n)
        calls.append(_read_call(call.get("function") or {}, id, cut_off=completion.finish_reason == "length"))
    reasoning = message.get("reasoning_content")
    return ParsedTurn(content=message.get("content") or "", reasoning=reasoning, calls=tuple(calls))


def sent_back(message: Message, turn: ParsedTurn) -> Message:
    """The message as the API gets it in later requests: whole, with calls that it accepts."""
    sent = {**message, "role": "assistant"}
    if turn.calls:
        written = message["tool_calls"]
        sent["tool_calls"] = [_sent_back(call, parsed) for call, parsed in zip(written, turn.calls, strict=True)]
    elif sent.get("content") is None:
        sent["content"] = ""
    return encodable(sent)


def encodable(value: Any) -> Any:
    """The same JSON value without unpaired surrogates, which no request can hold."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, Mapping):
        return {encodable(key): encodable(item) for key, item in value.items()}
    return [encodable(item) for item in value] if isinstance(value, list | tuple) else value


def _read_call(function: Mapping[str, Any], id: str, *, cut_off: bool) -> ParsedCall:
    """A call, of which nothing but the id is known to be right."""
    name, raw = str(function.get("name") or ""), _text(function.get("arguments"))
    if not _NAME.fullmatch(name):
        problem = "the name of the tool is not a plain word" if name else "the call names no tool"
        return ParsedCall(id=id, raw=f"{name} {raw}".strip(), problem=problem)
    try:
        written = json.loads(raw, object_pairs_hook=no_doubles) if raw.strip() else {}
    except (ValueError, RecursionError):
        return ParsedCall(id=id, name=name, raw=raw, problem="the arguments are not valid JSON", unclosed=cut_off)
    arguments = read_arguments(written)
    if arguments is None:
        return ParsedCall(id=id, name=name, raw=raw, problem="the arguments are not a JSON object")
    converted = int(not isinstance(written, dict))
    return ParsedCall(id=id, name=name, arguments=arguments, raw=raw, converted=converted)


def _text(arguments: Any) -> str:
    """Arguments as text. Some servers write them as JSON, not as a text that holds it."""
    return arguments if isinstance(arguments, str) else "" if arguments is None else json.dumps(arguments)


def _sent_back(call: Message, parsed: ParsedCall) -> Message:
    if parsed.problem:
        arguments = json.dumps({"raw": parsed.raw}, ensure_ascii=False)
    elif parsed.converted or not parsed.raw.strip():
        arguments = json.dumps(parsed.arguments, ensure_ascii=False)
    else:
        arguments = parsed.raw
    function = {**(call.get("function") or {}), "name": parsed.name or NAMELESS, "arguments": arguments}
    return {**call, "id": parsed.id, "type": "function", "function": function}
