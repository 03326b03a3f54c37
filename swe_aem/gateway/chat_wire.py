"""OpenAI's chat completions."""

import time
from typing import Any

from swe_aem.gateway.messages import BadRequest
from swe_aem.gateway.tree import Turn
from swe_aem.gateway.wire import Honoured, Refusal, Request, answer_of, check, equals, event, is_cut_off

_HONOURED: Honoured = {
    "n": (equals(1), "one response per request"),
    "stop": (equals([]), "a response ends at the model's own stop tokens"),
    "tool_choice": (equals("auto"), "the model chooses its tools"),
    "response_format": (equals({"type": "text"}), "responses are text"),
    "logprobs": (equals(False), "log-probabilities are kept for training, not sent"),
    "functions": (equals([]), "tools are given as `tools`"),
}


def read_request(body: Any) -> Request:
    """The request that the JSON `body` makes; raises `BadRequest`."""
    if not isinstance(body, dict) or not isinstance(body.get("messages"), list) or not body["messages"]:
        raise BadRequest("a request is a JSON object with a non-empty list `messages`")
    check(body, _HONOURED)
    tools = body.get("tools") or []
    if not isinstance(tools, list) or not all(isinstance(tool, dict) and "function" in tool for tool in tools):
        raise BadRequest("tools are a list of {type: function, function: {...}}")
    return Request(body["messages"], tools, bool(body.get("stream")))


def answer(model: str, turn: Turn) -> dict[str, Any]:
    """The JSON body for an answered turn."""
    choice = {"index": 0, "message": _message(turn), "finish_reason": _finish_reason(turn), "logprobs": None}
    return {**_head(model, turn, "chat.completion"), "choices": [choice], "usage": _usage(turn)}


def events(model: str, turn: Turn) -> bytes:
    """The answer as server-sent events: the whole message, then its finish reason, then the usage."""
    head = _head(model, turn, "chat.completion.chunk")
    delta = _message(turn)
    for n, call in enumerate(delta.get("tool_calls", [])):
        call["index"] = n
    chunks = [
        {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]},
        {**head, "choices": [{"index": 0, "delta": {}, "finish_reason": _finish_reason(turn)}]},
        {**head, "choices": [], "usage": _usage(turn)},
    ]
    return b"".join(map(event, chunks)) + b"data: [DONE]\n\n"


def failure(refusal: Refusal, why: str) -> dict[str, Any]:
    """The JSON body of a refusal."""
    return {"error": {"message": why, "type": "invalid_request_error", "param": None, "code": refusal.code}}


def _head(model: str, turn: Turn, kind: str) -> dict[str, Any]:
    return {"id": f"chatcmpl-{turn.id}", "object": kind, "created": int(time.time()), "model": model}


def _message(turn: Turn) -> dict[str, Any]:
    served = answer_of(turn).message
    message = {**served, "content": served["content"] or None}
    if "tool_calls" in message:
        message["tool_calls"] = [{**call} for call in message["tool_calls"]]
    elif message["content"] is None:
        message["content"] = ""
    return message


def _finish_reason(turn: Turn) -> str:
    if is_cut_off(turn):
        return "length"
    return "tool_calls" if answer_of(turn).sampled.turn.calls else "stop"


def _usage(turn: Turn) -> dict[str, Any]:
    usage = answer_of(turn).sampled.usage
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }
