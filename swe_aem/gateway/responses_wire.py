"""OpenAI's responses.

Items that stand together become one message of chat completions: reasoning, text and calls of the assistant. Nothing is
stored for clients: a request holds the whole conversation.
"""

import json
import time
from collections.abc import Iterator
from typing import Any

from swe_aem.agent import Message
from swe_aem.gateway.chat_wire import failure as failure
from swe_aem.gateway.messages import BadRequest, parsed_arguments
from swe_aem.gateway.tree import Turn
from swe_aem.gateway.wire import (
    Honoured,
    Request,
    answer_of,
    check,
    equals,
    event,
    function_tool,
    is_cut_off,
    members,
)

_WHOLE = "send the whole conversation as `input`"
_HONOURED: Honoured = {
    "previous_response_id": (lambda _: False, f"responses are not kept for clients, {_WHOLE}"),
    "conversation": (lambda _: False, f"conversations are not kept for clients, {_WHOLE}"),
    "store": (equals(False), "responses are not kept for clients"),
    "background": (equals(False), "a response is the answer to its request"),
    "prompt": (lambda _: False, "there are no stored prompts"),
    "truncation": (equals("disabled"), "the conversation is what the client sends"),
    "context_management": (equals([]), "the conversation is what the client sends"),
    "tool_choice": (equals("auto"), "the model chooses its tools"),
    "text": (lambda value: _format(value) in (None, "text"), "responses are text"),
    "top_logprobs": (equals(0), "log-probabilities are kept for training, not sent"),
    "include": (lambda value: "message.output_text.logprobs" not in value, "log-probabilities are not sent"),
}
_FREE_TEXT = {
    "type": "object",
    "properties": {"input": {"type": "string", "description": "The whole input, as free text"}},
    "required": ["input"],
}
"""Parameters of the function that stands for a tool of the type `custom`, whose input is a text."""
_CALLS = {"function_call": "arguments", "custom_tool_call": "input"}
"""Items that are calls, and what of them is given to the tool."""
_TEXTS = ("input_text", "output_text", "text", "refusal")


def read_request(body: Any) -> Request:
    """The request that the JSON `body` makes; raises `BadRequest`."""
    if not isinstance(body, dict) or not body.get("input") or not isinstance(body["input"], list | str):
        raise BadRequest("a request is a JSON object whose `input` is a text or a non-empty list of items")
    check(body, _HONOURED)
    system = [{"role": "system", "content": body["instructions"]}] if body.get("instructions") else []
    items = [{"role": "user", "content": body["input"]}] if isinstance(body["input"], str) else body["input"]
    tools = [_read_tool(tool) for tool in members(body.get("tools"), "tools")]
    return Request([*system, *_read_items(members(items, "input"))], tools, bool(body.get("stream")))


def answer(model: str, turn: Turn) -> dict[str, Any]:
    """The JSON body for an answered turn."""
    cut = is_cut_off(turn)
    return {
        **_head(model, turn),
        "status": "incomplete" if cut else "completed",
        "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
        "output": _items(turn),
        "usage": _usage(turn),
    }


def events(model: str, turn: Turn) -> bytes:
    """The answer as server-sent events, each part of an item in one piece."""
    whole = answer(model, turn)
    begun = {**_head(model, turn), "status": "in_progress", "incomplete_details": None, "output": [], "usage": None}
    sent: list[dict[str, Any]] = [
        {"type": f"response.{name}", "response": begun} for name in ("created", "in_progress")
    ]
    for n, item in enumerate(whole["output"]):
        sent += [{**data, "output_index": n} for data in _item_events(item)]
    sent.append({"type": f"response.{whole['status']}", "response": whole})
    return b"".join(event({**data, "sequence_number": n}, data["type"]) for n, data in enumerate(sent))


def _read_items(items: list[dict[str, Any]]) -> Iterator[Message]:
    """The messages that items make."""
    begun: Message | None = None
    for item in items:
        kind = item.get("type", "message")
        of_assistant = kind in ("reasoning", *_CALLS) or (kind == "message" and item.get("role") == "assistant")
        if begun is not None and not (of_assistant and _continues(begun, kind)):
            yield begun
            begun = None
        if of_assistant:
            begun = begun or {"role": "assistant", "content": [], "reasoning_content": [], "tool_calls": []}
            _add(begun, kind, item)
        else:
            yield _read_item(kind, item)
    if begun is not None:
        yield begun


def _continues(begun: Message, kind: str) -> bool:
    """Can an item of that kind belong to the message? A response has its reasoning first, then its text, then its
    calls."""
    if kind in _CALLS:
        return True
    return not begun["tool_calls"] and (kind == "message" or not begun["content"])


def _add(begun: Message, kind: str, item: dict[str, Any]) -> None:
    match kind:
        case "reasoning":
            thought = item.get("content") or item.get("summary")
            begun["reasoning_content"] += [{"text": part.get("text")} for part in members(thought, "reasoning")]
        case "message":
            begun["content"] += _texts(item.get("content"))
        case _:
            arguments = item.get("arguments")
            if kind == "custom_tool_call":
                arguments = json.dumps({"input": item.get("input")}, ensure_ascii=False)
            function = {"name": item.get("name"), "arguments": arguments}
            begun["tool_calls"].append({"id": item.get("call_id"), "function": function})


def _read_item(kind: str, item: dict[str, Any]) -> Message:
    match kind:
        case "message":
            return {"role": item.get("role"), "content": _texts(item.get("content"))}
        case "function_call_output" | "custom_tool_call_output":
            return {"role": "tool", "tool_call_id": item.get("call_id"), "content": item.get("output")}
        case "item_reference":
            raise BadRequest(f"items are not kept for clients, so that {item.get('id')!r:.100} is unknown; {_WHOLE}")
        case _:
            raise BadRequest(f"an item of the type {kind!r:.100} means nothing to the policy; leave it out")


def _texts(content: Any) -> list[dict[str, Any]]:
    """The parts of a content, each with its text; raises `BadRequest`."""
    if isinstance(content, str):
        return [{"text": content}]
    parts = members(content, "content")
    for part in parts:
        if part.get("type") not in _TEXTS:
            raise BadRequest(f"the policy reads text only; leave out content of the type {part.get('type')!r:.100}")
    return [{"text": part.get("refusal" if part["type"] == "refusal" else "text")} for part in parts]


def _read_tool(tool: dict[str, Any]) -> dict[str, Any]:
    if tool.get("type") == "custom":
        return function_tool(tool.get("name"), _described(tool), _FREE_TEXT)
    if tool.get("type") != "function":
        raise BadRequest(f"a tool of the type {tool.get('type')!r:.100} is not supported: give functions")
    return function_tool(tool.get("name"), tool.get("description"), tool.get("parameters"))


def _described(tool: dict[str, Any]) -> str | None:
    """The description of a tool of free text, with the grammar of its input if it has one."""
    asked = tool.get("format")
    grammar = asked.get("definition") if isinstance(asked, dict) else None
    said = [text for text in (tool.get("description"), grammar and f"The input's grammar:\n{grammar}") if text]
    return "\n\n".join(said) or None


def _head(model: str, turn: Turn) -> dict[str, Any]:
    return {
        "id": f"resp_{turn.id}",
        "object": "response",
        "created_at": int(time.time()),
        "model": model,
        "error": None,
        "instructions": None,
        "metadata": {},
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "store": False,
        "tool_choice": "auto",
        "tools": [],
        "temperature": None,
        "top_p": None,
        "truncation": "disabled",
    }


def _items(turn: Turn) -> list[dict[str, Any]]:
    served, status = answer_of(turn).message, "incomplete" if is_cut_off(turn) else "completed"
    thought, calls, items = served.get("reasoning_content"), served.get("tool_calls", []), []
    if thought:
        parts = [{"type": "reasoning_text", "text": thought}]
        items.append({"type": "reasoning", "id": f"rs_{turn.id}", "summary": [], "content": parts, "status": status})
    if served["content"] or not calls:
        parts = [{"type": "output_text", "text": served["content"], "annotations": [], "logprobs": []}]
        message = {"type": "message", "id": f"msg_{turn.id}", "role": "assistant", "content": parts, "status": status}
        items.append(message)
    for n, call in enumerate(calls):
        named = {"type": "function_call", "id": f"fc_{turn.id}_{n}", "call_id": call["id"], "status": status}
        items.append({**named, **_called(call["function"], turn)})
    return items


def _called(function: dict[str, Any], turn: Turn) -> dict[str, Any]:
    """What an item says of a call. Where the tool takes free text and the arguments are something else, it is the call
    of a function, so that the client says what is wrong with it."""
    given = parsed_arguments(function["arguments"]) or {}
    free = any(
        tool["function"]["name"] == function["name"] and tool["function"].get("parameters") == _FREE_TEXT
        for tool in json.loads(turn.tools)
    )
    if not free or given.keys() != {"input"} or not isinstance(given["input"], str):
        return function
    return {"type": "custom_tool_call", "name": function["name"], "input": given["input"]}


def _item_events(item: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The events of one item, from its beginning to its end."""
    given = _CALLS.get(item["type"])
    begun = {given: ""} if given else {"content": []}
    yield {"type": "response.output_item.added", "item": {**item, **begun, "status": "in_progress"}}
    if item["type"] == "custom_tool_call":
        name, known = "response.custom_tool_call_input", {"item_id": item["id"]}
        yield {"type": f"{name}.delta", **known, "delta": item["input"]}
        yield {"type": f"{name}.done", **known, "input": item["input"]}
    if item["type"] == "function_call":
        name, known = "response.function_call_arguments", {"item_id": item["id"]}
        yield {"type": f"{name}.delta", **known, "delta": item["arguments"]}
        yield {"type": f"{name}.done", **known, "name": item["name"], "arguments": item["arguments"]}
    for n, part in enumerate(item.get("content", [])):
        name, known = f"response.{part['type']}", {"item_id": item["id"], "content_index": n}
        chances = {"logprobs": part["logprobs"]} if "logprobs" in part else {}
        yield {"type": "response.content_part.added", **known, "part": {**part, "text": ""}}
        yield {"type": f"{name}.delta", **known, "delta": part["text"], **chances}
        yield {"type": f"{name}.done", **known, "text": part["text"], **chances}
        yield {"type": "response.content_part.done", **known, "part": part}
    yield {"type": "response.output_item.done", "item": item}


def _usage(turn: Turn) -> dict[str, Any]:
    """The usage. How many of the tokens are reasoning, nobody counts."""
    usage = answer_of(turn).sampled.usage
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage.tokens,
    }


def _format(text: Any) -> Any:
    """The type of the format that a setting `text` asks for."""
    asked = text.get("format") if isinstance(text, dict) else text
    return asked.get("type") if isinstance(asked, dict) else asked
