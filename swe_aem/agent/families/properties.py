"""Checks of what rollouts rely on in a chat format, on random conversations of a fixed seed.

They need nothing but a `TurnRenderer`, so that the same checks run on stand-in tokenizers and on a model's own files. A
check is a function that raises `AssertionError` with an example where the property does not hold.
"""

import json
import random
import time
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from typing import Any, NamedTuple

from swe_aem.agent.parsed import Message
from swe_aem.agent.renderer import TurnRenderer
from swe_aem.errors import UserError
from swe_aem.policy import Tokenizer


class Finding(NamedTuple):
    """What came of one check."""

    check: str
    """What holds, in words."""
    problem: str | None
    """Why it does not, in a line with an example; None if it holds."""


def check_properties(renderer: TurnRenderer, *, rounds: int = 20, seed: int = 0) -> list[Finding]:
    """Run every check on `rounds` random conversations; one finding for each check, in a fixed order."""
    return [_find(renderer, what, check, rounds, seed, None) for what, check in CHECKS.items()]


def quick_check(renderer: TurnRenderer, *, limit_s: float = 1.0) -> list[Finding]:
    """Run every check a few times, within about `limit_s` seconds: for the start of a run."""
    each_s = limit_s / len(CHECKS)
    return [_find(renderer, what, check, 3, 0, each_s) for what, check in CHECKS.items()]


def _find(renderer: TurnRenderer, what: str, check: "Check", rounds: int, seed: int, limit_s: float | None) -> Finding:
    started_s = time.monotonic()
    for n in range(rounds):
        try:
            check(renderer, random.Random(f"{seed} {n} {what}"))
        except AssertionError as error:
            return Finding(what, str(error) or "it does not")
        except Exception as error:  # whatever a renderer raises is a defect of the format
            return Finding(what, f"{type(error).__name__}: {error}")
        if limit_s is not None and time.monotonic() - started_s > limit_s:
            break
    return Finding(what, None)


Check = Callable[[TurnRenderer, random.Random], None]

TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "act",
        "description": "Does something.",
        "parameters": {
            "type": "object",
            "properties": {
                "text": {"type": "string", "description": "Any text."},
                "count": {"type": "integer"},
                "share": {"type": "number"},
                "flag": {"type": "boolean"},
                "items": {"type": "array", "items": {"type": "string"}},
                "table": {"type": "object"},
            },
            "required": ["text"],
        },
    },
}
"""The tool of the random conversations."""

_PIECES = (
    "word", "fix the parser", "    return x\n", "\n", "\n\n", "\t", "\r\n", " ", "é", "日本", "🙂", "e\u0301", "\u2028",
    "\ufdd0", '{"a": 1}', "```json\n", "</parameter>", "<function=", "</think>", "<arg_value>", "<|", "|>", "\\n",
    '"', "'", "<b>", "0",
)  # fmt: skip


@lru_cache(maxsize=8)
def _pieces(tokenizer: Tokenizer) -> tuple[str, ...]:
    """Pieces that the tokenizer gives back as they are: many write accents in their composed form (NFC)."""
    return tuple(piece for piece in _PIECES if tokenizer.decode(tokenizer.encode(tokenizer.untrusted(piece))) == piece)


def _text(renderer: TurnRenderer, chance: random.Random, pieces: int = 8) -> str:
    """Random text, in which the text of control tokens occurs."""
    control = sorted(renderer.tokenizer.control_tokens)
    return "".join(
        chance.choice(control) if control and chance.random() < 0.2 else chance.choice(_pieces(renderer.tokenizer))
        for _ in range(chance.randrange(pieces))
    )


def _content(renderer: TurnRenderer, chance: random.Random) -> str:
    """Random content of an assistant. Templates take what stands before the text of `</think>` in it for thinking."""
    return _text(renderer, chance).replace("<think>", "").replace("</think>", "")


def _arguments(renderer: TurnRenderer, chance: random.Random) -> dict[str, Any]:
    """Random arguments of `TOOL`."""
    made = {
        "text": _text(renderer, chance),
        "count": chance.randrange(-5, 10**6),
        "share": chance.randrange(1, 100) / 8,
        "flag": chance.random() < 0.5,
        "items": [_text(renderer, chance, 3) for _ in range(chance.randrange(3))],
        "table": {"key": _text(renderer, chance, 3), "none": None},
    }
    chosen = {key: value for key, value in made.items() if key == "text" or chance.random() < 0.5}
    # where values stand between tags, what ends one and begins the next cannot be in one
    return chosen if renderer.json_arguments else json.loads(json.dumps(chosen).replace("</arg_value>", ""))


def _response(renderer: TurnRenderer, chance: random.Random, calls: int | None = None) -> Message:
    """A random assistant message, with a number of calls."""
    most = 3 if renderer.parallel_calls else 1
    number = chance.randrange(most + 1) if calls is None else calls
    message: Message = {"role": "assistant", "content": _content(renderer, chance)}
    if number:
        message["tool_calls"] = [
            {"type": "function", "function": {"name": "act", "arguments": _arguments(renderer, chance)}}
            for _ in range(number)
        ]
    return message


def _first(renderer: TurnRenderer, statement: str = "Fix it.") -> list[int]:
    return renderer.start(
        [{"role": "system", "content": "Help."}, {"role": "user", "content": statement}], _tools(renderer)
    )


def _tools(renderer: TurnRenderer) -> list[dict[str, Any]]:
    return [TOOL] if renderer.describes_tools else []


def _answers(renderer: TurnRenderer, chance: random.Random, calls: int) -> list[Message]:
    """What follows a response: an answer to each call, or a user's message."""
    if not calls:
        return [{"role": "user", "content": _text(renderer, chance) or "More?"}]
    return [
        {"role": "tool", "tool_call_id": f"call_1_{n}", "name": "act", "content": _text(renderer, chance)}
        for n in range(calls)
    ]


def _mutated(renderer: TurnRenderer, chance: random.Random, ids: list[int]) -> list[int]:
    """A response with a few faults: cut off, parts lost or doubled, any token anywhere."""
    ids = list(ids)
    for _ in range(chance.randrange(1, 4)):
        a = chance.randrange(len(ids) + 1)
        b = min(len(ids), a + chance.randrange(12))
        kind = chance.randrange(5)
        if kind == 0:
            ids = ids[:a]
        elif kind == 1:
            ids = ids[:a] + ids[b:]
        elif kind == 2:
            ids = ids[:b] + ids[a:b] + ids[b:]
        elif kind == 3 and renderer.tokenizer.control_token_ids:
            ids.insert(a, chance.choice(sorted(renderer.tokenizer.control_token_ids)))
        else:
            ids.insert(a, chance.randrange(len(renderer.tokenizer)))
    return ids


def _control(renderer: TurnRenderer, ids: list[int]) -> list[int]:
    return [token for token in ids if token in renderer.tokenizer.control_token_ids]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}..."


def _prompt_is_rendered(renderer: TurnRenderer, chance: random.Random) -> None:
    statement = _text(renderer, chance)
    prompt = _first(renderer, f"a {statement} b")
    assert prompt == _first(renderer, f"a {statement} b"), f"two renderings of {_short(statement)} differ"
    text = renderer.tokenizer.decode(prompt)
    assert f"a {_readable(statement)} b" in text, f"the statement {_short(statement)} is not in its prompt"
    assert "act" in text or not renderer.describes_tools, "the name of a tool is not in the prompt"


def _text_cannot_forge(renderer: TurnRenderer, chance: random.Random) -> None:
    text = _text(renderer, chance)
    first = _control(renderer, _first(renderer, f"a{text}b"))
    assert first == _control(renderer, _first(renderer, "ab")), f"a statement forged control tokens: {_short(text)}"
    message = _response(renderer, chance, calls=1)
    prompt, said = _first(renderer), renderer.render_assistant(message)
    for role in ("tool", "user"):
        with_text, without = (
            renderer.bridge(
                prompt, said, [{"role": role, "tool_call_id": "call_1_0", "name": "act", "content": content}]
            )
            for content in (f"a{text}b", "ab")
        )
        assert with_text is not None, f"a well-formed response cannot be followed: {_short(message)}"
        assert without is not None, f"a well-formed response cannot be followed: {_short(message)}"
        forged = _control(renderer, with_text) != _control(renderer, without)
        assert not forged, f"an observation forged control tokens: {_short(text)}"


def _stops_once(renderer: TurnRenderer, chance: random.Random) -> None:
    assert renderer.stop_token_ids, "the format has no stop tokens"
    outside = [token for token in renderer.stop_token_ids if token not in renderer.tokenizer.control_token_ids]
    assert not outside, f"stop tokens that text can hold: {renderer.tokenizer.decode(outside)!r}"
    message = _response(renderer, chance)
    ids = renderer.render_assistant(message)
    stops = [n for n, token in enumerate(ids) if token in renderer.stop_token_ids]
    assert stops == [len(ids) - 1], f"{len(stops)} stop tokens in the response {_short(message)}"


def _is_read_back(renderer: TurnRenderer, chance: random.Random, calls: int | None = None) -> None:
    message = _response(renderer, chance, calls)
    turn = renderer.parse(renderer.render_assistant(message), _first(renderer), [TOOL])
    sent = [call["function"]["arguments"] for call in message.get("tool_calls", ())]
    problems = [call.problem for call in turn.calls if call.problem]
    assert not problems, f"a well-formed call is malformed ({problems[0]}): {_short(message)}"
    got = [call.arguments for call in turn.calls]
    assert got == sent, f"arguments {_short(sent)} are read as {_short(got)}"
    assert all(call.name == "act" for call in turn.calls), f"the tool act is read as {turn.calls[0].name}"


def _calls_are_read(renderer: TurnRenderer, chance: random.Random) -> None:
    _is_read_back(renderer, chance, calls=1)


def _parallel_calls_are_read(renderer: TurnRenderer, chance: random.Random) -> None:
    if renderer.parallel_calls:
        _is_read_back(renderer, chance, calls=chance.randrange(2, 5))


def _content_is_read(renderer: TurnRenderer, chance: random.Random) -> None:
    content = f"I say {_content(renderer, chance)} so"
    turn = renderer.parse(
        renderer.render_assistant({"role": "assistant", "content": content}), _first(renderer), [TOOL]
    )
    assert not turn.calls, f"content is read as a call: {_short(content)}"
    assert turn.content.strip() == _readable(content), f"content {_short(content)} is read as {_short(turn.content)}"


def _bridges_exactly(renderer: TurnRenderer, chance: random.Random) -> None:
    """A conversation of some turns: every prompt begins with all ids before it, and holds what was answered."""
    prompt = _first(renderer)
    opening = _opening(renderer, prompt)
    for _ in range(chance.randrange(1, 4)):
        message = _response(renderer, chance)
        said = renderer.render_assistant(message)
        answers = _answers(renderer, chance, len(message.get("tool_calls", ())))
        bridged = renderer.bridge(prompt, said, answers)
        assert bridged is not None, f"a well-formed response cannot be followed: {_short(message)}"
        _extends(renderer, prompt, said, answers, bridged, opening)
        prompt = bridged


def _bridges_or_refuses(renderer: TurnRenderer, chance: random.Random) -> None:
    """Whatever was sampled, the next prompt begins with its exact ids, or there is none."""
    prompt = _first(renderer)
    said = _mutated(renderer, chance, renderer.render_assistant(_response(renderer, chance)))
    if not said:
        return
    answers = _answers(renderer, chance, chance.randrange(3))
    bridged = renderer.bridge(prompt, said, answers)
    if bridged is not None:
        _extends(renderer, prompt, said, answers, bridged, _opening(renderer, prompt))


def _bridges_as_rendered(renderer: TurnRenderer, chance: random.Random) -> None:
    """The prompt after one call is what rendering the whole conversation gives."""
    message = _response(renderer, chance, calls=1)
    message["content"] = "I act."
    with suppress(UserError):  # a format may have no place for thinking
        renderer.render_assistant({**message, "reasoning_content": "I think."})
        message["reasoning_content"] = "I think."
    before: list[Message] = [{"role": "system", "content": "Help."}, {"role": "user", "content": "Fix it."}]
    calls = [{**call, "id": f"call_1_{n}"} for n, call in enumerate(message["tool_calls"])]
    answers = _answers(renderer, chance, len(calls))
    whole = renderer.start([*before, {**message, "tool_calls": calls}, *answers], _tools(renderer))
    bridged = renderer.bridge(_first(renderer), renderer.render_assistant(message), answers)
    assert bridged is not None, f"a well-formed response cannot be followed: {_short(message)}"
    a, b = renderer.tokenizer.decode(whole), renderer.tokenizer.decode(bridged)
    if not a.startswith(renderer.tokenizer.decode(_first(renderer))):
        return  # the format leaves the thinking out that its prompt has opened
    at = next((n for n, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    assert a == b, (
        f"rendered whole {_short(a[max(0, at - 40) : at + 60])}, bridged {_short(b[max(0, at - 40) : at + 60])}"
    )


def _faults_are_told(renderer: TurnRenderer, chance: random.Random) -> None:
    message = _response(renderer, chance, calls=1)
    said = _mutated(renderer, chance, renderer.render_assistant(message))
    for call in renderer.parse(said, _first(renderer), [TOOL]).calls:
        assert call.problem or isinstance(call.arguments, dict), f"neither arguments nor a problem: {_short(call.raw)}"
        assert call.problem or call.name, f"a call without a name is well formed: {_short(call.raw)}"
        json.dumps(call.arguments)


def _null_and_text_are_converted(renderer: TurnRenderer, chance: random.Random) -> None:
    """Arguments written as null or as the JSON text of an object, in formats whose arguments are JSON."""
    if not renderer.json_arguments:
        return
    arguments = {key: value for key, value in _arguments(renderer, chance).items() if key in ("count", "flag", "share")}
    for written, meant in (("null", {}), (json.dumps(json.dumps(arguments)), arguments)):
        function = {"name": "act", "arguments": written}
        ids = renderer.render_assistant(
            {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": function}]}
        )
        got = [(call.problem, call.arguments, call.converted) for call in renderer.parse(ids, _first(renderer)).calls]
        assert got == [(None, meant, 1)], f"arguments {written} are read as {_short(got)}"


def _extends(
    renderer: TurnRenderer, prompt: list[int], said: list[int], answers: list[Message], bridged: list[int], opening: str
) -> None:
    done = prompt + said
    assert bridged[: len(done)] == done, (
        f"ids before the answer changed, after {_short(renderer.tokenizer.decode(said))}"
    )
    tail = renderer.tokenizer.decode(bridged[len(done) :])
    for answer in answers:
        content = _readable(answer["content"]).strip()
        assert content in tail, f"the answer {_short(answer['content'])} is not in the next prompt"
    expected = opening if answers[-1]["role"] == "user" else _opening_after_a_result(renderer)
    ending = tail[-len(expected) :]
    assert ending == expected, f"the next prompt ends with {_short(ending)} and not with {_short(expected)}"


def _opening(renderer: TurnRenderer, prompt: list[int]) -> str:
    """How prompts end: the last characters of what opens the assistant's turn."""
    text = renderer.tokenizer.decode(prompt)
    return text[text.rindex("Fix it.") + len("Fix it.") :][-24:]


def _opening_after_a_result(renderer: TurnRenderer) -> str:
    """How prompts end behind what answers a call, as rendering the whole conversation has it."""
    function = {"name": "act", "arguments": '{"text": "x"}'}
    call = {"id": "call_1_0", "type": "function", "function": function}
    called: list[Message] = [
        {"role": "user", "content": "Help."},
        {"role": "assistant", "content": "I act.", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1_0", "name": "act", "content": "Fix it."},
    ]
    return _opening(renderer, renderer.start(called, _tools(renderer)))


def _readable(text: str) -> str:
    """Text as a tokenizer gives it back."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


CHECKS: dict[str, Check] = {
    "the first prompt holds the statement and the tools": _prompt_is_rendered,
    "text cannot forge control tokens": _text_cannot_forge,
    "a response has one stop token, at its end": _stops_once,
    "content is read back": _content_is_read,
    "calls are read back": _calls_are_read,
    "parallel calls are read back": _parallel_calls_are_read,
    "arguments as null and as text are converted": _null_and_text_are_converted,
    "malformed calls are told": _faults_are_told,
    "each prompt extends the last one exactly": _bridges_exactly,
    "any response is extended exactly or refused": _bridges_or_refuses,
    "a bridged prompt is the rendered one": _bridges_as_rendered,
}
"""The checks by what holds."""
