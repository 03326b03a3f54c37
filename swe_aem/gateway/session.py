"""One trajectory as the gateway sees it: what its client asks, what the policy answers, and how it ends.

A request is sampled in a task of the session's own, so that a client that hangs up and asks again finds the response
that was on its way. Limits, the policy's failures and the owner end a session once and for all; what was sampled stays.
"""

import asyncio
import json
import secrets
import time
from collections.abc import Collection, Sequence
from itertools import zip_longest
from typing import Any, NoReturn

from swe_aem.agent.config import TurnLimits
from swe_aem.agent.renderer import Message, TurnRenderer
from swe_aem.agent.turn_sampler import TrajectoryEnded, TurnSampler
from swe_aem.core import Branch, Deadline, Policy, Response, Stop, Task, ToolCall, Trajectory
from swe_aem.errors import PolicyError
from swe_aem.gateway.messages import canonical, encodable
from swe_aem.gateway.tree import Answer, Place, Tree, Turn


class SessionEnded(Exception):
    """The session takes no requests any more; the message says why."""


class GatewaySession:
    """Made by `Gateway.session`, which also gives it its `url`."""

    def __init__(
        self, task: Task, sample: int, policy: Policy, renderer: TurnRenderer, limits: TurnLimits, deadline: Deadline
    ) -> None:
        self.id = secrets.token_urlsafe(12)
        """Secret: whoever knows it may ask for responses."""
        self.url = ""
        """Base URL of the OpenAI API for this session's client."""
        self.policy = policy
        self.limits = limits
        self.stop: Stop | None = None
        """Why the policy's side ended it; None while it goes on, or if its owner or a fault of ours did."""
        self.error: Exception | None = None
        """What went wrong on our side, for the owner to raise."""
        self.ended = asyncio.Event()
        self._why = ""
        self._task, self._sample = task, sample
        self._renderer = renderer
        self._sampler = TurnSampler(
            policy, limits, deadline, task_id=task.id, sample=sample, stop_token_ids=renderer.stop_token_ids
        )
        self._tree = Tree()
        self._turns: list[Turn] = []
        self._first_prompt: list[int] = []

    async def complete(self, messages: Sequence[Any], tools: Sequence[dict[str, Any]]) -> Turn:
        """The answered turn of a request. Raises `SessionEnded`, and `BadRequest` for messages that mean nothing.

        A request that was made before gets the response that it got then, or the one that is on its way.
        """
        if self.ended.is_set():
            raise SessionEnded(self._why)
        described = json.dumps(tools, sort_keys=True)
        place = self._tree.place([canonical(message) for message in messages], described)
        turn = place.known or self._begin(place, described, tools)
        assert turn.sampling is not None
        await asyncio.wait({turn.sampling})
        if turn.answer is None:
            raise SessionEnded(self._why)
        return turn

    def end(self, why: str, *, stop: Stop | None = None, error: Exception | None = None) -> None:
        """Take no more requests and cancel what is being sampled; the first end counts."""
        if self.ended.is_set():
            return
        self.stop, self.error, self._why = stop, error, why
        self.ended.set()
        for turn in self._turns:
            if turn.sampling is not None:
                turn.sampling.cancel()

    def out_of_time(self) -> None:
        """End the session at its deadline: at its limit, unless it waits for a policy that cannot sample."""
        try:
            self._sampler.end_at_deadline(waiting=bool(self._sampling()))
        except TrajectoryEnded as ended:
            self.end(str(ended), stop=ended.stop)
        except PolicyError as error:
            self.end(str(error), error=error)

    async def close(self) -> None:
        """End the session and wait until nothing of it runs."""
        self.end("the session is closed")
        if running := self._sampling():
            await asyncio.wait(running)

    def _sampling(self) -> set[asyncio.Task[None]]:
        """What waits for the policy."""
        return {turn.sampling for turn in self._turns if turn.sampling is not None and not turn.sampling.done()}

    def trajectory(self, agent: str, stop: Stop) -> Trajectory:
        """What was sampled, as an agent returns it. The stream with the most sampled tokens is the trajectory's."""
        streams = self._tree.streams()
        main = streams[0] if streams else []
        seen = set(main)
        branches = []
        for path in streams[1:]:
            branches.append(Branch(token_ids=tuple(path[-1].token_ids), responses=_responses(path, skip=seen)))
            seen.update(path)
        return Trajectory(
            task_id=self._task.id,
            sample=self._sample,
            agent=agent,
            model=self.policy.name,
            token_ids=tuple(main[-1].token_ids if main else self._first_prompt),
            responses=_responses(main),
            branches=tuple(branches),
            messages=tuple(message for turn in main for message in _messages(turn)),
            stop=stop,
        )

    def _begin(self, place: Place, described: str, tools: Sequence[dict[str, Any]]) -> Turn:
        if len(self._turns) >= self.limits.max_turns:
            self._stop(Stop.TURN_LIMIT, f"all {self.limits.max_turns} turns are taken")
        prompt_ids = self._prompt(place, tools)
        self._first_prompt = self._first_prompt or prompt_ids
        turn = Turn(place.parent, described, place.messages, prompt_ids, time.monotonic())
        turn.sampling = asyncio.create_task(self._answer(turn, len(self._turns)))
        self._turns.append(turn)
        self._tree.add(turn)
        return turn

    def _prompt(self, place: Place, tools: Sequence[dict[str, Any]]) -> list[int]:
        if place.parent is None:
            return self._renderer.start(place.messages, tools)
        assert place.parent.answer is not None
        before, said = place.parent.prompt_ids, place.parent.answer.completion.token_ids
        bridged = self._renderer.bridge(before, said, place.messages)
        if bridged is None:
            self._stop(Stop.MALFORMED, "the response broke the format so that no turn can follow it")
        return bridged

    async def _answer(self, turn: Turn, number: int) -> None:
        """Get the turn its answer, or end the session; `number` is the turn's, from 0."""
        try:
            sampled = await self._sampler.sample(turn.prompt_ids, turn=number)
            parsed = self._renderer.parse(sampled.completion.token_ids, turn.prompt_ids)
            message = encodable(parsed.message(number + 1))
            turn.answer = Answer(sampled.completion, parsed, message, sampled.sample_s, time.monotonic())
            if parsed.calls:
                self._sampler.count(well_formed=any(call.problem is None for call in parsed.calls))
        except TrajectoryEnded as ended:
            self.end(str(ended), stop=ended.stop)
        except Exception as error:  # the session's owner raises it again
            self.end(str(error) or repr(error), error=error)

    def _stop(self, stop: Stop, why: str) -> NoReturn:
        self.end(why, stop=stop)
        raise SessionEnded(why)


def _responses(path: list[Turn], skip: Collection[Turn] = ()) -> tuple[Response, ...]:
    """The path's responses, less those of `skip`, each with what the next turn says about its calls."""
    return tuple(_response(turn, following) for turn, following in zip_longest(path, path[1:]) if turn not in skip)


def _response(turn: Turn, following: Turn | None) -> Response:
    assert turn.answer is not None
    return Response.of(
        turn.answer.completion,
        start=len(turn.prompt_ids),
        sample_s=turn.answer.sample_s,
        tool_calls=_tool_calls(turn.answer, following),
    )


def _tool_calls(answer: Answer, following: Turn | None) -> list[ToolCall]:
    """The calls, with the observations of the next request; the time until it came is shared out among them."""
    served = answer.message.get("tool_calls", [])
    said = following.messages if following else []
    observations = {message["tool_call_id"]: message["content"] for message in said if message["role"] == "tool"}
    wall_s = (following.begun_s - answer.at_s) / len(served) if following and served else 0.0
    return [
        ToolCall(
            name=call["function"]["name"],
            arguments=parsed.arguments if parsed.problem is None else {"raw": parsed.raw},
            status="ok" if parsed.problem is None else "malformed",
            observation=observations.get(call["id"], ""),
            wall_s=wall_s,
        )
        for call, parsed in zip(served, answer.turn.calls, strict=True)
    ]


def _messages(turn: Turn) -> list[Message]:
    return [*turn.messages, *([turn.answer.message] if turn.answer else [])]
