"""One trajectory as the gateway sees it: its client's requests, the policy's responses, and how it ends.

A request is sampled in an asyncio task of the session, so a client that disconnects and repeats its request gets the
response that was being sampled. A session ends at a limit, when the policy fails, or when its owner ends it; it never
resumes, and what was sampled is kept.
"""

import asyncio
import json
import secrets
import time
from collections.abc import Collection, Sequence
from itertools import zip_longest
from typing import Any

from swe_aem.agent import OUT_OF_TIME, Message, Prompt, TrajectoryEnded, TurnLimits, TurnRenderer, TurnSampler
from swe_aem.core import AnyPolicy, Branch, Deadline, Response, Stop, Task, ToolCall, Trajectory, is_chat
from swe_aem.gateway.messages import BadRequest, canonical, encodable
from swe_aem.gateway.tree import Answer, Place, Tree, Turn


class SessionEnded(Exception):
    """The session, or the branch that a request belongs to, has ended and refuses requests; the message says why."""

    def __init__(self, why: str, stop: Stop | None) -> None:
        super().__init__(why)
        self.stop = stop


class GatewaySession:
    """One trajectory's session, made by `Gateway.session`, which also sets its `url`."""

    def __init__(
        self,
        task: Task,
        sample: int,
        policy: AnyPolicy,
        renderer: TurnRenderer | None,
        limits: TurnLimits,
        deadline: Deadline,
    ) -> None:
        self.id = secrets.token_urlsafe(12)
        """Secret: a client that knows it can request responses."""
        self.url = ""
        """Base URL of the OpenAI API for this session's client; Anthropic's clients take it without the `/v1`."""
        self.policy = policy
        self.limits = limits
        self.stop: Stop | None = None
        """The limit that ended it; None while it is open, or if its owner or an infrastructure failure ended it."""
        self.error: Exception | None = None
        """The infrastructure failure that ended it, for the owner to raise."""
        self.ended = asyncio.Event()
        self.reachable = False
        """Can the policy's own commands send requests? Then a conversation that begins after its first call of a tool
        is aside: it uses up turns, and is stored as a branch, but is never the trajectory's own and ends nothing but
        itself. No branch is then known to be by the agent: a command can also fork the agent's own conversation."""
        self._why = ""
        self._task, self._sample = task, sample
        self._sampler = TurnSampler(policy, renderer, limits, deadline, task_id=task.id, sample=sample)
        self._tree = Tree()
        self._turns: list[Turn] = []

    async def complete(self, messages: Sequence[Any], tools: Sequence[dict[str, Any]]) -> Turn:
        """The answered turn of a request. Raises `SessionEnded`, and `BadRequest` for messages that it cannot use.

        A repeated request gets the response of the first one, also while that is still being sampled.
        """
        if self.ended.is_set():
            raise SessionEnded(self._why, self.stop)
        place, described = self._place(messages, tools)
        turn = place.known or self._begin(place, described, tools)
        assert turn.sampling is not None
        await asyncio.wait({turn.sampling})
        if turn.answer is None:
            raise turn.failure or SessionEnded(self._why, self.stop)
        return turn

    def count_tokens(self, messages: Sequence[Any], tools: Sequence[dict[str, Any]]) -> int:
        """How many tokens the prompt of such a request has; nothing is sampled. Raises what `complete` raises."""
        if self.ended.is_set():
            raise SessionEnded(self._why, self.stop)
        if is_chat(self.policy):
            raise BadRequest(
                "tokens of a request cannot be counted: the policy is a chat API, which tokenises it itself"
            )
        place, _ = self._place(messages, tools)
        return place.known.prompt.tokens if place.known else self._prompt(place, tools).tokens

    def end(self, why: str, *, stop: Stop | None = None, error: Exception | None = None) -> None:
        """Refuse further requests and cancel those being sampled; only the first call has an effect."""
        if self.ended.is_set():
            return
        self.stop, self.error, self._why = stop, error, why
        self.ended.set()
        for turn in self._turns:
            if turn.sampling is not None:
                turn.sampling.cancel()

    def out_of_time(self) -> None:
        """End the session at its deadline, with `time_limit`."""
        self.end(OUT_OF_TIME, stop=Stop.TIME_LIMIT)

    async def close(self) -> None:
        """End the session and wait until nothing is being sampled."""
        self.end("the session is closed")
        if running := self._sampling():
            await asyncio.wait(running)

    def _sampling(self) -> set[asyncio.Task[None]]:
        """The asyncio tasks that wait for the policy."""
        return {turn.sampling for turn in self._turns if turn.sampling is not None and not turn.sampling.done()}

    def trajectory(self, agent: str, stop: Stop) -> Trajectory:
        """The trajectory so far. Its own token stream is the one with the most sampled tokens; the others are
        branches."""
        streams = self._tree.streams()
        main = streams[0] if streams else []
        seen = set(main)
        branches = []
        for path in streams[1:]:
            branches.append(_branch(path, skip=seen, by_agent=not self.reachable))
            seen.update(path)
        first_prompt = self._turns[0].prompt.token_ids if self._turns else ()
        return Trajectory(
            task_id=self._task.id,
            sample=self._sample,
            agent=agent,
            model=self.policy.name,
            token_ids=tuple(main[-1].token_ids if main else first_prompt),
            responses=_responses(main),
            branches=tuple(branches),
            messages=_messages(main[-1].conversation() if main else []),
            stop=stop,
        )

    def _place(self, messages: Sequence[Any], tools: Sequence[dict[str, Any]]) -> tuple[Place, str]:
        """The place of a request, and its tools as canonical JSON."""
        described = json.dumps(tools, sort_keys=True)
        return self._tree.place([canonical(message) for message in messages], described), described

    def _begin(self, place: Place, described: str, tools: Sequence[dict[str, Any]]) -> Turn:
        if len(self._turns) >= self.limits.max_turns:
            why = f"all {self.limits.max_turns} turns are taken"
            self.end(why, stop=Stop.TURN_LIMIT)
            raise SessionEnded(why, self.stop)
        aside = place.parent.aside if place.parent else self.reachable and self.has_acted
        try:
            prompt = self._prompt(place, tools)
        except SessionEnded as ended:
            if not aside:
                self.end(str(ended), stop=ended.stop)
            raise
        turn = Turn(place.parent, described, place.messages, prompt, time.monotonic(), aside=aside)
        turn.sampling = asyncio.create_task(self._answer(turn, self._number(aside=aside)))
        self._turns.append(turn)
        self._tree.add(turn)
        return turn

    @property
    def has_acted(self) -> bool:
        """Has the policy called a tool?"""
        return any(turn.answer is not None and turn.answer.sampled.turn.calls for turn in self._turns)

    def _number(self, *, aside: bool) -> int:
        """The number of the next turn in the session, from 0; those aside have numbers of their own."""
        return sum(turn.aside is aside for turn in self._turns) + (self.limits.max_turns if aside else 0)

    def _prompt(self, place: Place, tools: Sequence[dict[str, Any]]) -> Prompt:
        """The prompt of a request; raises `SessionEnded` if no turn can follow the response before it."""
        if place.parent is None:
            return self._sampler.start(place.messages, tools)
        assert place.parent.answer is not None
        following = place.parent.prompt.after(place.parent.answer.sampled, place.messages)
        if following is None:
            raise SessionEnded("the response broke the format so that no turn can follow it", Stop.MALFORMED)
        return following

    async def _answer(self, turn: Turn, number: int) -> None:
        """Sample the answer of a turn, or end the session. `number` is the turn's in the session, from 0."""
        try:
            sampled = await self._sampler.sample(turn.prompt, turn=number)
            message = encodable(sampled.turn.message(number + 1))
            turn.answer = Answer(sampled, message, time.monotonic())
            if (calls := sampled.turn.calls) and not turn.aside:
                self._sampler.count(well_formed=any(call.problem is None for call in calls))
        except TrajectoryEnded as ended:
            self._unanswered(turn, str(ended), stop=ended.stop)
        except Exception as error:  # the session's owner raises it again
            self._unanswered(turn, str(error) or repr(error), error=error)

    def _unanswered(self, turn: Turn, why: str, *, stop: Stop | None = None, error: Exception | None = None) -> None:
        """End the session, or only the turn if it is aside."""
        if turn.aside:
            turn.failure = SessionEnded(why, stop)
        else:
            self.end(why, stop=stop, error=error)


def _branch(path: list[Turn], skip: Collection[Turn], *, by_agent: bool) -> Branch:
    """A path beside the trajectory's own, with the responses of the turns that are not in `skip`."""
    token_ids = tuple(path[-1].token_ids)
    return Branch(
        token_ids=token_ids,
        responses=_responses(path, skip=skip),
        messages=() if token_ids else _messages(path),
        by_agent=by_agent,
    )


def _responses(path: list[Turn], skip: Collection[Turn] = ()) -> tuple[Response, ...]:
    """The responses of a path without the turns in `skip`, each with the observations in the turn after it."""
    return tuple(
        _response(turn, following or next(iter(turn.next_streams()), None))
        for turn, following in zip_longest(path, path[1:])
        if turn not in skip
    )


def _response(turn: Turn, following: Turn | None) -> Response:
    assert turn.answer is not None
    return turn.answer.sampled.with_calls(_tool_calls(turn.answer, following))


def _tool_calls(answer: Answer, following: Turn | None) -> list[ToolCall]:
    """The calls of an answer, with the observations in the next request. The time until that request is divided evenly
    among them."""
    served = answer.message.get("tool_calls", [])
    said = following.messages if following else []
    observations = {message["tool_call_id"]: message["content"] for message in said if message["role"] == "tool"}
    wall_s = (following.begun_s - answer.at_s) / len(served) if following and served else 0.0
    return [
        ToolCall(
            name=call["function"]["name"],
            arguments=parsed.arguments if parsed.problem is None else {"raw": parsed.raw},
            status="ok" if parsed.problem is None else "malformed",
            converted=parsed.converted,
            observation=observations.get(call["id"], ""),
            wall_s=wall_s,
        )
        for call, parsed in zip(served, answer.sampled.turn.calls, strict=True)
    ]


def _messages(path: list[Turn]) -> tuple[Message, ...]:
    """Everything that was said on a path."""
    return tuple(
        message for turn in path for message in (*turn.messages, *([turn.answer.message] if turn.answer else []))
    )
