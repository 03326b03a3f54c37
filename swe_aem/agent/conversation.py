"""`Conversation`: one trajectory for an agent of a user's own that runs in this process. `OwnAgent` plays it.

async def converse(conversation):
    conversation.begin([{"role": "user", "content": conversation.task.problem_statement}], tools)
    while True:
        turn = await conversation.ask()
        for call in turn.calls:
            conversation.answer(call, await act(conversation.sandbox, call))
"""

import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from swe_aem.agent.config import TurnLimits
from swe_aem.agent.grace import answering
from swe_aem.agent.parsed import Message, ParsedCall, ParsedTurn
from swe_aem.agent.prompt import Sampled
from swe_aem.agent.renderer import TurnRenderer
from swe_aem.agent.transcript import Transcript
from swe_aem.agent.turn_sampler import TrajectoryEnded, TurnSampler
from swe_aem.core import WALL_PER_LIMIT, AnyPolicy, Deadline, ExecResult, Sandbox, Stop, Task, ToolCall, Trajectory
from swe_aem.errors import ExtensionFailed, PolicyError, RunAborted, SandboxDead, UserError

Converse = Callable[["Conversation"], Awaitable[Stop | str | None]]
"""An agent of a user's own: plays one trajectory. It returns when the work is handed in, or another `Stop`."""


class Conversation:
    """One trajectory: the task, its sandbox, and a dialogue with the policy, whose exact tokens are kept where it
    reports them."""

    def __init__(
        self,
        task: Task,
        sandbox: Sandbox,
        policy: AnyPolicy,
        renderer: TurnRenderer | None,
        limits: TurnLimits,
        deadline: Deadline,
        sample: int,
    ) -> None:
        self.task = task
        """The task, as an agent may see it."""
        self.sandbox = sandbox
        """Where commands run; the work is what its work tree holds at the end."""
        self.deadline = deadline
        """When the trajectory is out of time."""
        self.limits = limits
        """Limits and sampling settings of the trajectory. `ask` keeps to them."""
        self.sample = sample
        """Number of the trajectory among those of its task, from 0."""
        self._policy, self._renderer = policy, renderer
        self._transcript: Transcript | None = None
        self._pending: Sampled | None = None
        self._calls: list[ToolCall] = []
        self._answers: list[Message] = []
        self._ended: Exception | None = None

    def begin(self, messages: Sequence[Message], tools: Sequence[dict[str, Any]] = ()) -> None:
        """Make the first prompt of chat messages and of the schemas of the tools. Once, before the first `ask`."""
        if self._transcript is not None:
            raise RuntimeError("a conversation begins once: later messages are answers and `say`")
        sampler = TurnSampler(
            self._policy, self._renderer, self.limits, self.deadline, task_id=self.task.id, sample=self.sample
        )
        self._transcript = Transcript(sampler, messages, tools)

    async def ask(self) -> ParsedTurn:
        """The policy's next response, to everything that was said since the last one.

        Ends the trajectory at a limit of turns, context or time, by an exception that is not for agents to catch.
        Raises `PolicyError` if the policy failed. An agent that catches them is over all the same.
        """
        with self._ending():
            return await self._ask()

    async def _ask(self) -> ParsedTurn:
        transcript = self._begun()
        if (sampled := self._pending) is not None:
            if len(self._calls) < len(sampled.turn.calls):
                wanted = len(sampled.turn.calls)
                raise RuntimeError(f"{wanted} calls need an answer each, and {len(self._calls)} have one")
            if not self._answers:
                raise RuntimeError("nothing answers the last response: `say` something before the next `ask`")
            answers = self._close()
            transcript.extend(sampled, answers, well_formed=any(call.status == "ok" for call in self._calls))
            self._calls, self._answers = [], []
        if transcript.turns >= self.limits.max_turns:
            raise TrajectoryEnded(Stop.TURN_LIMIT, f"{self.limits.max_turns} turns are over")
        self._pending = await transcript.sample()
        return self._pending.turn

    def answer(self, call: ParsedCall, text: str, result: ExecResult | None = None) -> None:
        """Answer a call of the last response, in their order. `result` is what a command of it did, for the record.

        A call with a `problem` is malformed: the text should say what is wrong with it.
        """
        turn = self._last()
        number = len(self._calls)
        if number >= len(turn.calls) or turn.calls[number] is not call:
            raise RuntimeError("answer the calls of the last response once each, in their order")
        self._calls.append(
            ToolCall(
                name=call.name,
                arguments={"raw": call.raw} if call.problem else call.arguments,
                status="malformed" if call.problem else "ok",
                converted=call.converted,
                observation=text,
                exit_code=None if result is None else result.exit_code,
                timed_out=result is not None and result.timed_out,
                wall_s=0.0 if result is None else result.wall_s,
            )
        )
        id = turn.call_ids(self._begun().turns + 1)[number]
        self._answers.append({"role": "tool", "tool_call_id": id, "name": call.name, "content": text})

    def say(self, text: str) -> None:
        """Say something to the policy as the user, after the answers to its calls."""
        self._last()
        self._answers.append({"role": "user", "content": text})

    async def run(self, command: str, *, timeout_s: float = 60.0) -> ExecResult:
        """Run a command line by bash in the working directory; a timeout is a result too, and ends what it started.

        Raises `SandboxDead` if the sandbox is gone, which is not for agents to catch.
        """
        limit_s = min(timeout_s, self.deadline.remaining_s())
        wall_s = WALL_PER_LIMIT * limit_s
        with self._ending():
            async with answering(self.sandbox, wall_s):
                return await self.sandbox.run(command, cwd=self.task.workdir, timeout_s=limit_s, wall_s=wall_s)

    def require_unended(self) -> None:
        """Raises what has ended the trajectory, if anything has."""
        if self._ended is not None:
            raise self._ended

    def trajectory(self, agent: str, stop: Stop, error: str | None, agent_s: float) -> Trajectory:
        """What was sampled, as an agent hands it over."""
        transcript = self._begun()
        if self._pending is not None:
            self._close()
        return transcript.trajectory(
            task_id=self.task.id,
            sample=self.sample,
            agent=agent,
            model=self._policy.name,
            stop=stop,
            error=error,
            timings_s={"agent": agent_s},
        )

    @contextmanager
    def _ending(self) -> Iterator[None]:
        """Keep what ends the trajectory: an agent that catches it has not handed in its work."""
        self.require_unended()
        try:
            yield
        except (TrajectoryEnded, PolicyError, SandboxDead, RunAborted, ExtensionFailed, UserError) as error:
            self._ended = error
            raise

    def _close(self) -> list[Message]:
        """Keep the last response and what answers it."""
        assert self._pending is not None
        sampled, self._pending = self._pending, None
        transcript = self._begun()
        transcript.record(sampled, self._calls)
        transcript.show(sampled, self._answers)
        return self._answers

    def _last(self) -> ParsedTurn:
        if self._pending is None:
            raise RuntimeError("there is no response to answer: `ask` first")
        return self._pending.turn

    def _begun(self) -> Transcript:
        if self._transcript is None:
            raise RuntimeError("the conversation has no prompt: `begin` it before the first `ask`")
        return self._transcript


class OwnAgent:
    """An `Agent` over a function that plays conversations; one instance serves any number of trajectories at once."""

    def __init__(self, name: str, converse: Converse, limits: TurnLimits, renderer: TurnRenderer | None) -> None:
        self.name = name
        self._converse, self._limits, self._renderer = converse, limits, renderer

    async def run(
        self, task: Task, sandbox: Sandbox, policy: AnyPolicy, *, sample: int, deadline: Deadline
    ) -> Trajectory:
        """Play one trajectory to its end, as `core.Agent` says. What the function raises is raised as it is."""
        started = time.monotonic()
        conversation = Conversation(task, sandbox, policy, self._renderer, self._limits, deadline, sample)
        error = None
        try:
            returned = await self._converse(conversation)
            conversation.require_unended()
            stop = Stop(returned or Stop.SUBMITTED)
        except TrajectoryEnded as ended:
            stop = ended.stop
        except SandboxDead as dead:
            stop, error = Stop.SANDBOX_DEAD, str(dead)
        trajectory = conversation.trajectory(self.name, stop, error, time.monotonic() - started)
        if stop is Stop.SUBMITTED and not trajectory.responses:
            raise UserError(f"the agent {self.name} ended without asking the policy for anything: call `ask` in it")
        return trajectory
