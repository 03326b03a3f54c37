"""The renderer of DeepSeek V3.1, which the library does not have.

Follows the chat template of deepseek-ai/DeepSeek-V3.1, in which a call is a name and JSON, and what answers it has no
role of its own: the model continues behind it. The template is silent on tools; they are described as the model's card
does it, behind the system message. Thinking is left out of everything that is answered.
"""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from renderers.base import ParsedResponse, ParsedToolCall, RenderedTokens, ToolCallParseStatus
from renderers.configs import BaseRendererConfig

_CALLS, _CALLS_END = "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"
_CALL, _SEPARATOR, _CALL_END = "<｜tool▁call▁begin｜>", "<｜tool▁sep｜>", "<｜tool▁call▁end｜>"
_END = "<｜end▁of▁sentence｜>"
_HOW_TO_CALL = (
    "IMPORTANT: ALWAYS adhere to this exact format for tool use:\n"
    f"{_CALLS}{_CALL}tool_call_name{_SEPARATOR}tool_call_arguments{_CALL_END}{{additional_tool_calls}}{_CALLS_END}\n\n"
    "Where:\n"
    "- `tool_call_name` must be an exact match to one of the available tools\n"
    "- `tool_call_arguments` must be valid JSON that strictly follows the tool's Parameters Schema\n"
    "- For multiple tool calls, chain them directly without separators or spaces"
)


class DeepSeekV31Config(BaseRendererConfig):
    """Settings of DeepSeek V3.1."""

    name: str = "deepseek-v3.1"
    thinking: bool = False
    no_thinking: str = "</think>"
    """What begins an answer without thinking."""
    _template_fields = frozenset({"thinking"})
    _internal_fields = frozenset({"no_thinking"})


class DeepSeekV31Renderer:
    """Messages to token ids and back, over any tokenizer that has the control tokens."""

    config_class = DeepSeekV31Config

    def __init__(self, tokenizer: Any, config: DeepSeekV31Config | None = None) -> None:
        self._tokenizer = tokenizer
        self.config = config or DeepSeekV31Config()
        self._eos, self._calls, self._calls_end, self._call, self._separator, self._call_end = (
            self._token(text) for text in (_END, _CALLS, _CALLS_END, _CALL, _SEPARATOR, _CALL_END)
        )
        self._think, self._think_end = self._token("<think>"), self._token("</think>")
        for text in ("<｜begin▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>", "<｜tool▁output▁begin｜>"):
            self._token(text)

    @property
    def is_prefix_stable(self) -> bool:
        """False: the template drops thinking once an answer follows."""
        return False

    def get_stop_token_ids(self) -> list[int]:
        """The end of a response."""
        return [self._eos]

    def render_ids(
        self, messages: list[Any], *, tools: list[Any] | None = None, add_generation_prompt: bool = False
    ) -> list[int]:
        """Token ids of a conversation."""
        said = [message for message in messages if message["role"] != "system"]
        instructions = "\n\n".join(message["content"] for message in messages if message["role"] == "system")
        described = f"{instructions}\n\n{_described(tools)}" if tools else instructions
        text = f"<｜begin▁of▁sentence｜>{described}"
        for n, message in enumerate(said):
            opens = n > 0 and said[n - 1]["role"] == "user"
            last = n == len(said) - 1 and not add_generation_prompt
            text += self._said(message, opens=opens, last=last)
        return self._tokenizer.encode(text + (self._opened(said) if add_generation_prompt else ""))

    def render(self, messages: list[Any], **options: Any) -> RenderedTokens:
        """`render_ids` as the library's object, which attributes nothing to messages."""
        return RenderedTokens(token_ids=self.render_ids(messages, **options))

    def parse_response(
        self, token_ids: list[int], *, tools: list[Any] | None = None, prompt_ids: list[int] | None = None
    ) -> ParsedResponse:
        """The response's reasoning, content and calls. Text between calls belongs to none of them and is content."""
        ids = [token for token in token_ids if token != self._eos]
        reasoning, opened = None, self._thinks(prompt_ids or ())
        if self._think_end in ids:
            at = ids.index(self._think_end)
            reasoning, ids, opened = self._text(ids[:at]), ids[at + 1 :], False
        elif opened:
            reasoning, ids = self._text(ids), []
        begun = ids.index(self._calls) if self._calls in ids else len(ids)
        offset = len(token_ids) - len(ids)
        return ParsedResponse(
            content=self._text(ids[:begun]).strip(),
            reasoning_content=reasoning or None,
            tool_calls=list(self._read(ids[begun:], offset + begun)),
            reasoning_complete=not opened,
        )

    def bridge_to_next_turn(
        self,
        previous_prompt_ids: list[int],
        previous_completion_ids: list[int],
        new_messages: list[Any],
        *,
        tools: list[Any] | None = None,
    ) -> RenderedTokens | None:
        """What was said so far, closed where it was cut off, and the new messages. None if it stopped within its
        thinking, or has tokens behind its end."""
        if not new_messages or any(message["role"] == "assistant" for message in new_messages):
            return None
        said = list(previous_completion_ids)
        stops = [n for n, token in enumerate(said) if token == self._eos]
        if stops and stops[0] < len(said) - 1:
            return None
        if self._thinks(previous_prompt_ids) and self._think_end not in said:
            if stops:
                return None
            said.append(self._think_end)
        if not stops:
            said.append(self._eos)
        text = "".join(self._said(message, opens=False, last=False) for message in new_messages)
        added = self._tokenizer.encode(text + self._opened(new_messages))
        return RenderedTokens(token_ids=[*previous_prompt_ids, *said, *added])

    def _token(self, text: str) -> int:
        token = self._tokenizer.convert_tokens_to_ids(text)
        assert isinstance(token, int), f"Special token {text!r} not found in tokenizer vocabulary"
        return token

    def _text(self, ids: Sequence[int]) -> str:
        return self._tokenizer.decode([token for token in ids if token not in (self._think, self._think_end)])

    def _opened(self, said: Sequence[dict[str, Any]]) -> str:
        """How a prompt ends: with the assistant's role behind a user's message, and with nothing behind a result."""
        if not said or said[-1]["role"] != "user":
            return ""
        return f"<｜Assistant｜>{'<think>' if self.config.thinking else self.config.no_thinking}"

    def _thinks(self, prompt: Sequence[int]) -> bool:
        return bool(prompt) and prompt[-1] == self._think

    def _said(self, message: dict[str, Any], *, opens: bool, last: bool) -> str:
        """The text of a message; `opens` behind a user's message, `last` if nothing answers it."""
        role, content = message["role"], message.get("content") or ""
        if role == "tool":
            return f"<｜tool▁output▁begin｜>{content}<｜tool▁output▁end｜>"
        if role != "assistant":
            return f"<｜User｜>{content}"
        thought = message.get("reasoning_content") or ""
        if last and self.config.thinking and opens:
            begin = f"<｜Assistant｜><think>{thought}</think>"
        else:
            begin = f"<｜Assistant｜>{self.config.no_thinking}" if opens else ""
        calls = "".join(_written(call["function"]) for call in message.get("tool_calls") or ())
        return f"{begin}{content}{f'{_CALLS}{calls}{_CALLS_END}' if calls else ''}{_END}"

    def _read(self, ids: list[int], offset: int) -> Iterator[ParsedToolCall]:
        """The calls in the block that begins with `ids`, of which the first is at `offset` in the response."""
        starts = [n for n, token in enumerate(ids) if token == self._call]
        if ids and not starts:
            yield ParsedToolCall(raw=self._text(ids), status=ToolCallParseStatus.MALFORMED_STRUCTURE)
        for start, following in zip(starts, [*starts[1:], len(ids)], strict=False):
            part = ids[start:following]
            end = part.index(self._call_end) if self._call_end in part else None
            yield self._read_call(part[1:end], (offset + start, offset + following), closed=end is not None)

    def _read_call(self, body: list[int], span: tuple[int, int], *, closed: bool) -> ParsedToolCall:
        raw = self._text(body)
        if not closed:
            return ParsedToolCall(raw=raw, token_span=span, status=ToolCallParseStatus.UNCLOSED_BLOCK)
        if self._separator not in body:
            return ParsedToolCall(raw=raw, token_span=span, status=ToolCallParseStatus.MALFORMED_STRUCTURE)
        at = body.index(self._separator)
        name, written = self._text(body[:at]).strip(), self._text(body[at + 1 :])
        if not name:
            return ParsedToolCall(raw=raw, token_span=span, status=ToolCallParseStatus.MISSING_NAME)
        try:
            return ParsedToolCall(raw=raw, name=name, arguments=json.loads(written), token_span=span)
        except json.JSONDecodeError:
            return ParsedToolCall(raw=raw, name=name, token_span=span, status=ToolCallParseStatus.INVALID_JSON)


def _written(function: dict[str, Any]) -> str:
    arguments = function["arguments"]
    written = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    return f"{_CALL}{function['name']}{_SEPARATOR}{written}{_CALL_END}"


def _described(tools: Sequence[dict[str, Any]]) -> str:
    """The tools in the words of the model's card."""
    text = "## Tools\nYou have access to the following tools:\n\n"
    for tool in tools:
        function = tool.get("function", tool)
        parameters = json.dumps(function.get("parameters") or {}, ensure_ascii=False)
        text += (
            f"### {function['name']}\nDescription: {function.get('description', '')}\n\nParameters: {parameters}\n\n"
        )
    return text + _HOW_TO_CALL
