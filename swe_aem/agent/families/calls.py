"""Readers of tool calls: what the library `renderers` found in a response, as `ParsedCall`s.

Formats whose arguments are JSON are read from the library's values. Formats that write each argument between tags are
read from the text of the call here, for in them white space counts (the library strips it, and with it the indentation
of code), and what is text and what a number only the tool's schema says.
"""

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

from swe_aem.agent.parsed import ParsedCall

ToolSchemas = Sequence[dict[str, Any]]
"""Schemas of tools in OpenAI's form, as the prompt names them."""
ReadCalls = Callable[[Any, ToolSchemas], list[ParsedCall]]
"""The calls in one block of a response. A block is a `ParsedToolCall` of the library's."""

PROBLEMS: dict[str, str] = {
    "invalid_json": "the call is not valid JSON",
    "unclosed_block": "the call has no closing tag",
    "missing_name": "the call names no tool",
    "malformed_structure": "the call does not have the required structure",
    "unknown_tool": "there is no such tool",
}
"""What the library's statuses mean, in words for the model."""
_NO_PLAIN_NAME = "the name of the tool is not a plain word"


def read_json(block: Any, tools: ToolSchemas) -> list[ParsedCall]:
    """A call whose arguments are a JSON object."""
    status = str(block.status)
    if status != "ok":
        problem = PROBLEMS.get(status, status)
        return [ParsedCall(raw=block.raw, problem=problem, unclosed=status == "unclosed_block")]
    if not isinstance(block.name, str) or not block.name.isidentifier():
        return [ParsedCall(raw=block.raw, problem=_NO_PLAIN_NAME)]
    arguments = read_arguments(block.arguments)
    if arguments is None:
        return [ParsedCall(name=block.name, raw=block.raw, problem='"arguments" is not a JSON object')]
    converted = int(not isinstance(block.arguments, dict))
    return [ParsedCall(name=block.name, arguments=arguments, raw=block.raw, converted=converted)]


def read_function_tags(block: Any, tools: ToolSchemas) -> list[ParsedCall]:
    """`<function=NAME><parameter=KEY>VALUE</parameter></function>`, as Qwen3-Coder and Nemotron 3 write it. One line
    break after a parameter's opening tag and one before its closing tag are not part of the value."""
    return _read_tags(block, tools, _FUNCTION, _PARAMETER, _without_frame)


def read_argument_tags(block: Any, tools: ToolSchemas) -> list[ParsedCall]:
    """`NAME<arg_key>KEY</arg_key><arg_value>VALUE</arg_value>`, as GLM writes it. A value in which the text of
    `</arg_value>` stands before that of `<arg_key>` cannot be told from two arguments, and is malformed."""
    return _read_tags(block, tools, _NAMED, _ARGUMENT, str)


def read_invoke_tags(block: Any, tools: ToolSchemas) -> list[ParsedCall]:
    """`<invoke name="NAME"><parameter name="KEY">VALUE</parameter></invoke>`, as MiniMax writes it: any number of calls
    in one block."""
    if str(block.status) == "unclosed_block":
        return _read_tags(block, tools, _INVOKE, _NAMED_PARAMETER, str)
    ends = [match.end() for match in _INVOKE_END.finditer(block.raw)]
    starts = [0, *ends]
    parts = [block.raw[a:b] for a, b in zip(starts, ends, strict=False)]
    if (rest := block.raw[starts[-1] :]).strip() or not parts:
        parts.append(rest)
    return [call for part in parts for call in _read_text(part, tools, _INVOKE, _NAMED_PARAMETER, str)]


_FUNCTION = re.compile(r"\s*<function=(?P<name>[^>\n]*)>(?P<body>.*)</function>\s*", re.DOTALL)
_PARAMETER = re.compile(
    r"\s*<parameter=(?P<key>[^>\n]*)>(?P<value>.*?)</parameter>(?=\s*(?:<parameter=|\Z))", re.DOTALL
)
_NAMED = re.compile(r"(?P<name>[^<]*)(?P<body>.*)", re.DOTALL)
_ARGUMENT = re.compile(
    r"\s*<arg_key>(?P<key>.*?)</arg_key>\s*<arg_value>(?P<value>.*?)</arg_value>(?=\s*(?:<arg_key>|\Z))", re.DOTALL
)
_INVOKE = re.compile(r'\s*<invoke name="(?P<name>[^"\n]*)">(?P<body>.*)</invoke>\s*', re.DOTALL)
_INVOKE_END = re.compile(r"</invoke>(?=\s*(?:<invoke name=|\Z))")
_NAMED_PARAMETER = re.compile(
    r'\s*<parameter name="(?P<key>[^"\n]*)">(?P<value>.*?)</parameter>(?=\s*(?:<parameter name=|\Z))', re.DOTALL
)


def _read_tags(
    block: Any, tools: ToolSchemas, call: re.Pattern[str], argument: re.Pattern[str], unframed: Callable[[str], str]
) -> list[ParsedCall]:
    if str(block.status) == "unclosed_block":
        return [ParsedCall(raw=block.raw, problem=PROBLEMS["unclosed_block"], unclosed=True)]
    return _read_text(block.raw, tools, call, argument, unframed)


def _read_text(
    raw: str, tools: ToolSchemas, call: re.Pattern[str], argument: re.Pattern[str], unframed: Callable[[str], str]
) -> list[ParsedCall]:
    """The call that a text is, or why it is none. Nothing is passed over: what is no argument is a problem."""
    found = call.fullmatch(raw)
    if found is None:
        return [ParsedCall(raw=raw, problem=PROBLEMS["malformed_structure"])]
    name, body = found["name"].strip(), found["body"]
    if not name:
        return [ParsedCall(raw=raw, problem=PROBLEMS["missing_name"])]
    if not name.isidentifier():
        return [ParsedCall(raw=raw, problem=_NO_PLAIN_NAME)]
    types = _types(name, tools)
    arguments: dict[str, Any] = {}
    end = 0
    while (one := argument.match(body, end)) is not None:
        key, end = one["key"].strip(), one.end()
        if key in arguments:
            return [ParsedCall(name=name, raw=raw, problem=f"the argument {key} comes twice")]
        arguments[key] = _value(unframed(one["value"]), types.get(key))
    if body[end:].strip():
        return [ParsedCall(name=name, raw=raw, problem=PROBLEMS["malformed_structure"])]
    return [ParsedCall(name=name, arguments=arguments, raw=raw)]


def _without_frame(value: str) -> str:
    return value.removeprefix("\n").removesuffix("\n")


def _types(name: str, tools: ToolSchemas) -> dict[str, set[str]]:
    """The JSON types that each parameter of a tool may have, where its schema says it."""
    for tool in tools:
        function = tool.get("function", tool)
        if function.get("name") == name:
            properties = (function.get("parameters") or {}).get("properties") or {}
            return {key: _types_of(schema) for key, schema in properties.items() if isinstance(schema, dict)}
    return {}


def _types_of(schema: dict[str, Any]) -> set[str]:
    declared = schema.get("type", ())
    types = {declared} if isinstance(declared, str) else set(declared)
    for branch in [*schema.get("anyOf", ()), *schema.get("oneOf", ())]:
        types |= _types_of(branch) if isinstance(branch, dict) else set()
    return types


def _value(text: str, types: set[str] | None) -> Any:
    """The value of an argument. It is the text itself where the schema knows no other type, and where what is written
    is no JSON value: the tool says then what it expects."""
    if not types or types == {"string"}:
        return text
    if text in _PYTHON and "string" not in types:  # templates of this format write True and None
        return _PYTHON[text]
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return text if "string" in types and _type(value) not in types else value


_PYTHON = {"True": True, "False": False, "None": None}


def _type(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return "null" if value is None else "boolean"
    return {int: "integer", float: "number", str: "string", list: "array", dict: "object"}[type(value)]


def read_arguments(written: Any) -> dict[str, Any] | None:
    """Arguments as they were written: an object, the JSON text of one, or null for none. None for anything else."""
    if written is None:
        return {}
    if isinstance(written, str):
        try:
            written = json.loads(written, object_pairs_hook=no_doubles)
        except (ValueError, RecursionError):
            return None
    return written if isinstance(written, dict) else None


def no_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of a JSON text; raises `ValueError` if a key comes twice, for then a value would be lost."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key comes twice")
    return found
