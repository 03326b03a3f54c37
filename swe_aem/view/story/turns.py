"""`stream_of`: the turns of a trajectory, or of one of its branches, from its responses and its messages.

A response knows its tokens, its seconds and what its tool calls did; a message knows what was said. Which message is
which turn, `turn_places` says.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from swe_aem.core import Response, ToolCall, Trajectory
from swe_aem.store.trajectory_row import turn_places

_COMMANDS = ("command", "cmd", "script", "code")
_EDITS = frozenset({"create", "str_replace", "insert", "write", "edit", "write_file", "edit_file"})
_CONTEXT_LINES = 3

Line = tuple[str, str]
"""Kind (`+`, `-`, a space, `@`) and text of a line of a change."""


class Argument(NamedTuple):
    """One argument of a call."""

    name: str
    text: str


class Call(NamedTuple):
    """A tool call and what came back."""

    place: str
    """Name of the call within the trajectory: that of its turn, then `.c` and its number from 1."""
    name: str
    subject: str
    """What an editor's call is about: its command and path. Empty for other calls."""
    code: str
    """A command line or a program; empty for calls that have none."""
    change: str
    """An edit as lines that begin with a sign; empty for calls that change nothing."""
    arguments: tuple[Argument, ...]
    """All others."""
    malformed: bool
    converted: int
    observation: str
    exit_code: int | None
    timed_out: bool
    wall_s: float | None
    """None where nothing measured it."""


class Turn(NamedTuple):
    """One response and what answered it."""

    place: str
    """`t3`, in a branch `b1.t3`: the turn's name within the trajectory."""
    number: int
    """From 1."""
    response: Response | None
    """None for an assistant message that has no response."""
    reasoning: str
    text: str
    calls: tuple[Call, ...]
    answers: tuple[tuple[str, str], ...]
    """(role, text) of messages after it that are not the observation of one of its calls."""
    told: bool
    """Is there a message that says what it said? Otherwise its tokens alone do."""


class Stream(NamedTuple):
    """A trajectory's own turns, or those of a branch."""

    name: str
    """Empty, or `b1` for the first branch."""
    prompt: tuple[tuple[str, str], ...]
    """(role, text) of the messages before the first turn."""
    turns: tuple[Turn, ...]
    """Those that were asked for."""
    total: int
    """Turns of the whole stream."""


def stream_of(trajectory: Trajectory, branch: int | None = None, chosen: slice = slice(None)) -> Stream:
    """The `chosen` turns of a trajectory, or of its n-th branch, from 0; all if it is not given."""
    name, source = ("", trajectory) if branch is None else (f"b{branch + 1}", trajectory.branches[branch])
    messages, responses = list(source.messages), source.responses
    places = turn_places(messages, len(responses))
    prompt = messages[: places[0]] if places else messages
    turns = []
    count = max(len(responses), len(places))
    for number in range(count)[chosen]:
        at = places[number] if number < len(places) else None
        after = messages[at + 1 : _end(places, number, messages)] if at is not None else []
        response = responses[number] if number < len(responses) else None
        place = f"{name}.t{number + 1}" if name else f"t{number + 1}"
        turns.append(_turn(place, number + 1, response, None if at is None else messages[at], after))
    return Stream(name, tuple(map(_said, prompt)), tuple(turns), count)


def text_of(value: Any) -> str:
    """A message's content as text, whatever it is made of."""
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, list | tuple) and all(isinstance(part, Mapping) for part in value):
        return "\n".join(str(part["text"]) if "text" in part else json.dumps(part) for part in value)
    return json.dumps(value, ensure_ascii=False)


def _end(places: Sequence[int], number: int, messages: Sequence[Any]) -> int:
    return places[number + 1] if number + 1 < len(places) else len(messages)


def _said(message: Mapping[str, Any]) -> tuple[str, str]:
    return str(message.get("role", "?")), text_of(message.get("content"))


def _turn(
    place: str,
    number: int,
    response: Response | None,
    message: Mapping[str, Any] | None,
    after: Sequence[Mapping[str, Any]],
) -> Turn:
    said = message or {}
    asked = [call for call in said.get("tool_calls") or () if isinstance(call, Mapping)]
    if response is not None and response.tool_calls:
        calls = [_call_of_response(f"{place}.c{n}", call) for n, call in enumerate(response.tool_calls, 1)]
        rest = [one for one in after if one.get("role") != "tool"]
    else:
        calls, rest = _calls_of_messages(place, asked, after)
    return Turn(
        place=place,
        number=number,
        response=response,
        reasoning=text_of(said.get("reasoning_content") or said.get("reasoning")),
        text=text_of(said.get("content")),
        calls=tuple(calls),
        answers=tuple(map(_said, rest)),
        told=message is not None,
    )


def _call_of_response(place: str, call: ToolCall) -> Call:
    return _call(
        place,
        call.name,
        call.arguments,
        observation=call.observation,
        malformed=call.status == "malformed",
        converted=call.converted,
        exit_code=call.exit_code,
        timed_out=call.timed_out,
        wall_s=call.wall_s,
    )


def _calls_of_messages(
    place: str, asked: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]
) -> tuple[list[Call], list[Mapping[str, Any]]]:
    """Calls that only the messages know, each with the answer that names its id, and the other answers."""
    answers = {str(one.get("tool_call_id")): one for one in reversed(after) if one.get("role") == "tool"}
    calls, used = [], []
    for n, one in enumerate(asked, 1):
        function = one.get("function")
        function = function if isinstance(function, Mapping) else {}
        answer = answers.get(str(one.get("id")))
        used.append(answer)
        found = _parsed(function.get("arguments"))
        calls.append(
            _call(
                f"{place}.c{n}",
                str(function.get("name", "?")),
                {"raw": text_of(function.get("arguments"))} if found is None else found,
                observation=text_of(answer.get("content")) if answer else "",
                malformed=found is None,
            )
        )
    return calls, [one for one in after if not any(one is answer for answer in used)]


def _parsed(arguments: Any) -> Mapping[str, Any] | None:
    """The arguments of a call, None where they are not a JSON object."""
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except (ValueError, RecursionError):
            return None
    return arguments if isinstance(arguments, Mapping) else None


def _call(
    place: str,
    name: str,
    arguments: Mapping[str, Any],
    *,
    observation: str,
    malformed: bool,
    converted: int = 0,
    exit_code: int | None = None,
    timed_out: bool = False,
    wall_s: float | None = None,
) -> Call:
    subject = code = change = ""
    shown: set[str] = set()
    path = next((str(arguments[key]) for key in ("path", "file_path", "filename") if key in arguments), "")
    command = arguments.get("command")
    if path and (str(command) in _EDITS or name in _EDITS or command == "view"):
        subject = f"{command} {path}" if command else path
        change = "".join(f"{sign}{text}\n" for sign, text in _change(arguments))
        shown = {"command", "path", "file_path", "filename", *(_OLD if change else ()), *(_NEW if change else ())}
    else:
        key = next((key for key in _COMMANDS if isinstance(arguments.get(key), str)), None)
        if key is not None:
            code, shown = str(arguments[key]), {key}
    rest = [Argument(str(key), _written(value)) for key, value in arguments.items() if key not in shown]
    return Call(
        place, name, subject, code, change, tuple(rest), malformed, converted, observation, exit_code, timed_out, wall_s
    )


_OLD = ("old_str", "old_string")
_NEW = ("new_str", "new_string", "file_text", "content")


def _written(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _change(arguments: Mapping[str, Any]) -> Iterator[Line]:
    """What an edit replaces by what. Lines that both begin or end with are context."""
    old = next((arguments[key] for key in _OLD if isinstance(arguments.get(key), str)), "").split("\n")
    new = next((arguments[key] for key in _NEW if isinstance(arguments.get(key), str)), "").split("\n")
    if old == new == [""]:
        return
    if "insert_line" in arguments:
        yield "@", f" after line {arguments['insert_line']}"
    old, new = ([] if lines == [""] else lines for lines in (old, new))
    first = _common(old, new)
    last = _common(old[first:][::-1], new[first:][::-1])
    yield from ((" ", line) for line in old[max(0, first - _CONTEXT_LINES) : first])
    yield from (("-", line) for line in old[first : len(old) - last])
    yield from (("+", line) for line in new[first : len(new) - last])
    yield from ((" ", line) for line in old[len(old) - last :][:_CONTEXT_LINES])


def _common(one: Sequence[str], other: Sequence[str]) -> int:
    return next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
