"""`HarnessAgent`: an `Agent` that runs a harness and records its trajectory at the gateway."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from swe_aem.agent import TurnLimits, TurnRenderer
from swe_aem.core import AnyPolicy, Deadline, Sandbox, SandboxSpec, Stop, Task, Trajectory, TrajectoryKey
from swe_aem.core.scratch import scratch_directory
from swe_aem.errors import HarnessError, HarnessRaised, SandboxDead, UserError
from swe_aem.gateway import Doorway, Gateway, GatewaySession
from swe_aem.gateway.inside import FORWARD, INSIDE, ROOT_URL
from swe_aem.harness.config import HarnessConfig
from swe_aem.harness.environment import PACKAGES, packages
from swe_aem.harness.pool import WorkerPool
from swe_aem.harness.spec import HarnessSpec


class HarnessAgent:
    """An `Agent` over a harness; one instance runs any number of trajectories at once."""

    def __init__(
        self,
        spec: HarnessSpec,
        options: Mapping[str, Any],
        limits: TurnLimits,
        gateway: Gateway,
        pool: WorkerPool,
        forwarder: Path | None,
        shared: Mapping[str, Path],
    ) -> None:
        """Where the agent runs inside of the sandbox, `forwarder` is what `Doorway` takes, and `shared` are directories
        of this host that it needs, by their path there."""
        self.name = spec.name
        self._options = {**spec.options, **options}
        self.gateway, self.pool = gateway, pool
        self._limits, self._inside, self._forwarder, self._shared = limits, spec.inside, forwarder, shared
        self._doorways: dict[TrajectoryKey, Doorway] = {}

    @contextmanager
    def sandbox_for(self, spec: SandboxSpec, key: TrajectoryKey) -> Iterator[SandboxSpec]:
        """The sandbox of one trajectory, with the gateway and the agent's packages in it where that runs inside."""
        if not self._inside:
            yield spec
            return
        assert self._forwarder is not None, "open_harness refuses this"
        with scratch_directory("doorway", self.pool.scratch) as directory:
            self._doorways[key] = Doorway(directory, self._forwarder)
            try:
                yield spec.model_copy(update={"shared": {**spec.shared, **self._shared, INSIDE: directory}})
            finally:
                del self._doorways[key]

    async def run(
        self, task: Task, sandbox: Sandbox, policy: AnyPolicy, *, sample: int, deadline: Deadline
    ) -> Trajectory:
        """Play one trajectory to its end, as `core.Agent` says. The gateway enforces the limits, so a harness that
        never ends or ignores them is ended too."""
        started = time.monotonic()
        async with (
            self.gateway.session(task, sample, policy, self._limits, deadline) as session,
            self._open_inside(session, TrajectoryKey(task.id, sample)),
        ):
            try:
                stop, error = await self._converse(task, sandbox, session, deadline), None
            except SandboxDead as dead:
                stop, error = Stop.SANDBOX_DEAD, str(dead)
            except HarnessRaised as raised:
                if not (self._inside and session.has_acted):
                    raise
                # The policy's commands can end an agent beside them, so it is measured like the loss of a sandbox.
                stop, error = Stop.SANDBOX_DEAD, str(raised)
        trajectory = session.trajectory(self.name, stop)
        if stop is Stop.SUBMITTED and not trajectory.responses:
            raise HarnessError(f"the harness {self.name} ended without asking the policy for anything")
        return trajectory.model_copy(update={"error": error, "timings_s": {"agent": time.monotonic() - started}})

    def _open_inside(self, session: GatewaySession, key: TrajectoryKey) -> AbstractAsyncContextManager[None]:
        """The session, served in the sandbox that `sandbox_for` made for it; nothing where the agent runs outside."""
        if not self._inside:
            return nullcontext()
        if key not in self._doorways:
            raise HarnessError(f"the harness {self.name} runs inside: open its sandbox with `sandbox_for`")
        return self._doorways[key].serving(session)

    async def _converse(self, task: Task, sandbox: Sandbox, session: GatewaySession, deadline: Deadline) -> Stop:
        """Run the harness and return why the trajectory ended. The session's reason comes before the harness's, which
        may be a consequence of it."""
        start = {
            "statement": task.problem_statement,
            "workdir": task.workdir,
            "base_commit": task.base_commit,
            "base_url": f"{ROOT_URL}/v1" if self._inside else session.url,
            "forward": FORWARD if self._inside else "",
            "packages": PACKAGES if self._shared else "",
            "model": session.policy.name,
            "max_turns": self._limits.max_turns,
            "max_context_tokens": self._limits.max_context_tokens,
            "max_response_tokens": self._limits.max_response_tokens,
            "options": self._options,
        }
        async with self.pool.conversation(start, sandbox, deadline, inside=self._inside) as conversation:
            ended = asyncio.create_task(session.ended.wait())
            over: set[asyncio.Future[Any]] = {conversation.done, ended}
            try:
                while not deadline.expired() and not any(each.done() for each in over):
                    await asyncio.wait(over, timeout=deadline.look_again_s(), return_when=asyncio.FIRST_COMPLETED)
            finally:
                ended.cancel()
            if not conversation.done.done():
                session.out_of_time()  # has no effect if it has ended already
            if session.error is not None:
                raise session.error
            if session.stop is not None:
                return session.stop
            if session.ended.is_set():
                raise HarnessError("the gateway's session was closed while the harness used it")
            session.end("the trajectory is over")
            return await conversation.done


@asynccontextmanager
async def open_harness(
    spec: HarnessSpec, config: HarnessConfig, renderer: TurnRenderer | None, *, forwarder: Path | None = None
) -> AsyncIterator[Callable[[TurnLimits], HarnessAgent]]:
    """A function that makes agents with given limits; their gateway and processes live as long as the `async with`.
    An agent inside of the sandbox needs the `forwarder` of a `Doorway`.

    Raises `UserError` for unknown options and a harness that is not installed, `HarnessError` if it does not start.
    """
    if unknown := config.options.keys() - spec.options.keys():
        known = ", ".join(spec.options) or "none"
        raise UserError(f"the harness {spec.name} has no option {', '.join(sorted(unknown))}; it has {known}")
    if spec.inside and forwarder is None:
        raise UserError(f"the harness {spec.name} runs inside of the sandbox, and open_harness got no forwarder for it")
    own = packages(spec, config.pins)
    shared = {} if own is None else {PACKAGES: own}
    async with Gateway(renderer) as gateway, WorkerPool(spec, config) as pool:
        yield lambda limits: HarnessAgent(spec, config.options, limits, gateway, pool, forwarder, shared)
