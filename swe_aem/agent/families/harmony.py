"""The renderer of gpt-oss, whose chat format is called harmony.

The library's own works with the ids of one vocabulary, which it downloads; this one works with the model's tokenizer.
A response is a sequence of messages, each in a channel: `analysis` is reasoning, `commentary` addressed to
`functions.NAME` a call, and `final` (or `commentary` addressed to nobody) content. A call ends the response.

Follows the chat template of openai/gpt-oss-20b but for two things, in which it follows OpenAI's own encoder, as vLLM
does: what a tool answers is given as it is and not as a JSON string, and earlier reasoning stays where it was sampled.
"""

import json
from collections.abc import Iterator, Sequence
from datetime import date
from typing import Any, NamedTuple

from renderers.base import ParsedResponse, ParsedToolCall, RenderedTokens, ToolCallParseStatus
from renderers.configs import BaseRendererConfig

_IDENTITY = "You are ChatGPT, a large language model trained by OpenAI."
_CUTOFF = "2024-06"
_FUNCTIONS = "functions."


class HarmonyConfig(BaseRendererConfig):
    """Settings of gpt-oss."""

    name: str = "gpt-oss"
    reasoning_effort: str = "medium"
    _template_fields = frozenset({"reasoning_effort"})


class _Part(NamedTuple):
    """One message of a response."""

    header: str
    """Its text between `<|start|>` and `<|message|>`."""
    body: str
    end: int | None
    """The token that ends it, None if the response was cut off before."""
    has_body: bool
    span: tuple[int, int]


class HarmonyRenderer:
    """Messages to token ids and back, over any tokenizer that has harmony's control tokens."""

    config_class = HarmonyConfig

    def __init__(self, tokenizer: Any, config: HarmonyConfig | None = None) -> None:
        self._tokenizer = tokenizer
        self.config = config or HarmonyConfig()
        self._date = date.today().isoformat()  # the template's too
        self._start, self._end, self._message, self._channel, self._return, self._call = (
            self._token(f"<|{name}|>") for name in ("start", "end", "message", "channel", "return", "call")
        )
        self._endoftext = tokenizer.convert_tokens_to_ids("<|endoftext|>")

    @property
    def is_prefix_stable(self) -> bool:
        """False: the template drops reasoning once a final message follows."""
        return False

    def get_stop_token_ids(self) -> list[int]:
        """The end of a final message, of a call, and of a text."""
        return [self._return, self._call, *([] if self._endoftext is None else [self._endoftext])]

    def render_ids(
        self, messages: list[Any], *, tools: list[Any] | None = None, add_generation_prompt: bool = False
    ) -> list[int]:
        """Token ids of a conversation."""
        said = list(messages)
        instructions = said.pop(0)["content"] if said and said[0]["role"] in ("system", "developer") else ""
        text = self._system(bool(tools)) + _developer(instructions, tools or [])
        names: dict[str, str] = {}
        for n, message in enumerate(said):
            last = n == len(said) - 1 and not add_generation_prompt
            thinks = message["role"] == "assistant" and (last or not _is_answered(said[n + 1 :]))
            text += self._said(message, names, thinks=thinks, last=last)
        return self._tokenizer.encode(text + ("<|start|>assistant" if add_generation_prompt else ""))

    def render(self, messages: list[Any], **options: Any) -> RenderedTokens:
        """`render_ids` as the library's object, which attributes nothing to messages."""
        return RenderedTokens(token_ids=self.render_ids(messages, **options))

    def parse_response(
        self, token_ids: list[int], *, tools: list[Any] | None = None, prompt_ids: list[int] | None = None
    ) -> ParsedResponse:
        """The response's reasoning, content and calls. Text that is in no message is content."""
        reasoning: list[str] = []
        content: list[str] = []
        calls: list[ParsedToolCall] = []
        is_open = False
        for part in self._parts(token_ids):
            recipient = next((word[3:] for word in part.header.split() if word.startswith("to=")), "")
            channel = part.header.partition("<|channel|>")[2].split()
            is_open = channel[:1] == ["analysis"] and part.end is None
            if recipient.startswith(_FUNCTIONS):
                name = recipient.removeprefix(_FUNCTIONS).partition("<|")[0]
                calls.append(_call(name, part, closed=part.end in (self._call, self._end)))
            elif channel[:1] == ["analysis"]:
                reasoning.append(part.body)
            else:
                content.append(part.body)
        return ParsedResponse(
            content="".join(content).strip(),
            reasoning_content="\n".join(reasoning).strip() or None,
            tool_calls=calls,
            reasoning_complete=not is_open,
        )

    def bridge_to_next_turn(
        self,
        previous_prompt_ids: list[int],
        previous_completion_ids: list[int],
        new_messages: list[Any],
        *,
        tools: list[Any] | None = None,
    ) -> RenderedTokens | None:
        """What was said so far, closed where it was cut off, and the new messages. None if it was cut off within the
        header of a message, or has tokens behind one that ends it."""
        if not new_messages or any(message["role"] == "assistant" for message in new_messages):
            return None
        said = list(previous_completion_ids)
        stops = [n for n, token in enumerate(said) if token in self.get_stop_token_ids()]
        if stops and stops[0] < len(said) - 1:
            return None
        parts = list(self._parts(said))
        if parts and parts[-1].end is None and not parts[-1].has_body:
            return None
        if not parts:
            return None
        ids = [*previous_prompt_ids, *said]
        if not stops and said[-1] != self._end:
            ids.append(self._end)
        names: dict[str, str] = {}
        text = "".join(self._said(message, names, thinks=False, last=False) for message in new_messages)
        return RenderedTokens(token_ids=ids + self._tokenizer.encode(text + "<|start|>assistant"))

    def _token(self, text: str) -> int:
        token = self._tokenizer.convert_tokens_to_ids(text)
        assert isinstance(token, int), f"Special token {text!r} not found in tokenizer vocabulary"
        return token

    def _system(self, has_tools: bool) -> str:
        routing = "\nCalls to these tools must go to the commentary channel: 'functions'." if has_tools else ""
        return (
            f"<|start|>system<|message|>{_IDENTITY}\nKnowledge cutoff: {_CUTOFF}\nCurrent date: {self._date}\n\n"
            f"Reasoning: {self.config.reasoning_effort}\n\n# Valid channels: analysis, commentary, final. Channel must "
            f"be included for every message.{routing}<|end|>"
        )

    def _said(self, message: dict[str, Any], names: dict[str, str], *, thinks: bool, last: bool) -> str:
        """The text of a message. `names` of calls by their ids, which is added to."""
        role, content = message["role"], message.get("content") or ""
        if role == "assistant":
            return self._assistant(message, content, names, thinks=thinks, last=last)
        if role == "tool":
            name = message.get("name") or names.get(message.get("tool_call_id", ""), "unknown")
            return f"<|start|>{_FUNCTIONS}{name} to=assistant<|channel|>commentary<|message|>{content}<|end|>"
        if role in ("system", "developer"):
            return f"<|start|>developer<|message|># Instructions\n\n{content}<|end|>"
        return f"<|start|>user<|message|>{content}<|end|>"

    def _assistant(
        self, message: dict[str, Any], content: str, names: dict[str, str], *, thinks: bool, last: bool
    ) -> str:
        reasoning, calls = message.get("reasoning_content") or "", message.get("tool_calls") or []
        text = ""
        if calls and thinks:
            reasoning = "\n".join(filter(None, [reasoning, content]))
        if reasoning and thinks and (calls or last):
            text += f"<|start|>assistant<|channel|>analysis<|message|>{reasoning}<|end|>"
        if not calls:
            return text + f"<|start|>assistant<|channel|>final<|message|>{content}{'<|return|>' if last else '<|end|>'}"
        for call in calls:
            name, arguments = call["function"]["name"], call["function"]["arguments"]
            names[call.get("id", "")] = name
            written = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
            text += f"<|start|>assistant to={_FUNCTIONS}{name}<|channel|>commentary json<|message|>{written}<|call|>"
        return text

    def _parts(self, completion: Sequence[int]) -> Iterator[_Part]:
        """The messages of a response. The prompt has opened the first one."""
        ids = [self._start, *self._tokenizer.encode("assistant"), *completion]
        offset = len(ids) - len(completion)
        ends = {self._end, *self.get_stop_token_ids()}
        at = 0
        while at < len(ids):
            if ids[at] != self._start:
                at += 1
                continue
            stop = next((n for n in range(at + 1, len(ids)) if ids[n] in ends or ids[n] == self._start), len(ids))
            body = next((n for n in range(at + 1, stop) if ids[n] == self._message), None)
            yield _Part(
                header=self._tokenizer.decode(ids[at + 1 : stop if body is None else body]),
                body="" if body is None else self._tokenizer.decode(ids[body + 1 : stop]),
                end=ids[stop] if stop < len(ids) and ids[stop] in ends else None,
                has_body=body is not None,
                span=(max(0, at - offset), max(0, stop + 1 - offset)),
            )
            at = stop


def _call(name: str, part: _Part, *, closed: bool) -> ParsedToolCall:
    """A call of a response. One that was cut off is unclosed, whatever there is of its arguments."""
    try:
        arguments, is_json = (json.loads(part.body), True) if closed else (None, True)
    except json.JSONDecodeError:
        arguments, is_json = None, False
    if not closed:
        status = ToolCallParseStatus.UNCLOSED_BLOCK
    elif not name:
        status = ToolCallParseStatus.MISSING_NAME
    else:
        status = ToolCallParseStatus.OK if is_json else ToolCallParseStatus.INVALID_JSON
    return ParsedToolCall(raw=part.body, name=name or None, arguments=arguments, token_span=part.span, status=status)


def _is_answered(later: Sequence[dict[str, Any]]) -> bool:
    """Does a message without calls follow? Reasoning before it is dropped."""
    return any(message["role"] == "assistant" and not message.get("tool_calls") for message in later)


def _developer(instructions: str, tools: Sequence[dict[str, Any]]) -> str:
    if not instructions and not tools:
        return ""
    said = f"# Instructions\n\n{instructions}\n\n" if instructions else ""
    declared = "".join(_declaration(tool.get("function", tool)) for tool in tools)
    named = f"# Tools\n\n## functions\n\nnamespace functions {{\n\n{declared}}} // namespace functions" if tools else ""
    return f"<|start|>developer<|message|>{said}{named}<|end|>"


def _declaration(function: dict[str, Any]) -> str:
    """A tool as a type of TypeScript."""
    parameters = function.get("parameters") or {}
    head = f"// {function.get('description', '')}\ntype {function['name']} = "
    if not parameters.get("properties"):
        return f"{head}() => any;\n\n"
    lines = [_field(key, schema, parameters) for key, schema in parameters["properties"].items()]
    return f"{head}(_: {{\n{''.join(lines)}}}) => any;\n\n"


def _field(key: str, schema: dict[str, Any], parameters: dict[str, Any]) -> str:
    comment = f"// {schema['description']}\n" if schema.get("description") else ""
    optional = "" if key in (parameters.get("required") or ()) else "?"
    default = ""
    if "default" in schema:
        plain = schema.get("enum") or schema.get("oneOf")
        shown = schema["default"] if plain else json.dumps(schema["default"], ensure_ascii=False)
        default = f"{'' if schema.get('oneOf') and not schema.get('enum') else ', '}// default: {shown}"
    return f"{comment}{key}{optional}: {_type(schema)}{default},\n"


def _type(schema: dict[str, Any]) -> str:
    """The TypeScript type of a JSON schema, as the chat template writes it."""
    kind = schema.get("type")
    nullable = " | null" if schema.get("nullable") else ""
    if kind == "array":
        items = schema.get("items")
        inner = _type(items) if items else "any"
        return ("any" if inner == "object | object" or len(inner) > 50 else inner) + "[]" + nullable
    if isinstance(kind, list):
        return " | ".join(kind)
    if schema.get("oneOf"):
        variants = schema["oneOf"]
        if len(variants) > 1 and any(one.get("type") == "object" for one in variants):
            return "any"
        return " | ".join(map(_type, variants))
    if kind == "string":
        return '"' + '" | "'.join(schema["enum"]) + '"' if schema.get("enum") else f"string{nullable}"
    if kind == "object":
        return _object_type(schema)
    return {"number": "number", "integer": "number", "boolean": "boolean"}.get(str(kind), "any")


def _object_type(schema: dict[str, Any]) -> str:
    if not schema.get("properties"):
        return "object"
    required = schema.get("required") or ()
    fields = [f"{key}{'' if key in required else '?'}: {_type(one)}" for key, one in schema["properties"].items()]
    return "{\n" + ", ".join(fields) + "}"
