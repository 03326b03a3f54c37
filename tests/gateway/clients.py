"""One conversation in the form of each protocol: what a client sends, and what it understands of an answer."""

import json
from typing import Any

from swe_aem.gateway import anthropic_wire, chat_wire, responses_wire

Message = dict[str, Any]
"""A message of chat completions."""

WIRES: dict[str, Any] = {"chat": chat_wire, "anthropic": anthropic_wire, "responses": responses_wire}
SCHEMA = {"type": "object", "properties": {"command": {"type": "string"}}}
TOOLS: dict[str, list[Any]] = {
    "chat": [{"type": "function", "function": {"name": "bash", "description": "Run.", "parameters": SCHEMA}}],
    "anthropic": [
        {"name": "bash", "description": "Run.", "input_schema": SCHEMA, "cache_control": {"type": "ephemeral"}}
    ],
    "responses": [{"type": "function", "name": "bash", "description": "Run.", "parameters": SCHEMA, "strict": False}],
}


def body(protocol: str, history: list[Message], *, reasoning: bool = True) -> dict[str, Any]:
    """The request that continues a conversation; clients may leave out reasoning."""
    system, said = history[0], history[1:]
    if not reasoning:
        said = [{key: value for key, value in message.items() if key != "reasoning_content"} for message in said]
    match protocol:
        case "chat":
            return {"messages": [system, *said], "tools": TOOLS["chat"]}
        case "anthropic":
            marked = {"type": "text", "text": system["content"], "cache_control": {"type": "ephemeral"}}
            known = {"system": [marked], "tools": TOOLS["anthropic"], "max_tokens": 1}
            return {**known, "messages": _anthropic_messages(said)}
        case _:
            items = [item for message in said for item in _items(message)]
            known = {"instructions": system["content"], "tools": TOOLS["responses"], "store": False}
            return {**known, "input": items}


def understood(protocol: str, answer: Any) -> Message:
    """The message that an answer holds, with the calls that the client read."""
    match protocol:
        case "chat":
            message = dict(answer["choices"][0]["message"])
            return {**message, "content": message["content"] or ""}
        case "anthropic":
            blocks = answer["content"]
            calls = [_call(one["id"], one["name"], json.dumps(one["input"])) for one in _of(blocks, "tool_use")]
            texts = [block["text"] for block in _of(blocks, "text")]
            return _said(texts, [block["thinking"] for block in _of(blocks, "thinking")], calls)
        case _:
            items = answer["output"]
            calls = [_call(one["call_id"], one["name"], one["arguments"]) for one in _of(items, "function_call")]
            texts = [part["text"] for item in _of(items, "message") for part in item["content"]]
            return _said(texts, [part["text"] for item in _of(items, "reasoning") for part in item["content"]], calls)


def _said(texts: list[str], thoughts: list[str], calls: list[Any]) -> Message:
    message = {"role": "assistant", "content": "".join(texts)}
    return message | ({"reasoning_content": thoughts[0]} if thoughts else {}) | ({"tool_calls": calls} if calls else {})


def _call(id: str, name: str, arguments: str) -> Message:
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def _of(parts: list[Any], kind: str) -> list[Any]:
    return [part for part in parts if part["type"] == kind]


def _anthropic_messages(said: list[Message]) -> list[Message]:
    messages: list[Message] = []
    for message in said:
        if message["role"] == "assistant":
            messages.append({"role": "assistant", "content": _blocks(message)})
            continue
        block = {"type": "text", "text": message["content"]}
        if message["role"] == "tool":
            id = message["tool_call_id"]
            block = {"type": "tool_result", "tool_use_id": id, "content": [block], "is_error": False}
        if messages and messages[-1]["role"] == "user" and messages[-1]["content"][-1]["type"] == "tool_result":
            messages[-1]["content"].append(block)
        else:
            messages.append({"role": "user", "content": [block]})
    return messages


def _blocks(message: Message) -> list[Message]:
    thought, blocks = message.get("reasoning_content"), []
    if thought:
        blocks.append({"type": "thinking", "thinking": thought, "signature": "none"})
    if message["content"]:
        blocks.append({"type": "text", "text": message["content"]})
    for call in message.get("tool_calls", ()):
        blocks.append({"type": "tool_use", "id": call["id"], "name": call["function"]["name"], "input": _input(call)})
    return blocks


def _input(call: Message) -> Any:
    try:
        read = json.loads(call["function"]["arguments"])
    except ValueError:
        read = None
    return read if isinstance(read, dict) else {"raw": call["function"]["arguments"]}


def _items(message: Message) -> list[Message]:
    if message["role"] == "tool":
        known = {"type": "function_call_output", "call_id": message["tool_call_id"]}
        return [{**known, "output": message["content"]}]
    if message["role"] != "assistant":
        return [{"role": message["role"], "content": [{"type": "input_text", "text": message["content"]}]}]
    items: list[Message] = []
    if thought := message.get("reasoning_content"):
        parts = [{"type": "reasoning_text", "text": thought}]
        items.append({"type": "reasoning", "id": "rs_1", "summary": [], "content": parts, "encrypted_content": None})
    if message["content"] or not message.get("tool_calls"):
        parts = [{"type": "output_text", "text": message["content"], "annotations": []}]
        items.append({"type": "message", "role": "assistant", "id": "msg_1", "content": parts})
    for call in message.get("tool_calls", ()):
        items.append({"type": "function_call", "id": "fc_1", "call_id": call["id"], **call["function"]})
    return items
