"""Messages to token ids and back, one turn at a time, over the `renderers` library.

A conversation is rendered once, at its start. From then on it only grows: `bridge` appends the environment's messages
to the exact ids of the last prompt and response, so nothing that was sampled is ever tokenised again. If a response
cannot be continued that way, `bridge` returns None and the trajectory ends. Only where the setting `thinking` asks for
it is a conversation rendered again, without earlier thinking; then a second token stream begins, and the first stays.

The chat format is that of a model family (`swe_aem.agent.families`), or of a function of a user's own.
"""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ConfigDict, field_validator

from swe_aem.agent.families.calls import read_arguments, read_json
from swe_aem.agent.families.choose import Choice, choose
from swe_aem.agent.families.family import Family
from swe_aem.agent.families.files import ModelFiles, known_files
from swe_aem.agent.families.registry import AUTO, MODEL_FAMILIES
from swe_aem.agent.parsed import Message, ParsedCall, ParsedTurn
from swe_aem.agent.renderers_library import import_renderers
from swe_aem.core.base import Frozen
from swe_aem.errors import UserError
from swe_aem.policy import Tokenizer

if TYPE_CHECKING:
    from renderers.base import Renderer


class RendererConfig(Frozen):
    """The chat format and its options."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    family: str = AUTO
    """Model family whose chat format is used: auto, which chooses it from the model's own files; a name such as qwen3,
    qwen3-coder or gpt-oss (swe-aem docs models); the name of an installed one, package.module:object or
    file.py:object."""
    enable_thinking: bool | None = None
    """Whether the model thinks before it answers, where its family can switch that. Left out, the default of the
    model's own chat template."""
    reasoning_effort: str | None = None
    """How much the model thinks, in the words of its family, such as low, medium or high for gpt-oss. Left out, the
    default of the model's own chat template."""
    thinking: Literal["keep", "as_template"] = "keep"
    """What becomes of earlier thinking. keep: it stays where it was sampled, so that a conversation is one token stream
    and all of it is trained on. as_template: where the model's chat template leaves it out, as most do once a user
    speaks again, the conversation is rendered again without it, and what was sampled before becomes a branch, which is
    trained on only with branches_per_trajectory."""

    @field_validator("family")
    @classmethod
    def _is_a_family(cls, value: str) -> str:
        MODEL_FAMILIES.check(value)
        return value


_THOUGHT = "I see."
"""Thinking of scripted messages that have none, in formats whose prompts open it."""


_MARK = "the thinking of message number {} of this conversation"


class TurnRenderer:
    """Renders the first prompt, parses responses, bridges to the next prompt."""

    def __init__(self, tokenizer: Tokenizer, config: RendererConfig | None = None) -> None:
        create_renderer = import_renderers().create_renderer
        self.config = config or RendererConfig()
        self.tokenizer = tokenizer
        files = known_files(tokenizer)
        self.choice: Choice | None = choose(files, tokenizer.name_or_path) if self.config.family == AUTO else None
        """How the family was chosen; None if the configuration names it."""
        self.family: str = self.choice.family if self.choice else self.config.family
        """Name of the model family."""
        found = MODEL_FAMILIES.find(self.family).value
        self._read = found.read if isinstance(found, Family) else read_json
        self._own_ids = isinstance(found, Family) and found.own_ids
        self.json_arguments = not isinstance(found, Family) or found.json_arguments
        """False if the format writes each argument of a call by itself."""
        self.describes_tools = not isinstance(found, Family) or found.describes_tools
        """False if the format tells a model nothing of its tools."""
        self.sorts_tools = isinstance(found, Family) and found.sorts_tools
        """True if the model's own tokenizer sorts the keys of tools before its template writes them."""
        self.template_has_tools = not isinstance(found, Family) or found.template_has_tools
        """False if tools are described beside the family's chat template, which says nothing of them."""
        self.parallel_calls = not isinstance(found, Family) or found.parallel
        """False if the format has one call in a response."""
        try:
            self._renderer: Renderer = create_renderer(tokenizer, self._configuration(found, files))  # type: ignore[arg-type]
        except (AssertionError, ValueError) as error:  # raised by the library if a control token is missing
            if isinstance(error, UserError):
                raise
            raise UserError(
                f"tokenizer {tokenizer.name_or_path!r} does not fit the family {self.family!r}: {error}"
            ) from error

    def _configuration(self, found: Any, files: ModelFiles) -> Any:
        from renderers.configs import BaseRendererConfig

        if not callable(found) and not isinstance(found, Family):
            raise UserError(
                f"model family {self.family} is {found!r:.60}: give a function that makes a configuration of "
                "the library renderers from a swe_aem.RendererConfig"
            )
        made: Any = found.configuration(self.config, files) if isinstance(found, Family) else found(self.config)
        if not isinstance(made, BaseRendererConfig):
            raise UserError(
                f"model family {self.family} makes {made!r:.60}, which is no configuration of the "
                "library renderers (renderers.configs)"
            )
        return made

    @property
    def stop_token_ids(self) -> tuple[int, ...]:
        """Token ids that end a response; the stop token is part of the response."""
        return tuple(self._renderer.get_stop_token_ids())

    def start(self, messages: Sequence[Message], tools: Sequence[dict[str, Any]]) -> list[int]:
        """Token ids of the first prompt, up to where the assistant's first response begins.

        `messages` may hold assistant messages whose token ids are unknown: no token of a first prompt is trained on.
        Raises `UserError` for tools in a format that has no place for them.
        """
        if tools and not self.describes_tools:
            raise UserError(
                f"the chat format of {self.family} tells a model nothing of its tools: use an agent that needs none "
                "(--agent mini-swe-agent), or write of them in prompts of your own (agent.prompts) and set "
                "agent.describe_tools=false"
            )
        return self._renderer.render_ids(self._guard(messages), tools=list(tools) or None, add_generation_prompt=True)  # type: ignore[arg-type]

    def kept_thinking(self, messages: Sequence[Message], tools: Sequence[dict[str, Any]]) -> frozenset[int]:
        """The places in `messages` of assistant messages whose thinking belongs in the next prompt.

        With `thinking: keep` all that think; otherwise those whose thinking the family's chat template writes.
        """
        thinking = [n for n, message in enumerate(messages) if (message.get("reasoning_content") or "").strip()]
        if self.config.thinking == "keep" or not thinking:
            return frozenset(thinking)
        marked = [_marked(message, n) for n, message in enumerate(messages)]
        text = self.tokenizer.decode(self.start(marked, tools))
        return frozenset(n for n in thinking if _MARK.format(n) in text)

    def parse(
        self,
        completion_ids: Sequence[int],
        prompt_ids: Sequence[int] | None = None,
        tools: Sequence[dict[str, Any]] = (),
    ) -> ParsedTurn:
        """Parse a response. Never fails: text that cannot be parsed is a malformed call.

        `prompt_ids` shows whether the prompt has already opened a thinking block. The schemas of the `tools` say which
        type an argument has, in formats that do not write it: without them it is text.
        """
        ids = list(completion_ids)
        try:
            parsed = self._renderer.parse_response(ids, prompt_ids=list(prompt_ids) if prompt_ids else None)
        except (ValueError, RecursionError):
            # The library catches JSON syntax errors only. A number of 5,000 digits or a million open brackets raises.
            problem = "a number in the call is too long, or its nesting is too deep"
            return ParsedTurn(content="", calls=(ParsedCall(raw=self.tokenizer.decode(ids), problem=problem),))
        blocks = list({call.token_span or n: call for n, call in enumerate(parsed.tool_calls)}.values())
        calls = tuple(call for block in blocks for call in self._read(block, tools))
        return ParsedTurn(content=parsed.content, reasoning=parsed.reasoning_content, calls=calls)

    def bridge(
        self, prompt_ids: Sequence[int], completion_ids: Sequence[int], messages: Sequence[Message]
    ) -> list[int] | None:
        """The next prompt: exactly `prompt_ids + completion_ids`, followed by the tool or user `messages`.

        After a response that was cut off, and so has no stop token, the end of its turn is appended too. None if the
        response cannot be continued, for example because it ended inside its thinking block.
        """
        prompt, said = list(prompt_ids), list(completion_ids)
        answers = self._guard(self._addressed(prompt, said, messages) if self._own_ids else messages)
        try:
            bridged = self._renderer.bridge_to_next_turn(prompt, said, answers)  # type: ignore[arg-type]
        except (ValueError, RecursionError):  # some formats parse the response for it, as in `parse`
            return None
        if bridged is None or bridged.token_ids[: len(prompt) + len(said)] != prompt + said:
            return None
        return list(bridged.token_ids)

    def _addressed(self, prompt: list[int], said: list[int], messages: Sequence[Message]) -> list[Message]:
        """The messages with the ids and names of the calls that they answer as the response has them."""
        try:
            calls = list(self._renderer.parse_response(said, prompt_ids=prompt).tool_calls)
        except (ValueError, RecursionError):
            return list(messages)
        addressed, number = [], 0
        for message in messages:
            if message["role"] == "tool":
                called = calls[number] if number < len(calls) else None
                number += 1
                if called is not None and called.id:
                    message = {**message, "tool_call_id": called.id}
                if called is not None and called.name:
                    message = {**message, "name": called.name}
            addressed.append(message)
        return addressed

    def render_assistant(self, message: Message) -> list[int]:
        """The token ids that a model would sample for `message`, stop token included; for scripted policies."""
        before = [{"role": "user", "content": "."}]
        prompt = self._renderer.render_ids(before, add_generation_prompt=True)  # type: ignore[arg-type]
        whole = self._renderer.render_ids([*before, self._guard_assistant(message)])  # type: ignore[arg-type]
        said = self._behind(prompt, whole)
        if said is None and not message.get("reasoning_content"):  # a prompt that opens thinking wants some
            return self.render_assistant({**message, "reasoning_content": _THOUGHT})
        if said is None:
            raise UserError(f"the family {self.family!r} cannot render a scripted assistant message")
        stops = [n for n, token in enumerate(said) if token in self.stop_token_ids]
        return said[: stops[0] + 1] if stops else [*said, self._next_role(before, message, whole)]

    def _next_role(self, before: list[Message], message: Message, whole: list[int]) -> int:
        """The stop token of a format in which the marker of the next role ends a response."""
        answer = {"role": "tool" if message.get("tool_calls") else "user", "content": "."}
        answered = self._renderer.render_ids([*before, self._guard_assistant(message), answer])  # type: ignore[arg-type]
        following = answered[len(whole) : len(whole) + 1] if answered[: len(whole)] == whole else []
        return next((token for token in following if token in self.stop_token_ids), self.stop_token_ids[0])

    def _behind(self, prompt: list[int], whole: list[int]) -> list[int] | None:
        """What of `whole` comes after `prompt`; None if it does not begin with its text. Where a token of `whole` joins
        the prompt's last characters to the next ones, these are tokenised alone."""
        pairs = zip(prompt, whole, strict=False)
        same = next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(prompt), len(whole)))
        if same == len(prompt):
            return whole[same:]
        opened = self.tokenizer.decode(prompt[same:])
        if opened.startswith("<think>") and "</think>" not in opened and whole[same] != prompt[same]:
            return [*self.tokenizer.encode(f"{_THOUGHT}\n</think>\n\n"), *whole[same:]]
        for end in range(same + 1, len(whole) + 1):
            text = self.tokenizer.decode(whole[same:end])
            if len(text) >= len(opened):
                rest = self.tokenizer.encode(self.tokenizer.untrusted(text[len(opened) :]))
                return rest + whole[end:] if text.startswith(opened) else None
        return None

    def _guard(self, messages: Sequence[Message]) -> list[Message]:
        return [
            self._guard_assistant(message) if message["role"] == "assistant" else self._guard_texts(message)
            for message in messages
        ]

    def _guard_texts(self, message: Message) -> Message:
        return {
            key: self.tokenizer.untrusted(text) if key != "role" and isinstance(text, str) else text
            for key, text in message.items()
        }

    def _guard_assistant(self, message: Message) -> Message:
        """Keep control tokens out of content and arguments: a patch may contain their text."""
        content, calls = message.get("content", ""), []
        for call in message.get("tool_calls", ()):
            arguments = self._written(call["function"]["arguments"])
            if arguments is None:
                content = f"{content}\n{call['function']['arguments']}".strip()
                continue
            named = {"id": self.tokenizer.untrusted(call["id"])} if call.get("id") else {}
            function = {**call["function"], "arguments": self.tokenizer.untrusted(arguments)}
            calls.append({**named, "type": "function", "function": function})
        content = self.tokenizer.untrusted(content)
        reasoning = self.tokenizer.untrusted(message.get("reasoning_content", ""))
        return {"role": "assistant", "content": content, "reasoning_content": reasoning, "tool_calls": calls}

    def _written(self, arguments: Any) -> str | None:
        """The JSON text of a call's arguments. None for those of a malformed call in a format that writes each argument
        by itself, and so cannot show it as a call."""
        if not self.json_arguments:
            arguments = {} if arguments == "null" else read_arguments(arguments)
            if arguments is None:
                return None
        return arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)


def _marked(message: Message, n: int) -> Message:
    """A short message in the place of number `n`, with a mark for its thinking."""
    short = {key: value for key, value in message.items() if key in ("role", "name", "tool_call_id")}
    short["content"] = "." if (message.get("content") or "").strip() else ""
    if message.get("reasoning_content"):
        short["reasoning_content"] = _MARK.format(n)
    if calls := message.get("tool_calls"):
        short["tool_calls"] = [{**call, "function": {**call["function"], "arguments": "{}"}} for call in calls]
    return short
