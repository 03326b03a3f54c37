"""Messages to token ids and back, one turn at a time, over the `renderers` library.

A conversation is rendered once, at its start. From then on it only grows: `bridge` appends the environment's messages
to the exact ids of the last prompt and response, so nothing that was sampled is ever tokenised again. If a response
cannot be continued that way, `bridge` returns None and the trajectory ends; the conversation is never rendered a second
time.

A model family is a row of `MODEL_FAMILIES`, or a function of a user's own.
"""

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import ConfigDict, Field, field_validator

from swe_aem.core.base import Frozen
from swe_aem.errors import UserError
from swe_aem.extensions import ExtensionPoint
from swe_aem.policy import Tokenizer

if TYPE_CHECKING:
    from renderers.base import Renderer

Message = dict[str, Any]
"""A chat message: `role`, `content`, and for assistants `reasoning_content` and `tool_calls`."""


NAMELESS = "malformed_tool_call"
"""The name given to a call whose text names no tool."""


class RendererConfig(Frozen):
    """The chat format and its options."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    family: str = "qwen3"
    """Model family whose chat format is used: qwen3, the name of an installed one, package.module:object or
    file.py:object."""
    enable_thinking: bool = True
    """If false, each prompt ends with an empty thinking block, as in Qwen3's own template."""

    @field_validator("family")
    @classmethod
    def _is_a_family(cls, value: str) -> str:
        MODEL_FAMILIES.check(value)
        return value


class ParsedCall(Frozen):
    """One tool call as the model wrote it."""

    id: str = ""
    """The id that a chat API gave it; empty where `call_id` makes one."""
    name: str = ""
    arguments: dict[str, Any] = Field(default_factory=dict)
    raw: str
    """The text of the call."""
    problem: str | None = None
    """Why it is malformed, in words for the model; None if it is well formed."""
    unclosed: bool = False
    """True if the response ended before the call did."""
    converted: int = 0
    """1 if `arguments` was written as a JSON text or as null, else 0."""


class ParsedTurn(Frozen):
    """A parsed response."""

    content: str
    reasoning: str | None = None
    calls: tuple[ParsedCall, ...] = ()

    def message(self, number: int) -> Message:
        """The response as a chat message in OpenAI's format. Arguments are JSON text; those of a malformed call are its
        text as written.

        `number` is the number of the response in its conversation, from which the ids of its calls are made.
        """
        message: Message = {"role": "assistant", "content": self.content}
        if self.reasoning is not None:
            message["reasoning_content"] = self.reasoning
        if self.calls:
            message["tool_calls"] = [
                {
                    "id": id,
                    "type": "function",
                    "function": {
                        "name": call.name or NAMELESS,
                        "arguments": call.raw if call.problem else json.dumps(call.arguments, ensure_ascii=False),
                    },
                }
                for id, call in zip(self.call_ids(number), self.calls, strict=True)
            ]
        return message

    def call_ids(self, number: int) -> list[str]:
        """The ids of the calls of response `number` in its conversation."""
        return [call.id or call_id(number, n) for n, call in enumerate(self.calls)]


def call_id(response: int, n: int) -> str:
    """The id of tool call number `n` in response number `response` of a conversation."""
    return f"call_{response}_{n}"


def qwen3(config: RendererConfig) -> Any:
    """The chat format of Qwen3."""
    from renderers.configs import Qwen3RendererConfig

    # "all": an observation may come as a user message too, and earlier reasoning stays where it was sampled.
    return Qwen3RendererConfig(enable_thinking=config.enable_thinking, thinking_retention="all")


MODEL_FAMILIES: ExtensionPoint[Callable[[RendererConfig], Any]] = ExtensionPoint(
    "model family", group="swe_aem.model_families", builtin={"qwen3": "swe_aem.agent.renderer:qwen3"}
)
"""The function that makes the `renderers` configuration of each model family from ours, by the family's name."""


class TurnRenderer:
    """Renders the first prompt, parses responses, bridges to the next prompt."""

    def __init__(self, tokenizer: Tokenizer, config: RendererConfig | None = None) -> None:
        from renderers import create_renderer
        from renderers.configs import BaseRendererConfig

        self.config = config or RendererConfig()
        family = MODEL_FAMILIES.find(self.config.family).value
        if not callable(family):
            raise UserError(
                f"model family {self.config.family} is {family!r:.60}: give a function that makes a configuration of "
                "the library renderers from a swe_aem.RendererConfig"
            )
        self.tokenizer = tokenizer
        self._tools: list[Any] = []
        made: Any = family(self.config)
        if not isinstance(made, BaseRendererConfig):
            raise UserError(
                f"model family {self.config.family} makes {made!r:.60}, which is no configuration of the "
                "library renderers (renderers.configs)"
            )
        try:
            self._renderer: Renderer = create_renderer(tokenizer, made)  # type: ignore[arg-type]
        except AssertionError as error:  # raised by the library if a control token is missing
            raise UserError(
                f"tokenizer {tokenizer.name_or_path!r} does not fit the family {self.config.family!r}: {error}"
            ) from error

    @property
    def stop_token_ids(self) -> tuple[int, ...]:
        """Token ids that end a response; the stop token is part of the response."""
        return tuple(self._renderer.get_stop_token_ids())

    def start(self, messages: Sequence[Message], tools: Sequence[dict[str, Any]]) -> list[int]:
        """Token ids of the first prompt, up to where the assistant's first response begins.

        `messages` may hold assistant messages whose token ids are unknown: no token of a first prompt is trained on.
        """
        return self._renderer.render_ids(self._guard(messages), tools=list(tools) or None, add_generation_prompt=True)  # type: ignore[arg-type]

    def parse(self, completion_ids: Sequence[int], prompt_ids: Sequence[int] | None = None) -> ParsedTurn:
        """Parse a response. Never fails: text that cannot be parsed is a malformed call.

        `prompt_ids` shows whether the prompt has already opened a thinking block.
        """
        ids = list(completion_ids)
        try:
            parsed = self._renderer.parse_response(ids, prompt_ids=list(prompt_ids) if prompt_ids else None)
        except (ValueError, RecursionError):
            # The library catches JSON syntax errors only. A number of 5,000 digits or a million open brackets raises.
            problem = "a number in the call is too long, or its nesting is too deep"
            return ParsedTurn(content="", calls=(ParsedCall(raw=self.tokenizer.decode(ids), problem=problem),))
        calls = tuple(_read_call(call) for call in parsed.tool_calls)
        return ParsedTurn(content=parsed.content, reasoning=parsed.reasoning_content, calls=calls)

    def bridge(
        self, prompt_ids: Sequence[int], completion_ids: Sequence[int], messages: Sequence[Message]
    ) -> list[int] | None:
        """The next prompt: exactly `prompt_ids + completion_ids`, followed by the tool or user `messages`.

        After a response that was cut off, and so has no stop token, the end of its turn is appended too. None if the
        response cannot be continued, for example because it ended inside its thinking block.
        """
        done = [*prompt_ids, *completion_ids]
        bridged = self._renderer.bridge_to_next_turn(list(prompt_ids), list(completion_ids), self._guard(messages))  # type: ignore[arg-type]
        if bridged is None or bridged.token_ids[: len(done)] != done:
            return None
        return list(bridged.token_ids)

    def render_assistant(self, message: Message) -> list[int]:
        """The token ids that a model would sample for `message`, stop token included; for scripted policies."""
        before = [{"role": "user", "content": "."}]
        prompt = self._renderer.render_ids(before, add_generation_prompt=True)  # type: ignore[arg-type]
        whole = self._renderer.render_ids([*before, self._guard_assistant(message)])  # type: ignore[arg-type]
        stops = [n for n, token in enumerate(whole) if token in self.stop_token_ids]
        if whole[: len(prompt)] != prompt or not stops or stops[-1] < len(prompt):
            raise UserError(f"the family {self.config.family!r} cannot render a scripted assistant message")
        return whole[len(prompt) : stops[-1] + 1]

    def _guard(self, messages: Sequence[Message]) -> list[Message]:
        return [
            self._guard_assistant(message)
            if message["role"] == "assistant"
            else {**message, "content": self.tokenizer.untrusted(message["content"])}
            for message in messages
        ]

    def _guard_assistant(self, message: Message) -> Message:
        """Keep control tokens out of content and arguments: a patch may contain their text."""
        calls = [
            {"type": "function", "function": {**call["function"], "arguments": self._guard_arguments(call)}}
            for call in message.get("tool_calls", ())
        ]
        content = self.tokenizer.untrusted(message.get("content", ""))
        reasoning = self.tokenizer.untrusted(message.get("reasoning_content", ""))
        return {"role": "assistant", "content": content, "reasoning_content": reasoning, "tool_calls": calls}

    def _guard_arguments(self, call: dict[str, Any]) -> str:
        arguments = call["function"]["arguments"]
        text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
        return self.tokenizer.untrusted(text)


_PROBLEMS: dict[str, str] = {
    "invalid_json": "the call is not valid JSON",
    "unclosed_block": "the call has no closing tag",
    "missing_name": "the call names no tool",
    "malformed_structure": "the call does not have the required structure",
    "unknown_tool": "there is no such tool",
}


def _read_call(call: Any) -> ParsedCall:
    """A call of the library's as a `ParsedCall`, with the checks that later code relies on."""
    status = str(call.status)
    if status != "ok":
        problem = _PROBLEMS.get(status, status)
        return ParsedCall(raw=call.raw, problem=problem, unclosed=status == "unclosed_block")
    if not isinstance(call.name, str) or not call.name.isidentifier():
        return ParsedCall(raw=call.raw, problem="the name of the tool is not a plain word")
    arguments = read_arguments(call.arguments)
    if arguments is None:
        return ParsedCall(name=call.name, raw=call.raw, problem='"arguments" is not a JSON object')
    converted = int(not isinstance(call.arguments, dict))
    return ParsedCall(name=call.name, arguments=arguments, raw=call.raw, converted=converted)


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
