"""The turns of a session as a tree, and the place of a new request in it.

A child's prompt begins with exactly its parent's prompt and response, so a path from a root to a leaf is one token
stream, or for a chat API one conversation; a child whose prompt is made again, without earlier thinking, begins another
stream of the same conversation. A client that only appends extends one path. A client that drops the last response adds
a fork; a client that rewrites its history, or starts a second conversation, adds a root. A repeated request is the same
turn.
"""

import asyncio
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field

from swe_aem.agent import Message, Prompt, Sampled
from swe_aem.gateway.messages import echoes


@dataclass(frozen=True)
class Answer:
    """A sampled response, and the message that was served for it."""

    sampled: Sampled
    message: Message
    """The assistant message, in canonical form."""
    at_s: float
    """When sampling ended, on the monotonic clock."""


@dataclass(eq=False)
class Turn:
    """One request and its answer."""

    parent: "Turn | None"
    tools: str
    """The request's tools as canonical JSON; the same for all turns below a root."""
    messages: list[Message]
    """The client's messages after the parent's response."""
    prompt: Prompt
    begun_s: float
    """When the request arrived, on the monotonic clock."""
    id: str = field(default_factory=lambda: secrets.token_hex(12))
    """Names the response in answers; a repeated request gets the same."""
    children: "list[Turn]" = field(default_factory=list)
    aside: bool = False
    """Begun, or continues what was begun, after the policy had acted in a sandbox from which it can ask for itself:
    never the trajectory's own stream."""
    sampling: "asyncio.Task[None] | None" = None
    answer: Answer | None = None
    failure: Exception | None = None
    """Why a turn aside has no answer."""

    @property
    def token_ids(self) -> list[int]:
        """Prompt and response."""
        return [*self.prompt.token_ids, *(self.answer.sampled.token_ids if self.answer else ())]

    def path(self) -> "list[Turn]":
        """The turns from the root to this one."""
        return [*(self.parent.path() if self.parent else ()), self]

    def stream(self) -> "list[Turn]":
        """The turns of its token stream up to this one."""
        return [self] if self.parent is None or self.prompt.new_stream else [*self.parent.stream(), self]

    def conversation(self) -> "list[Turn]":
        """The turns from the root to this one, and the answered ones that continue it."""
        last = self
        while answered := [turn for turn in last.children if turn.answer is not None]:
            last = answered[-1]
        return last.path()

    def next_streams(self) -> "list[Turn]":
        """The turns after this one that begin a token stream of their own."""
        return [turn for turn in self.children if turn.prompt.new_stream]


@dataclass(frozen=True)
class Place:
    """The place of a request in the tree."""

    parent: Turn | None
    """The turn that it continues; None if there is none, and its messages have to be rendered from the start."""
    messages: list[Message]
    """Its messages after the parent's response."""
    known: Turn | None = None
    """The turn that an earlier, identical request made."""


class Tree:
    """The turns of one session."""

    def __init__(self) -> None:
        self.roots: list[Turn] = []

    def place(self, messages: Sequence[Message], tools: str) -> Place:
        """Find a request's place: follow the turns whose responses it echoes, as far as possible."""
        parent, rest = None, list(messages)
        turns = [root for root in self.roots if root.tools == tools]
        while turn := _said_before(turns, rest):
            length = len(turn.messages)
            if len(rest) == length:
                return Place(parent, rest, turn)
            parent, rest, turns = turn, rest[length + 1 :], turn.children
        if parent is not None and (not rest or any(message["role"] == "assistant" for message in rest)):
            parent, rest = None, list(messages)  # it has an assistant message that was not served here
        return Place(parent, rest)

    def add(self, turn: Turn) -> None:
        """Put a new turn into its place."""
        (self.roots if turn.parent is None else turn.parent.children).append(turn)

    def streams(self) -> list[list[Turn]]:
        """The token streams, each up to a last answered turn: first the one with the most sampled tokens that is not
        aside, then the others in the order in which they began."""
        paths = [leaf.stream() for leaf in _answered_leaves(self.roots)]
        longest = max((path for path in paths if not path[-1].aside), key=_sampled_tokens, default=None)
        return [] if longest is None else [longest, *(path for path in paths if path is not longest)]


def _said_before(turns: list[Turn], messages: list[Message]) -> Turn | None:
    """The turn whose messages are the first of `messages`, with nothing after them or an echo of its response."""
    for turn in turns:
        length = len(turn.messages)
        if turn.messages == messages[:length] and (
            len(messages) == length or (turn.answer is not None and echoes(turn.answer.message, messages[length]))
        ):
            return turn
    return None


def _answered_leaves(turns: list[Turn]) -> list[Turn]:
    found = []
    for turn in turns:
        if turn.answer is not None:
            found += _answered_leaves([child for child in turn.children if not child.prompt.new_stream]) or [turn]
            found += _answered_leaves(turn.next_streams())
    return found


def _sampled_tokens(path: list[Turn]) -> int:
    return sum(turn.answer.sampled.usage.completion_tokens for turn in path if turn.answer)
