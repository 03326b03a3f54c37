"""Compares the prompts that rollouts make with what the model's own chat template writes, id by id."""

import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from swe_aem.agent import Message, TurnRenderer
from swe_aem.agent.tools import SPECS
from swe_aem.errors import UserError
from swe_aem.models.chat_template import ChatTemplate, TemplateRefused

_AROUND = 30
"""Characters of a difference that are shown."""
_SYSTEM: Message = {"role": "system", "content": "You fix bugs."}
_USER: Message = {"role": "user", "content": '\n\nFix <b>it</b> & don\'t stop:\n\n    "naïve – 图".split()\n\nThanks.'}
_CALLS = (("bash", {"command": "ls -la\n"}), ("bash", {"command": "grep -n '<a>' x.py", "timeout_s": 5}))


class Comparison(NamedTuple):
    """One prompt in both forms."""

    name: str
    tokens: int
    """Token ids of the prompt that rollouts make."""
    difference: str | None
    """Where the two differ, in one line; None if they have the same ids."""
    in_response: bool = False
    """They differ within the response alone, which the template writes in its own way; what follows it is the same."""
    refused: bool = False
    """The template refuses such a conversation, and there is nothing to compare."""


def compare_first_prompts(renderer: TurnRenderer, template: ChatTemplate) -> list[Comparison]:
    """First prompts with and without tools and a system message; the native agent's own comes first."""
    return [
        compare_first_prompt(renderer, template),
        _compared("without tools", renderer, template, [_SYSTEM, _USER], ()),
        _compared("without a system message", renderer, template, [_USER], SPECS),
    ]


def compare_first_prompt(renderer: TurnRenderer, template: ChatTemplate) -> Comparison:
    """The first prompt as the native agent makes it: a system message, a user's message and tools."""
    return _compared("with tools", renderer, template, [_SYSTEM, _USER], SPECS)


def compare_turns(renderer: TurnRenderer, template: ChatTemplate) -> list[Comparison]:
    """Prompts that continue a conversation, where rollouts append and the template writes everything once more."""
    conversations = {
        "a call and its result": (_assistant(_CALLS[:1]), _results(1)),
        "two calls and their results": (_assistant(_CALLS), _results(2)),
        "an answer and a user's message": (_assistant(()), [{"role": "user", "content": "Please continue."}]),
    }
    if not renderer.parallel_calls:
        del conversations["two calls and their results"]
    return [_continued(name, renderer, template, *turn) for name, turn in conversations.items()]


def _compared(
    name: str, renderer: TurnRenderer, template: ChatTemplate, messages: Sequence[Message], tools: Sequence[Any]
) -> Comparison:
    ids = renderer.start(messages, tools)
    try:
        return Comparison(name, len(ids), _difference(renderer, ids, _render(renderer, template, messages, tools)))
    except TemplateRefused as refused:
        return _refused(name, refused)


def _continued(
    name: str, renderer: TurnRenderer, template: ChatTemplate, said: Message, answers: Sequence[Message]
) -> Comparison:
    """A response and what answers it, as a rollout continues it and as the template writes it."""
    tools = SPECS if renderer.template_has_tools else ()
    prompt = renderer.start([_SYSTEM, _USER], tools)
    try:
        response = _response(renderer, said)
    except UserError as error:
        return Comparison(name, 0, str(error))
    messages = [_SYSTEM, _USER, said, *answers]
    if renderer.config.thinking == "as_template" and messages.index(said) not in renderer.kept_thinking(
        messages, tools
    ):
        return _compared(name, renderer, template, messages, tools)
    ids = renderer.bridge(prompt, response, answers)
    if ids is None:
        return Comparison(name, 0, "no prompt can follow this response: a trajectory ends here")
    try:
        text = _render(renderer, template, messages, tools)
    except TemplateRefused as refused:
        return _refused(name, refused)
    tail = ids[len(prompt) + len(response) :]
    same_tail = renderer.tokenizer.encode(text)[-len(tail) :] == tail
    return Comparison(name, len(ids), _difference(renderer, ids, text), in_response=same_tail)


def _response(renderer: TurnRenderer, said: Message) -> list[int]:
    """What a model would sample, without reasoning where its prompt has closed the thinking already."""
    try:
        return renderer.render_assistant(said)
    except UserError:
        return renderer.render_assistant({**said, "reasoning_content": ""})


def _refused(name: str, refused: TemplateRefused) -> Comparison:
    return Comparison(name, 0, f"it refuses such a conversation ({refused})", refused=True)


def _difference(renderer: TurnRenderer, ids: Sequence[int], text: str) -> str | None:
    """Where a prompt and the template's text of it part, in one line; None if they have the same ids."""
    other = renderer.tokenizer.encode(text)
    if list(ids) == other:
        return None
    return _first_difference(renderer.tokenizer.decode(ids), text) or _other_tokens(renderer, ids, other)


def _first_difference(ours: str, template: str) -> str | None:
    """The text at which two prompts part, None if they are the same text."""
    if ours == template:
        return None
    n = next((n for n, (a, b) in enumerate(zip(ours, template, strict=False)) if a != b), min(len(ours), len(template)))
    before = ours[max(0, n - _AROUND) : n]
    return f"after {before!r}: {_shown(ours[n:])}, and in the template {_shown(template[n:])}"


def _shown(text: str) -> str:
    return repr(text[:_AROUND]) if text else "the end"


def _other_tokens(renderer: TurnRenderer, ours: Sequence[int], template: Sequence[int]) -> str:
    n = next((n for n, (a, b) in enumerate(zip(ours, template, strict=False)) if a != b), min(len(ours), len(template)))
    decode = renderer.tokenizer.decode
    return f"the same text in other tokens: {decode(ours[n : n + 3])!r} is {ours[n : n + 3]}, and {template[n : n + 3]}"


def _render(renderer: TurnRenderer, template: ChatTemplate, messages: Sequence[Message], tools: Sequence[Any]) -> str:
    """What the template writes under the renderer's settings, of messages in the first form that it takes."""
    tools = _sorted(tools) if renderer.sorts_tools else tools
    config = renderer.config
    switches: dict[str, Any] = {}
    if config.enable_thinking is not None:
        switches |= {"enable_thinking": config.enable_thinking, "thinking": config.enable_thinking}
    if config.reasoning_effort is not None:
        switches["reasoning_effort"] = config.reasoning_effort
    for form in _FORMS[:-1]:
        try:
            return template.render([form(message) for message in messages], tools, **switches)
        except TemplateRefused:
            continue
    return template.render([_FORMS[-1](message) for message in messages], tools, **switches)


def _sorted(value: Any) -> Any:
    """The same JSON value with the keys of its objects in order."""
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return [_sorted(one) for one in value] if isinstance(value, list | tuple) else value


def _as_objects(message: Message) -> Message:
    """Reasoning under both names that templates read, and arguments of calls as objects."""
    shown = dict(message)
    if (reasoning := message.get("reasoning_content")) is not None:
        shown["thinking"] = reasoning
    if calls := message.get("tool_calls"):
        shown["tool_calls"] = [
            {**call, "function": {**call["function"], "arguments": json.loads(call["function"]["arguments"])}}
            for call in calls
        ]
    return shown


def _without_reasoning(message: Message) -> Message:
    return _as_objects({key: value for key, value in message.items() if key != "reasoning_content"})


_FORMS: tuple[Callable[[Message], Message], ...] = (_as_objects, _without_reasoning, dict)
"""Forms in which templates take messages. The second is for templates that refuse reasoning and content in one
message, the third for those that join arguments as text."""


def _assistant(calls: Sequence[tuple[str, dict[str, Any]]]) -> Message:
    message: Message = {"role": "assistant", "content": "I look around.", "reasoning_content": "What is here?"}
    if calls:
        message["tool_calls"] = [
            {"id": f"call_0_{n}", "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
            for n, (name, arguments) in enumerate(calls)
        ]
    return message


def _results(count: int) -> list[Message]:
    return [
        {"role": "tool", "tool_call_id": f"call_0_{n}", "name": _CALLS[n][0], "content": f"x.py\n{n} files"}
        for n in range(count)
    ]
