"""Where a request belongs among the turns of a session.

Turns are a tree. A child's prompt begins with exactly its parent's prompt and response; a path from a root to a leaf is
one token stream. A client that only appends grows one path. One that drops the last response makes a fork, one that
rewrites its history, or starts a conversation on the side, makes a new root. The same request twice is the same turn.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from swe_aem.agent.renderer import Message, ParsedTurn
from swe_aem.core import Completion
from swe_aem.gateway.messages import echoes


@dataclass(frozen=True)
class Answer:
    """A sampled response, and how it was served."""

    completion: Completion
    turn: ParsedTurn
    message: Message
    """The assistant message, in canonical form."""
    sample_s: float
    at_s: float
    """When it was there, on the monotonic clock."""


@dataclass(eq=False)
class Turn:
    """One request and its answer."""

    parent: "Turn | None"
    tools: str
    """The request's tools, as canonical JSON; the same for all turns of a root."""
    messages: list[Message]
    """What the client said since the parent's response."""
    prompt_ids: list[int]
    begun_s: float
    """When the request came, on the monotonic clock."""
    children: "list[Turn]" = field(default_factory=list)
    sampling: "asyncio.Task[None] | None" = None
    answer: Answer | None = None

    @property
    def token_ids(self) -> list[int]:
        """Prompt and response."""
        return [*self.prompt_ids, *(self.answer.completion.token_ids if self.answer else ())]

    def path(self) -> "list[Turn]":
        """The turns from the root to this one."""
        return [*(self.parent.path() if self.parent else ()), self]


@dataclass(frozen=True)
class Place:
    """Where a request belongs."""

    parent: Turn | None
    """None: it continues nothing, and its messages are to be rendered from the start."""
    messages: list[Message]
    """What it says beyond the parent's response."""
    known: Turn | None = None
    """The turn that this very request made before."""


class Tree:
    """The turns of one session."""

    def __init__(self) -> None:
        self.roots: list[Turn] = []

    def place(self, messages: Sequence[Message], tools: str) -> Place:
        """Find a request's place: along the turns whose responses it echoes, as far as they go."""
        parent, rest = None, list(messages)
        turns = [root for root in self.roots if root.tools == tools]
        while turn := _said_before(turns, rest):
            length = len(turn.messages)
            if len(rest) == length:
                return Place(parent, rest, turn)
            parent, rest, turns = turn, rest[length + 1 :], turn.children
        if parent is not None and (not rest or any(message["role"] == "assistant" for message in rest)):
            parent, rest = None, list(messages)  # an assistant message that nobody here has said
        return Place(parent, rest)

    def add(self, turn: Turn) -> None:
        """Put a new turn into its place."""
        (self.roots if turn.parent is None else turn.parent.children).append(turn)

    def streams(self) -> list[list[Turn]]:
        """The answered paths, from the root to the last answered turn of each; the one with the most sampled tokens
        first, the others in the order of their beginning."""
        paths = [leaf.path() for leaf in _answered_leaves(self.roots)]
        longest = max(paths, key=_sampled_tokens, default=None)
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
            found += _answered_leaves(turn.children) or [turn]
    return found


def _sampled_tokens(path: list[Turn]) -> int:
    return sum(len(turn.answer.completion.token_ids) for turn in path if turn.answer)
