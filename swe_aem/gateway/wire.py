"""What the wire protocols have in common.

A `Wire` translates between one protocol and the gateway's conversation, which has the form of chat completions:

    body ──read──> Request ──GatewaySession──> Turn ──answer, events──> body

Temperature, top_p, seed and token limits are the run's in every protocol; a client's values are ignored. Settings that
would change the meaning of an answer and are not supported are refused.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

from swe_aem.gateway.messages import BadRequest
from swe_aem.gateway.tree import Answer, Turn

Honoured = Mapping[str, tuple[Callable[[Any], bool], str]]
"""For each member of a request: whether a value changes nothing, and why other values are refused."""


@dataclass(frozen=True)
class Request:
    """A client's request, in the form of chat completions."""

    messages: list[Any]
    tools: list[dict[str, Any]]
    stream: bool


class Refusal(Enum):
    """Why a request gets no answer; the value is its HTTP status."""

    BAD_REQUEST = (400, "bad_request")
    CONTEXT_LIMIT = (400, "context_length_exceeded")
    SESSION_ENDED = (403, "session_ended")  # the only status that no client retries
    NO_SESSION = (404, "no_session")
    NO_ROUTE = (404, "not_found")
    TOO_LARGE = (413, "request_too_large")

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self.value[0]

    @property
    def code(self) -> str:
        """The code that OpenAI's errors bear."""
        return self.value[1]


class Wire(Protocol):
    """One protocol; a module with these functions is one."""

    def read_request(self, body: Any) -> Request:
        """The request that the JSON `body` makes; raises `BadRequest`."""
        ...

    def answer(self, model: str, turn: Turn) -> dict[str, Any]:
        """The JSON body for an answered turn."""
        ...

    def events(self, model: str, turn: Turn) -> bytes:
        """The same as server-sent events."""
        ...

    def failure(self, refusal: Refusal, why: str) -> dict[str, Any]:
        """The JSON body of a refusal."""
        ...


def equals(*harmless: Any) -> Callable[[Any], bool]:
    """Is a value one of `harmless`?"""
    return lambda value: value in harmless


def check(body: dict[str, Any], honoured: Honoured) -> None:
    """Raise `BadRequest` for a member of `body` whose value is not honoured."""
    for name, (is_harmless, why) in honoured.items():
        value = body.get(name)
        if value is not None and not is_harmless(value):
            raise BadRequest(f"{name} {value!r:.200} is not honoured: {why}; leave it out")


def members(value: Any, name: str) -> list[dict[str, Any]]:
    """A list of JSON objects, empty if it is missing; raises `BadRequest` for anything else."""
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(member, dict) for member in value):
        raise BadRequest(f"{name} is a list of JSON objects")
    return value


def function_tool(name: Any, description: Any, parameters: Any) -> dict[str, Any]:
    """A tool in the form of chat completions; raises `BadRequest`."""
    if not isinstance(name, str) or not name:
        raise BadRequest("a tool needs a name")
    described = {"description": description} if description is not None else {}
    schema = {"parameters": parameters} if parameters is not None else {}
    return {"type": "function", "function": {"name": name, **described, **schema}}


def event(data: Any, name: str | None = None) -> bytes:
    """One server-sent event."""
    named = f"event: {name}\n".encode() if name else b""
    return named + b"data: " + json.dumps(data).encode() + b"\n\n"


def answer_of(turn: Turn) -> Answer:
    """The answer of an answered turn."""
    assert turn.answer is not None
    return turn.answer


def is_cut_off(turn: Turn) -> bool:
    """Did the answer end at the limit of its length?"""
    return answer_of(turn).sampled.response.finish_reason == "length"
