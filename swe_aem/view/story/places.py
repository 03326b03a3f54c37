"""Places of a trajectory by name: `t3`, `b1.t2.c1.observation`, `patch`. `text_at` has the whole text of one."""

import re
from collections.abc import Iterator

from swe_aem.core import Trajectory
from swe_aem.view.story.tests import tested
from swe_aem.view.story.turns import Turn, stream_of

_TURN = re.compile(r"(?:b(\d{1,6})\.)?t(\d{1,9})(?:\.|$)")


def turn_of(place: str) -> int | None:
    """The number of the turn that a place is in, from 1; None if it is in no turn."""
    match = _TURN.match(place)
    return int(match[2]) if match else None


def branch_of(place: str) -> int | None:
    """The index of the branch that a place is in; None for the trajectory's own stream."""
    match = re.match(r"b(\d{1,6})\.", place)
    return int(match[1]) - 1 if match else None


def place_of_response(trajectory: Trajectory, number: int) -> str:
    """The place of a response by its number among all, from 1: those of branches come after the trajectory's own."""
    if not any(response.tool_calls for response in trajectory.all_responses):
        return f"t{number}"  # of the trajectory's own messages, which may have no responses
    at = number
    for branch, stream in enumerate((trajectory, *trajectory.branches)):
        if at <= len(stream.responses):
            return f"b{branch}.t{at}" if branch else f"t{at}"
        at -= len(stream.responses)
    raise ValueError(f"{trajectory.key} has no response {number}")


def text_at(trajectory: Trajectory, place: str) -> str | None:
    """The text of a place; None if the trajectory has no such place."""
    verdict = trajectory.verdict
    if place == "patch":
        return trajectory.patch
    if place == "error":
        return trajectory.error
    if verdict is not None and place == "log-tail":
        return verdict.log_tail
    if verdict is not None and place == "evidence":
        return "\n".join((*verdict.integrity, *verdict.odd_once, verdict.cause))
    for group in tested(verdict) if verdict is not None else ():
        if group.place == place:
            return "".join(f"{status} {name}\n" for name, status in group.first())
    branch, number = branch_of(place), turn_of(place)
    if branch is not None and not 0 <= branch < len(trajectory.branches):
        return None
    stream = stream_of(trajectory, branch)
    if number is not None:
        turns = stream.turns[max(number, 1) - 1 : number]
        return next((text for turn in turns for name, text in _texts(turn) if name == place), None)
    return next((text for n, (_, text) in enumerate(stream.prompt, 1) if place.endswith(f"prompt{n}")), None)


def _texts(turn: Turn) -> Iterator[tuple[str, str]]:
    yield f"{turn.place}.reasoning", turn.reasoning
    yield f"{turn.place}.text", turn.text
    for call in turn.calls:
        yield f"{call.place}.code", call.code
        yield f"{call.place}.change", call.change
        yield f"{call.place}.observation", call.observation
        for n, argument in enumerate(call.arguments, 1):
            yield f"{call.place}.a{n}", argument.text
    for n, (_, text) in enumerate(turn.answers, 1):
        yield f"{turn.place}.answer{n}", text
