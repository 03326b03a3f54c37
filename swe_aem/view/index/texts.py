"""The texts of a trajectory that can be searched, each with its place."""

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from swe_aem.core import Response, TestStatus, Trajectory

_REASONING = ("reasoning_content", "reasoning", "thinking")


class Passage(NamedTuple):
    """One text."""

    column: Literal["conversation", "patch", "failure"]
    place: str
    """Where it stands, for a person."""
    turn: int | None
    """Number of the response that it belongs to, from 1."""
    text: str


def passages(trajectory: Trajectory) -> Iterator[Passage]:
    """Every text once, in the order of the conversation, the patch and what went wrong last."""
    seen: set[str] = set()
    for passage in _all(trajectory):
        if passage.text and passage.text not in seen:
            seen.add(passage.text)
            yield passage


def _all(trajectory: Trajectory) -> Iterator[Passage]:
    yield from _stream("", trajectory.messages, trajectory.responses)
    for number, branch in enumerate(trajectory.branches, start=1):
        yield from _stream(f"branch {number}, ", branch.messages, branch.responses)
    yield Passage("patch", "patch", None, trajectory.patch)
    yield from _failures(trajectory)


def _stream(prefix: str, messages: Sequence[Mapping[str, Any]], responses: Sequence[Response]) -> Iterator[Passage]:
    turn = 0
    for message in messages:
        role = message.get("role")
        turn += role == "assistant"
        number = turn or None
        where = f"{prefix}turn {turn}" if turn else f"{prefix}{role or 'message'}"
        for name in _REASONING:
            yield from _passages(f"{where}, reasoning", number, message.get(name))
        what = "" if not turn else ", text" if role == "assistant" else ", observation"
        yield from _passages(f"{where}{what}", number, message.get("content"))
        yield from _passages(f"{where}, tool call", number, _calls(message.get("tool_calls")))
    for number, response in enumerate(responses, start=1):
        where = f"{prefix}turn {number}"
        for call in response.tool_calls:
            yield from _passages(f"{where}, tool call", number, (call.name, call.arguments))
            yield from _passages(f"{where}, observation", number, call.observation)


def _calls(calls: Any) -> Iterator[Any]:
    """Name and arguments of the calls of a message."""
    for call in calls if isinstance(calls, list) else ():
        function = call.get("function") if isinstance(call, Mapping) else None
        if not isinstance(function, Mapping):
            continue
        arguments = function.get("arguments")
        if isinstance(arguments, str):
            with contextlib.suppress(ValueError, RecursionError):
                arguments = json.loads(arguments)
        yield (function.get("name"), arguments)


def _failures(trajectory: Trajectory) -> Iterator[Passage]:
    yield Passage("failure", "error", None, trajectory.error or "")
    verdict = trajectory.verdict
    if verdict is None:
        return
    yield Passage("failure", "verdict", None, verdict.cause)
    for line in (*verdict.integrity, *verdict.odd_once):
        yield Passage("failure", "evidence", None, line)
    tests = {**verdict.pass_to_pass, **verdict.fail_to_pass}
    failed = "\n".join(name for name, status in tests.items() if status is not TestStatus.PASSED)
    yield Passage("failure", "tests that do not pass", None, failed)
    yield Passage("failure", "end of the evaluation's log", None, verdict.log_tail)


def _passages(place: str, turn: int | None, value: Any) -> Iterator[Passage]:
    for text in _strings(value):
        yield Passage("conversation", place, turn, text)


def _strings(value: Any) -> Iterator[str]:
    """The texts in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from _strings(one)
    elif not isinstance(value, (int, float)) and value is not None:
        for one in value:
            yield from _strings(one)
