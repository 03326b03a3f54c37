"""The native agent: ask the policy, carry out its tool calls, show it the results, until something ends the trajectory.

    prompt ids ──> policy ──> response ids ──> tool calls ──> observations ──> longer prompt ids ──> ...

The prompt only ever grows: prompt n+1 is prompt n, response n and the observations, id by id (`TurnRenderer.bridge`).
Limits end a trajectory with what was sampled so far; infrastructure errors pass through, and then there is none.
"""

import asyncio
import time

from swe_aem.agent.config import NativeConfig
from swe_aem.agent.prompts import Prompts
from swe_aem.agent.renderer import Message, ParsedCall, ParsedTurn, TurnRenderer, call_id
from swe_aem.agent.seed import request_seed
from swe_aem.agent.tools import SPECS, Toolbox, call_problem
from swe_aem.core import (
    Completion,
    Deadline,
    Policy,
    Response,
    SamplingParams,
    Sandbox,
    Stop,
    Task,
    ToolCall,
    Trajectory,
    fault_of,
)
from swe_aem.errors import PolicyError, SandboxDead
from swe_aem.policy.errors import ContextOverflow

_SANDBOX_GRACE_S = 30.0
"""How much longer than a command's timeout a sandbox may take to answer before it counts as dead."""


class NativeAgent:
    """An `Agent` that runs in this process; one instance serves any number of trajectories at once."""

    name = "native"

    def __init__(self, config: NativeConfig, renderer: TurnRenderer) -> None:
        self.config = config
        self.renderer = renderer
        self.prompts = Prompts(config.prompts)

    async def run(self, task: Task, sandbox: Sandbox, policy: Policy, *, sample: int, deadline: Deadline) -> Trajectory:
        """Play one trajectory to its end; see `nouns.Agent`."""
        started = time.monotonic()
        episode = _Episode(self, task, sandbox, policy, sample, deadline)
        stop = await episode.play()
        return Trajectory(
            task_id=task.id,
            sample=sample,
            agent=self.name,
            model=policy.name,
            token_ids=tuple(episode.token_ids),
            responses=tuple(episode.responses),
            messages=tuple(episode.messages),
            stop=stop,
            timings_s={"agent": time.monotonic() - started},
        )


class _Ended(Exception):
    """The trajectory is over."""

    def __init__(self, stop: Stop) -> None:
        super().__init__(stop)
        self.stop = stop


class _Episode:
    """The state of one trajectory while it is played."""

    def __init__(
        self, agent: NativeAgent, task: Task, sandbox: Sandbox, policy: Policy, sample: int, deadline: Deadline
    ) -> None:
        self.config, self.renderer, self.prompts = agent.config, agent.renderer, agent.prompts
        self.task, self.sandbox, self.policy = task, sandbox, policy
        self.sample, self.deadline = sample, deadline
        self.toolbox = Toolbox(
            sandbox,
            task.workdir,
            max_observation_bytes=self.config.max_observation_bytes,
            render_result=self.prompts.bash_result,
        )
        self.messages: list[Message] = self._first_messages()
        self.prompt_ids = self.renderer.start(self.messages, SPECS if self.config.describe_tools else ())
        self.token_ids = self.prompt_ids
        """What is kept: the prompt of the last response, and that response."""
        self.responses: list[Response] = []
        self.malformed_in_a_row = 0

    async def play(self) -> Stop:
        """Take turns until the trajectory ends."""
        try:
            for _ in range(self.config.max_turns):
                completion, sample_s = await self._query()
                turn = self.renderer.parse(completion.token_ids, self.prompt_ids)
                calls = await self._execute(turn, completion)
                self._record(completion, sample_s, calls)
                self._observe(completion, turn, calls)
        except _Ended as ended:
            return ended.stop
        return Stop.TURN_LIMIT

    def _first_messages(self) -> list[Message]:
        task = self.prompts.render(
            "task",
            statement=self.task.problem_statement,
            workdir=self.task.workdir,
            command_timeout_s=f"{self.config.command_timeout_s:g}",
            max_turns=self.config.max_turns,
        )
        return [{"role": "system", "content": self.prompts.render("system")}, {"role": "user", "content": task}]

    async def _query(self) -> tuple[Completion, float]:
        """Sample the next response; also returns how many seconds that took."""
        room_tokens = self.config.max_context_tokens - len(self.prompt_ids)
        if room_tokens < 1:
            raise _Ended(Stop.CONTEXT_LIMIT)
        self._check_time()
        started, limit = time.monotonic(), asyncio.timeout(self.deadline.remaining_s())
        try:
            async with limit:
                completion = await self.policy.sample(
                    self.prompt_ids, self._params(room_tokens), trajectory_id=f"{self.task.id}.{self.sample}"
                )
        except ContextOverflow as error:
            raise _Ended(Stop.CONTEXT_LIMIT) from error
        except TimeoutError as error:
            if not limit.expired():
                raise
            if fault := fault_of(self.policy):
                raise PolicyError(f"time was up while nothing could be sampled: {fault}") from error
            raise _Ended(Stop.TIME_LIMIT) from error
        if not completion.token_ids or len(completion.token_ids) != len(completion.logprobs):
            raise PolicyError(
                f"policy {self.policy.name} returned {len(completion.token_ids)} tokens with "
                f"{len(completion.logprobs)} log-probabilities"
            )
        return completion, time.monotonic() - started

    def _params(self, room_tokens: int) -> SamplingParams:
        return SamplingParams(
            max_tokens=min(self.config.max_response_tokens, room_tokens),
            temperature=self.config.temperature,
            top_p=self.config.top_p,
            stop_token_ids=self.renderer.stop_token_ids,
            seed=request_seed(self.config.seed, self.task.id, self.sample, len(self.responses)),
        )

    async def _execute(self, turn: ParsedTurn, completion: Completion) -> list[ToolCall]:
        """Carry out the calls of a response in their order, until one submits or the time is up."""
        calls: list[ToolCall] = []
        for parsed in turn.calls:
            if self.deadline.expired() or _submitted(calls):
                break
            problem = parsed.problem or call_problem(parsed.name, parsed.arguments)
            if problem is None:
                calls.append(await self._carry_out(parsed))
            elif parsed.unclosed and completion.finish_reason == "length":
                calls.append(_refused(parsed, self._cut_off(completion, calls)))
            else:
                calls.append(_refused(parsed, self.prompts.render("malformed_call", problem=problem)))
        return calls

    def _cut_off(self, completion: Completion, calls: list[ToolCall]) -> str:
        complete = sum(call.status == "ok" for call in calls)
        return self.prompts.render("cut_off", response_tokens=len(completion.token_ids), complete_calls=complete)

    async def _carry_out(self, parsed: ParsedCall) -> ToolCall:
        timeout_s = min(self.config.command_timeout_s, self.deadline.remaining_s())
        started, limit = time.monotonic(), asyncio.timeout(timeout_s + _SANDBOX_GRACE_S)
        try:
            async with limit:
                result = await self.toolbox.call(parsed.name, parsed.arguments, timeout_s=timeout_s)
        except TimeoutError as error:
            if limit.expired():
                raise SandboxDead(
                    f"sandbox {self.sandbox.id} did not answer {_SANDBOX_GRACE_S:g} s after a command's timeout"
                ) from error
            raise
        return ToolCall(
            name=parsed.name,
            arguments=parsed.arguments,
            observation=result.observation,
            exit_code=result.exit_code,
            timed_out=result.timed_out,
            wall_s=time.monotonic() - started,
        )

    def _record(self, completion: Completion, sample_s: float, calls: list[ToolCall]) -> None:
        """Keep a response with its exact ids, before anything can end the trajectory."""
        self.token_ids = [*self.prompt_ids, *completion.token_ids]
        self.responses.append(Response.of(completion, start=len(self.prompt_ids), sample_s=sample_s, tool_calls=calls))

    def _observe(self, completion: Completion, turn: ParsedTurn, calls: list[ToolCall]) -> None:
        """Show the policy what its response did, unless that ended the trajectory."""
        answers = self._answers(completion, turn, calls)
        self.messages += [turn.message(len(self.responses)), *answers]
        if _submitted(calls):
            raise _Ended(Stop.SUBMITTED)
        self._check_time()
        well_formed = any(call.status == "ok" for call in calls)
        self.malformed_in_a_row = 0 if well_formed else self.malformed_in_a_row + 1
        if self.malformed_in_a_row >= self.config.max_consecutive_malformed:
            raise _Ended(Stop.MALFORMED)
        next_prompt_ids = self.renderer.bridge(self.prompt_ids, completion.token_ids, answers)
        if next_prompt_ids is None:  # the response broke the format so that no next turn can follow it
            raise _Ended(Stop.MALFORMED)
        self.prompt_ids = next_prompt_ids

    def _answers(self, completion: Completion, turn: ParsedTurn, calls: list[ToolCall]) -> list[Message]:
        """One tool message per call; a user message if there was no call."""
        if not turn.calls:
            cut_off = completion.finish_reason == "length"
            text = self._cut_off(completion, calls) if cut_off else self.prompts.render("no_call")
            return [{"role": "user", "content": text}]
        number = len(self.responses)
        return [
            {"role": "tool", "tool_call_id": call_id(number, n), "name": call.name, "content": call.observation}
            for n, call in enumerate(calls)
        ]

    def _check_time(self) -> None:
        if self.deadline.expired():
            raise _Ended(Stop.TIME_LIMIT)


def _refused(parsed: ParsedCall, observation: str) -> ToolCall:
    return ToolCall(name=parsed.name, arguments={"raw": parsed.raw}, status="malformed", observation=observation)


def _submitted(calls: list[ToolCall]) -> bool:
    return any(call.name == "submit" and call.status == "ok" for call in calls)
