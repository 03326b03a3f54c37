"""OpenAI's chat completions: which requests are accepted, and how a turn is answered.

Temperature, top_p, seed and token limits are the run's; a client's values are ignored. Settings that would change the
meaning of the answer and are not supported (several choices, stop strings, a forced tool, a response format) are
refused.
"""

import json
import time
from typing import Any

from swe_aem.gateway.messages import BadRequest
from swe_aem.gateway.session import GatewaySession
from swe_aem.gateway.tree import Turn

_REFUSED: dict[str, tuple[tuple[Any, ...], str]] = {
    "n": ((1,), "one response per request"),
    "stop": (([],), "a response ends at the model's own stop tokens"),
    "tool_choice": (("auto",), "the model chooses its tools"),
    "response_format": (({"type": "text"},), "responses are text"),
    "logprobs": ((False,), "log-probabilities are kept for training, not sent"),
    "functions": (([],), "tools are given as `tools`"),
}
"""For each member of a request: the values that change nothing, and why other values are refused."""


def read_request(body: Any) -> tuple[list[Any], list[dict[str, Any]], bool]:
    """Messages, tools and whether to stream; raises `BadRequest`."""
    if not isinstance(body, dict) or not isinstance(body.get("messages"), list) or not body["messages"]:
        raise BadRequest("a request is a JSON object with a non-empty list `messages`")
    for name, (harmless, why) in _REFUSED.items():
        if body.get(name) is not None and body[name] not in harmless:
            raise BadRequest(f"{name} {body[name]!r} is not honoured: {why}; leave it out")
    tools = body.get("tools") or []
    if not isinstance(tools, list) or not all(isinstance(tool, dict) and "function" in tool for tool in tools):
        raise BadRequest("tools are a list of {type: function, function: {...}}")
    return body["messages"], tools, bool(body.get("stream"))


def completion(session: GatewaySession, turn: Turn) -> dict[str, Any]:
    """The JSON body of an answer."""
    choice = {"index": 0, "message": _message(turn), "finish_reason": _finish_reason(turn), "logprobs": None}
    return {**_head(session, turn, "chat.completion"), "choices": [choice], "usage": _usage(turn)}


def events(session: GatewaySession, turn: Turn) -> bytes:
    """The answer as server-sent events: the whole message, then its finish reason, then the usage."""
    head = _head(session, turn, "chat.completion.chunk")
    delta = _message(turn)
    for n, call in enumerate(delta.get("tool_calls", [])):
        call["index"] = n
    chunks = [
        {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]},
        {**head, "choices": [{"index": 0, "delta": {}, "finish_reason": _finish_reason(turn)}]},
        {**head, "choices": [], "usage": _usage(turn)},
    ]
    return b"".join(b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks) + b"data: [DONE]\n\n"


def models(session: GatewaySession) -> dict[str, Any]:
    """The JSON body of the list of models, which holds the policy alone."""
    card = {"id": session.policy.name, "object": "model", "created": 0, "owned_by": "swe-aem"}
    return {"object": "list", "data": [{**card, "max_model_len": session.limits.max_context_tokens}]}


def failure(message: str, code: str) -> dict[str, Any]:
    """The JSON body of a refusal."""
    return {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": code}}


def _head(session: GatewaySession, turn: Turn, kind: str) -> dict[str, Any]:
    assert turn.answer is not None
    return {
        "id": f"chatcmpl-{session.id}-{turn.answer.sampled.usage.prompt_tokens}",
        "object": kind,
        "created": int(time.time()),
        "model": session.policy.name,
    }


def _message(turn: Turn) -> dict[str, Any]:
    assert turn.answer is not None
    message = {**turn.answer.message, "content": turn.answer.message["content"] or None}
    if "tool_calls" in message:
        message["tool_calls"] = [{**call} for call in message["tool_calls"]]
    elif message["content"] is None:
        message["content"] = ""
    return message


def _finish_reason(turn: Turn) -> str:
    assert turn.answer is not None
    if turn.answer.sampled.response.finish_reason == "length":
        return "length"
    return "tool_calls" if turn.answer.sampled.turn.calls else "stop"


def _usage(turn: Turn) -> dict[str, Any]:
    assert turn.answer is not None
    usage = turn.answer.sampled.usage
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }
