"""The native agent: ask the policy, carry out its tool calls, show it the results, until something ends the trajectory.

    prompt ──> policy ──> response ──> tool calls ──> observations ──> longer prompt ──> ...

The prompt only grows: prompt n+1 is prompt n, response n and the observations, id by id or, for a chat API, message by
message (`prompt.py`, which also says where a new one begins). A limit ends the trajectory with what was sampled so far,
and so does a sandbox that dies. Any other infrastructure failure is raised, and there is no trajectory.
"""

import time

from swe_aem.agent.config import NativeConfig
from swe_aem.agent.grace import answering
from swe_aem.agent.parsed import Message, ParsedCall
from swe_aem.agent.prompt import Sampled
from swe_aem.agent.prompts import Prompts
from swe_aem.agent.renderer import TurnRenderer
from swe_aem.agent.tools import SPECS, FittedCall, Toolbox, fit_call
from swe_aem.agent.transcript import Transcript
from swe_aem.agent.turn_sampler import TrajectoryEnded, TurnSampler
from swe_aem.core import (
    WALL_PER_LIMIT,
    AnyPolicy,
    Deadline,
    Sandbox,
    Stop,
    Task,
    ToolCall,
    Trajectory,
)
from swe_aem.errors import SandboxDead


class NativeAgent:
    """An `Agent` that runs in this process; one instance serves any number of trajectories at once."""

    name = "native"

    def __init__(self, config: NativeConfig, renderer: TurnRenderer | None = None) -> None:
        """Policies that take token ids need the renderer."""
        self.config = config
        self.renderer = renderer
        self.prompts = Prompts(config.prompts)

    async def run(
        self, task: Task, sandbox: Sandbox, policy: AnyPolicy, *, sample: int, deadline: Deadline
    ) -> Trajectory:
        """Play one trajectory to its end, as `core.Agent` says."""
        started = time.monotonic()
        episode = _Episode(self, task, sandbox, policy, sample, deadline)
        stop, error = await episode.play()
        return episode.transcript.trajectory(
            task_id=task.id,
            sample=sample,
            agent=self.name,
            model=policy.name,
            stop=stop,
            error=error,
            timings_s={"agent": time.monotonic() - started},
        )


class _Episode:
    """The state of one trajectory while it is played."""

    def __init__(
        self, agent: NativeAgent, task: Task, sandbox: Sandbox, policy: AnyPolicy, sample: int, deadline: Deadline
    ) -> None:
        self.config, self.prompts = agent.config, agent.prompts
        self.task, self.sandbox, self.deadline = task, sandbox, deadline
        sampler = TurnSampler(policy, agent.renderer, self.config, deadline, task_id=task.id, sample=sample)
        self.toolbox = Toolbox(
            sandbox,
            task.workdir,
            max_observation_bytes=self.config.max_observation_bytes,
            render_result=self.prompts.bash_result,
        )
        tools = SPECS if self.config.describe_tools else ()
        self.transcript = Transcript(sampler, self._first_messages(), tools)

    async def play(self) -> tuple[Stop, str | None]:
        """Take turns until the trajectory ends; returns why, and what is known of a sandbox that died."""
        try:
            for _ in range(self.config.max_turns):
                sampled = await self.transcript.sample()
                calls, dead = await self._execute(sampled)
                self.transcript.record(sampled, calls)
                if dead is not None:
                    self.transcript.show(sampled, ())
                    return Stop.SANDBOX_DEAD, str(dead)
                self._observe(sampled, calls)
        except TrajectoryEnded as ended:
            return ended.stop, None
        return Stop.TURN_LIMIT, None

    def _first_messages(self) -> list[Message]:
        task = self.prompts.render(
            "task",
            statement=self.task.problem_statement,
            workdir=self.task.workdir,
            command_timeout_s=f"{self.config.command_timeout_s:g}",
            max_turns=self.config.max_turns,
        )
        return [{"role": "system", "content": self.prompts.render("system")}, {"role": "user", "content": task}]

    async def _execute(self, sampled: Sampled) -> tuple[list[ToolCall], SandboxDead | None]:
        """Carry out the calls of a response in order, until one submits, the time is up, or the sandbox is dead: the
        call that found it so is the last one, without an observation."""
        calls: list[ToolCall] = []
        for parsed in sampled.turn.calls:
            if self.deadline.expired() or _submitted(calls):
                break
            try:
                fitted = _fit(parsed)
            except ValueError as problem:
                cut_off = parsed.unclosed and sampled.response.finish_reason == "length"
                text = self._cut_off(sampled, calls) if cut_off else self._malformed(problem)
                calls.append(_refused(parsed, text))
            else:
                try:
                    calls.append(await self._carry_out(parsed, fitted))
                except SandboxDead as error:
                    converted = parsed.converted + fitted.converted
                    calls.append(ToolCall(name=parsed.name, arguments=fitted.arguments, converted=converted))
                    return calls, error
        return calls, None

    def _cut_off(self, sampled: Sampled, calls: list[ToolCall]) -> str:
        complete = sum(call.status == "ok" for call in calls)
        tokens = sampled.usage.completion_tokens
        return self.prompts.render("cut_off", response_tokens=tokens, complete_calls=complete)

    def _malformed(self, problem: ValueError) -> str:
        return self.prompts.render("malformed_call", problem=str(problem))

    async def _carry_out(self, parsed: ParsedCall, fitted: FittedCall) -> ToolCall:
        timeout_s = min(self.config.command_timeout_s, self.deadline.remaining_s())
        wall_s = WALL_PER_LIMIT * timeout_s
        started = time.monotonic()
        async with answering(self.sandbox, wall_s):
            result = await self.toolbox.call(parsed.name, fitted.arguments, timeout_s=timeout_s, wall_s=wall_s)
        return ToolCall(
            name=parsed.name,
            arguments=fitted.arguments,
            converted=parsed.converted + fitted.converted,
            observation=result.observation,
            exit_code=result.exit_code,
            timed_out=result.timed_out,
            wall_s=time.monotonic() - started,
        )

    def _observe(self, sampled: Sampled, calls: list[ToolCall]) -> None:
        """Show the policy what its response did, unless that ended the trajectory."""
        answers = self._answers(sampled, calls)
        self.transcript.show(sampled, answers)
        if _submitted(calls):
            raise TrajectoryEnded(Stop.SUBMITTED, "the policy submitted")
        self.transcript.extend(sampled, answers, well_formed=any(call.status == "ok" for call in calls))

    def _answers(self, sampled: Sampled, calls: list[ToolCall]) -> list[Message]:
        """One tool message per call; a user message if there was no call."""
        if not sampled.turn.calls:
            cut_off = sampled.response.finish_reason == "length"
            text = self._cut_off(sampled, calls) if cut_off else self.prompts.render("no_call")
            return [{"role": "user", "content": text}]
        ids = sampled.turn.call_ids(self.transcript.turns)
        return [
            {"role": "tool", "tool_call_id": id, "name": call.name, "content": call.observation}
            for id, call in zip(ids, calls, strict=False)
        ]


def _fit(parsed: ParsedCall) -> FittedCall:
    """The arguments of a call as its tool takes them; raises `ValueError` with what is wrong, for the model."""
    if parsed.problem is not None:
        raise ValueError(parsed.problem)
    return fit_call(parsed.name, parsed.arguments)


def _refused(parsed: ParsedCall, observation: str) -> ToolCall:
    return ToolCall(name=parsed.name, arguments={"raw": parsed.raw}, status="malformed", observation=observation)


def _submitted(calls: list[ToolCall]) -> bool:
    return any(call.name == "submit" and call.status == "ok" for call in calls)
