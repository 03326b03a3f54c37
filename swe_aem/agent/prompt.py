"""`Prompt`: what a policy is asked next, as token ids or as chat messages. Here the two kinds of policies part.

    first_prompt(policy, renderer, messages, tools) ──> Prompt ──sample──> Sampled
                                                          ^                   │
                                                          └── after(Sampled, answers)

A `TokenPrompt` begins with the exact ids of everything before it, unless thinking is left out of it: then it is made
again of the messages, and begins a token stream of its own. A `ChatPrompt` is a list of messages, in which each
response is as the API gave it.
"""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from swe_aem.agent.chat_message import encodable, read_message, sent_back
from swe_aem.agent.parsed import Message, ParsedTurn
from swe_aem.agent.renderer import TurnRenderer
from swe_aem.core import AnyPolicy, ChatPolicy, Policy, Response, SamplingParams, ToolCall, Usage, is_chat
from swe_aem.errors import PolicyError


@dataclass(frozen=True)
class Sampled:
    """A sampled response."""

    turn: ParsedTurn
    response: Response
    """The response for its trajectory, without its tool calls."""
    usage: Usage
    context_tokens: int
    """Prompt and response together."""
    token_ids: tuple[int, ...] = ()
    """Its token ids; none of a chat API."""
    said: Message = field(default_factory=dict)
    """The response as a message of what is said later."""

    def with_calls(self, calls: Iterable[ToolCall]) -> Response:
        """The response with its tool calls."""
        return self.response.model_copy(update={"tool_calls": tuple(calls)})


class Prompt(Protocol):
    """Everything that was said so far."""

    @property
    def tokens(self) -> int:
        """How many tokens it has; of messages, as many as the API has counted so far."""
        ...

    @property
    def token_ids(self) -> Sequence[int]:
        """Its token ids; none for a chat API."""
        ...

    @property
    def stop_token_ids(self) -> tuple[int, ...]:
        """Token ids that end a response; none for a chat API."""
        ...

    @property
    def new_stream(self) -> bool:
        """Does it begin a token stream in the middle of a conversation?"""
        ...

    async def sample(self, params: SamplingParams, *, trajectory_id: str, number: int) -> Sampled:
        """The policy's response, which is number `number` of its conversation, from 1.

        Raises what the policy raises, and `PolicyError` if its response does not add up.
        """
        ...

    def after(self, sampled: Sampled, answers: Sequence[Message]) -> "Prompt | None":
        """The prompt that this one, its response and what answers that make; None if no turn can follow the
        response."""
        ...


def first_prompt(
    policy: AnyPolicy, renderer: TurnRenderer | None, messages: Sequence[Message], tools: Sequence[dict[str, Any]]
) -> Prompt:
    """The prompt of a conversation's first response, made of chat messages and of the schemas of the tools. A policy
    that takes token ids needs the renderer."""
    if is_chat(policy):
        return ChatPrompt(policy, encodable(messages), tuple(tools))
    assert renderer is not None, "a policy that takes token ids has a tokenizer"
    return TokenPrompt.of(policy, renderer, messages, tools)


@dataclass(frozen=True)
class TokenPrompt:
    """A prompt of token ids."""

    policy: Policy
    renderer: TurnRenderer
    token_ids: list[int]
    tools: Sequence[dict[str, Any]] = ()
    known: int = 0
    """How many of the ids are those of an earlier prompt and its response."""
    messages: Sequence[Message] = ()
    """What was said, as messages."""
    thoughts: frozenset[int] = frozenset()
    """The places in `messages` whose thinking is in the ids."""
    new_stream: bool = False
    """Made of the messages in the middle of a conversation, because thinking is left out of it."""

    @staticmethod
    def of(
        policy: Policy,
        renderer: TurnRenderer,
        messages: Sequence[Message],
        tools: Sequence[dict[str, Any]],
        *,
        new_stream: bool = False,
    ) -> "TokenPrompt":
        """The prompt that messages make."""
        said, ids = tuple(messages), renderer.start(messages, tools)
        thoughts = renderer.kept_thinking(said, tools)
        return TokenPrompt(policy, renderer, ids, tuple(tools), messages=said, thoughts=thoughts, new_stream=new_stream)

    @property
    def tokens(self) -> int:
        """How many tokens it has."""
        return len(self.token_ids)

    @property
    def stop_token_ids(self) -> tuple[int, ...]:
        """Token ids that end a response; the stop token is part of the response."""
        return self.renderer.stop_token_ids

    async def sample(self, params: SamplingParams, *, trajectory_id: str, number: int) -> Sampled:
        """The policy's response, as `Prompt.sample` says."""
        started_s = time.monotonic()
        completion = await self.policy.sample(self.token_ids, params, trajectory_id=trajectory_id)
        sample_s = time.monotonic() - started_s
        tokens, logprobs = len(completion.token_ids), len(completion.logprobs)
        if not tokens or tokens != logprobs:
            raise PolicyError(f"policy {self.policy.name} returned {tokens} tokens with {logprobs} log-probabilities")
        turn = self.renderer.parse(completion.token_ids, self.token_ids, self.tools)
        return Sampled(
            turn=turn,
            response=Response.of(completion, start=self.tokens, sample_s=sample_s, tool_calls=()),
            usage=Usage(prompt_tokens=self.tokens, completion_tokens=tokens, cached_tokens=self.known),
            context_tokens=self.tokens + tokens,
            token_ids=completion.token_ids,
            said=turn.message(number),
        )

    def after(self, sampled: Sampled, answers: Sequence[Message]) -> "TokenPrompt | None":
        """The next prompt. It begins with the exact ids of this one and its response, unless thinking that is in them
        is left out of it."""
        said = (*self.messages, sampled.said, *answers)
        thoughts = self.thoughts | {len(self.messages)} if (sampled.turn.reasoning or "").strip() else self.thoughts
        if not thoughts <= self.renderer.kept_thinking(said, self.tools):
            return TokenPrompt.of(self.policy, self.renderer, said, self.tools, new_stream=True)
        bridged = self.renderer.bridge(self.token_ids, sampled.token_ids, answers)
        if bridged is None:
            return None
        return replace(
            self, token_ids=bridged, known=sampled.context_tokens, messages=said, thoughts=thoughts, new_stream=False
        )


@dataclass(frozen=True)
class ChatPrompt:
    """A prompt of chat messages."""

    policy: ChatPolicy
    messages: Sequence[Message]
    tools: Sequence[dict[str, Any]]
    tokens: int = 0
    """What the API counted up to the last response; what was said since is not counted yet."""
    token_ids: tuple[int, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    new_stream: bool = False

    async def sample(self, params: SamplingParams, *, trajectory_id: str, number: int) -> Sampled:
        """The policy's response, as `Prompt.sample` says."""
        started_s = time.monotonic()
        completion = await self.policy.chat(self.messages, self.tools, params, trajectory_id=trajectory_id)
        sample_s = time.monotonic() - started_s
        turn = read_message(completion, number)
        return Sampled(
            turn=turn,
            response=Response.of_chat(completion, sample_s=sample_s, tool_calls=()),
            usage=completion.usage,
            context_tokens=completion.context_tokens or completion.usage.tokens,
            said=sent_back(completion.message, turn),
        )

    def after(self, sampled: Sampled, answers: Sequence[Message]) -> "ChatPrompt":
        """The next prompt, in which the response stands as the API gave it."""
        messages = [*self.messages, sampled.said, *encodable(answers)]
        return ChatPrompt(self.policy, messages, self.tools, sampled.context_tokens)
