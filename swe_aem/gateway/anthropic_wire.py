"""Anthropic's messages.

A message's blocks become messages of chat completions: results of tools one message each, text one message, thinking
the reasoning of the assistant. `cache_control`, signatures and metadata have no meaning here and are not kept.
"""

import json
from collections.abc import Iterator
from itertools import groupby
from typing import Any

from swe_aem.agent import Message
from swe_aem.gateway.messages import BadRequest, parsed_arguments
from swe_aem.gateway.tree import Turn
from swe_aem.gateway.wire import (
    Honoured,
    Refusal,
    Request,
    answer_of,
    check,
    equals,
    event,
    function_tool,
    is_cut_off,
    members,
)

_HONOURED: Honoured = {
    "stop_sequences": (equals([]), "a response ends at the model's own stop tokens"),
    "tool_choice": (lambda value: _member(value, "type") == "auto", "the model chooses its tools"),
    "output_config": (lambda value: _member(value, "format") is None, "responses are text"),
    "output_format": (lambda _: False, "responses are text"),
    "context_management": (lambda value: _keeps_all(value), "the conversation is what the client sends"),
    "compaction": (lambda _: False, "the conversation is what the client sends"),
    "mcp_servers": (equals([]), "tools are the client's own"),
    "container": (lambda _: False, "tools are the client's own"),
}
_TYPES = {
    Refusal.BAD_REQUEST: "invalid_request_error",
    Refusal.CONTEXT_LIMIT: "invalid_request_error",
    Refusal.SESSION_ENDED: "permission_error",
    Refusal.NO_SESSION: "not_found_error",
    Refusal.NO_ROUTE: "not_found_error",
    Refusal.TOO_LARGE: "request_too_large",
}
_SIGNATURE = "none"
"""Clients send thinking back only if it is signed. Here it is known by its text."""


def read_request(body: Any) -> Request:
    """The request that the JSON `body` makes; raises `BadRequest`."""
    if not isinstance(body, dict) or not isinstance(body.get("messages"), list) or not body["messages"]:
        raise BadRequest("a request is a JSON object with a non-empty list `messages`")
    check(body, _HONOURED)
    system = [{"role": "system", "content": body["system"]}] if body.get("system") else []
    said = [message for given in body["messages"] for message in _read_message(given)]
    if said and said[-1]["role"] == "assistant":
        raise BadRequest(
            "the last message is the assistant's: the beginning of a response is not the client's to write"
        )
    return Request([*system, *said], [_read_tool(tool) for tool in members(body.get("tools"), "tools")], _stream(body))


def answer(model: str, turn: Turn) -> dict[str, Any]:
    """The JSON body for an answered turn."""
    return {**_head(model, turn), "content": _blocks(turn), "stop_reason": _stop_reason(turn), "usage": _usage(turn)}


def events(model: str, turn: Turn) -> bytes:
    """The answer as server-sent events, each block in one piece."""
    started = {**_head(model, turn), "content": [], "stop_reason": None, "usage": {**_usage(turn), "output_tokens": 0}}
    sent: list[dict[str, Any]] = [{"type": "message_start", "message": started}]
    for n, block in enumerate(_blocks(turn)):
        begun, deltas = _in_pieces(block)
        sent.append({"type": "content_block_start", "index": n, "content_block": begun})
        sent += [{"type": "content_block_delta", "index": n, "delta": delta} for delta in deltas]
        sent.append({"type": "content_block_stop", "index": n})
    ending = {"stop_reason": _stop_reason(turn), "stop_sequence": None}
    sent += [{"type": "message_delta", "delta": ending, "usage": _usage(turn)}, {"type": "message_stop"}]
    return b"".join(event(data, data["type"]) for data in sent)


def failure(refusal: Refusal, why: str) -> dict[str, Any]:
    """The JSON body of a refusal. Clients know a context that is full by the words `prompt is too long`."""
    said = f"prompt is too long: {why}" if refusal is Refusal.CONTEXT_LIMIT else why
    return {"type": "error", "error": {"type": _TYPES[refusal], "message": said}}


def _read_message(given: Any) -> Iterator[Message]:
    """The messages that one of Anthropic's makes."""
    if not isinstance(given, dict) or given.get("role") not in ("user", "assistant", "system"):
        raise BadRequest("a message needs one of the roles user, assistant, system")
    content = given.get("content")
    if not isinstance(content, list):
        yield {"role": given["role"], "content": content}
        return
    blocks = members(content, "content")
    if given["role"] == "assistant":
        yield _read_assistant(blocks)
        return
    for is_result, run in groupby(blocks, key=lambda block: block.get("type") == "tool_result"):
        if is_result:
            yield from map(_read_result, run)
        else:
            yield {"role": given["role"], "content": [_read_text(block) for block in run]}


def _read_assistant(blocks: list[dict[str, Any]]) -> Message:
    texts, thoughts, calls = [], [], []
    for block in blocks:
        match block.get("type"):
            case "thinking":
                thoughts.append({"text": block.get("thinking")})
            case "redacted_thinking":
                pass
            case "tool_use":
                arguments = json.dumps(block.get("input") or {}, ensure_ascii=False)
                calls.append({"id": block.get("id"), "function": {"name": block.get("name"), "arguments": arguments}})
            case _:
                texts.append(_read_text(block))
    return {"role": "assistant", "content": texts, "reasoning_content": thoughts, "tool_calls": calls}


def _read_result(block: dict[str, Any]) -> Message:
    return {"role": "tool", "tool_call_id": block.get("tool_use_id"), "content": block.get("content")}


def _read_text(block: dict[str, Any]) -> dict[str, Any]:
    if block.get("type") != "text":
        raise BadRequest(f"the policy reads text only; leave out content of the type {block.get('type')!r:.100}")
    return {"text": block.get("text")}


def _read_tool(tool: dict[str, Any]) -> dict[str, Any]:
    if tool.get("type") not in (None, "custom"):
        raise BadRequest(f"the tool {tool['type']!r:.100} is one of Anthropic's servers: leave it out")
    return function_tool(tool.get("name"), tool.get("description"), tool.get("input_schema"))


def _head(model: str, turn: Turn) -> dict[str, Any]:
    return {"id": f"msg_{turn.id}", "type": "message", "role": "assistant", "model": model, "stop_sequence": None}


def _blocks(turn: Turn) -> list[dict[str, Any]]:
    served = answer_of(turn).message
    thought = served.get("reasoning_content")
    blocks = [{"type": "thinking", "thinking": thought, "signature": _SIGNATURE}] if thought else []
    blocks += [{"type": "text", "text": served["content"]}] if served["content"] else []
    return blocks + [_tool_use(call) for call in served.get("tool_calls", [])]


def _tool_use(call: dict[str, Any]) -> dict[str, Any]:
    """A call; arguments that are no JSON object, which this protocol cannot express, are its argument `raw`."""
    function = call["function"]
    known = parsed_arguments(function["arguments"]) is not None
    given = json.loads(function["arguments"]) if known else {"raw": function["arguments"]}
    return {"type": "tool_use", "id": call["id"], "name": function["name"], "input": given}


def _in_pieces(block: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The block as it begins, and what is added to it."""
    match block["type"]:
        case "thinking":
            said = {"type": "thinking_delta", "thinking": block["thinking"]}
            signed = {"type": "signature_delta", "signature": block["signature"]}
            return {**block, "thinking": "", "signature": ""}, [said, signed]
        case "text":
            return {**block, "text": ""}, [{"type": "text_delta", "text": block["text"]}]
        case _:
            return {**block, "input": {}}, [{"type": "input_json_delta", "partial_json": json.dumps(block["input"])}]


def _stop_reason(turn: Turn) -> str:
    if is_cut_off(turn):
        return "max_tokens"
    return "tool_use" if answer_of(turn).sampled.turn.calls else "end_turn"


def _usage(turn: Turn) -> dict[str, Any]:
    """The usage, in which tokens that were known before count apart from new ones."""
    usage = answer_of(turn).sampled.usage
    return {
        "input_tokens": usage.prompt_tokens - usage.cached_tokens,
        "cache_read_input_tokens": usage.cached_tokens,
        "cache_creation_input_tokens": 0,
        "output_tokens": usage.completion_tokens,
    }


def _stream(body: dict[str, Any]) -> bool:
    return bool(body.get("stream"))


def _member(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None


def _keeps_all(value: Any) -> bool:
    """Do the edits leave the conversation as it is? Of earlier thinking the setting `renderer.thinking` decides."""
    edits = _member(value, "edits") or []
    return all(str(_member(edit, "type")).startswith("clear_thinking") for edit in edits)
