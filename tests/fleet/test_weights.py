"""Agents sample from servers that get new weights meanwhile: whatever happens to hosts, no token that is stored bears
another version than sampled it."""

import asyncio
import random
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from swe_aem.core import AnyPolicy, Deadline, Outcome, Response, SamplingParams, Sandbox, Task, Trajectory, is_chat
from swe_aem.errors import PolicyError
from swe_aem.fleet.agent import NodeAgent
from swe_aem.fleet.host_rollouts import SharedComponents, open_host_rollouts
from swe_aem.fleet.messages import Opening
from swe_aem.fleet.roller import RemoteRoller
from swe_aem.fleet.standing import StandingFleet
from swe_aem.policy import VllmClientConfig, VllmPolicy
from swe_aem.rollout.roller import Roller
from swe_aem.serve.planes import Parcel
from swe_aem.serve.sync import WeightSync
from swe_aem.tasks import TaskSet
from swe_aem.testing.tagging_vllm import STOPS, version_of
from swe_aem.testing.virtual_time import run_in_virtual_time
from swe_aem.train.rollout_hosts import open_hosts
from tests.fleet.fakes import FleetBench
from tests.fleet.in_memory import InMemoryVllm, in_memory
from tests.fleet.test_random_schedules import HARMS, Step, heal, repair, steps
from tests.rollout.fakes import FakeAgent

TICK_S = 0.25
"""Seconds per token."""


@dataclass
class SamplingAgent(FakeAgent):
    """Asks the policy for a few responses."""

    async def run(
        self, task: Task, sandbox: Sandbox, policy: AnyPolicy, *, sample: int, deadline: Deadline
    ) -> Trajectory:
        assert not is_chat(policy)
        dice = random.Random(f"{task.id}.{sample}")
        ids: list[int] = []
        responses: list[Response] = []
        for _ in range(3):
            ids += dice.choices(range(900), k=5)
            params = SamplingParams(max_tokens=dice.choice((5, 20, 40)), seed=len(ids), stop_token_ids=STOPS)
            got = await policy.sample(ids, params, trajectory_id=f"{task.id}.{sample}")
            responses.append(Response.of(got, start=len(ids), sample_s=0.0, tool_calls=()))
            ids += got.token_ids
        drafted = await super().run(task, sandbox, policy, sample=sample, deadline=deadline)
        return drafted.model_copy(update={"token_ids": tuple(ids), "responses": tuple(responses)})


@dataclass
class TrainingBench(FleetBench):
    """Rollouts of one or several tasks on hosts whose policy is on two servers."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.servers = [InMemoryVllm(tick_s=TICK_S) for _ in range(2)]
        self.version = 0

    @asynccontextmanager
    async def opened(self, *, in_flight: str) -> AsyncIterator[StandingFleet]:
        """The hosts, and servers with version 1."""
        async with AsyncExitStack() as stack:
            for server in self.servers:
                await stack.enter_async_context(server)
            urls = tuple(server.url for server in self.servers)
            config = VllmClientConfig.model_validate({"urls": urls, "in_flight": in_flight})
            policy = await stack.enter_async_context(VllmPolicy(config))
            self.sync = WeightSync(policy)
            await self.sync.open()
            stack.push_async_callback(self.sync.close)
            await self.update()
            opening = open_hosts(self.bench.config(), self.directory, policy, engine=self.engine)
            yield (await stack.enter_async_context(opening))

    async def update(self) -> None:
        """The servers get the next version."""
        self.version += 1
        path = f"w.{self.version}"
        await self.sync.begin(Parcel(path, self.version, {"path": path}, atomic=True, again=True))
        await self.sync.end(None)

    def rolled_out_on(self, fleet: StandingFleet) -> Any:
        """`Bench.orchestrator`'s `elsewhere`."""

        def roller(_: object) -> Roller:
            self.roller = fleet.roller(self.bench.config(), TaskSet("fakes", ()), self.directory, "run")  # type: ignore[assignment]
            return self.roller

        return roller

    def _agent(self, name: str) -> NodeAgent:
        backend, components = self.backends[name], replace(self.bench.components(), agent=SamplingAgent())

        @asynccontextmanager
        async def shared(opening: Opening) -> AsyncIterator[SharedComponents]:
            async with opening.settings.opened(4) as opened:
                mine = replace(components, policies=lambda record, sample: opened.policy)
                yield SharedComponents(lambda config, tasks: mine, opened.follower)

        work = partial(open_host_rollouts, open_shared=shared, backend=lambda config: backend)
        return NodeAgent(open_work=work, shares_host=False, leave=lambda: self.left.append(name))


def stamped(trajectory: Trajectory) -> None:
    """Every token bears the version that sampled it."""
    for one in trajectory.responses:
        starts = {0: one.version, **{span.start: span.version for span in one.spans}}
        version = one.version
        for place, token in enumerate(trajectory.token_ids[one.start : one.end]):
            version = starts.get(place, version)
            assert version_of(token) == version, trajectory.id


async def disturbed(made: TrainingBench, schedule: list[Step], _: RemoteRoller) -> None:
    """Play a schedule, in which "spoil" is an update and "repair" one that a server fails to load."""
    for step in schedule:
        await asyncio.sleep(step.after_s)
        hosts = list(made.engine.hosts.values())
        if step.what in ("spoil", "repair"):
            made.servers[step.host % 2].failing_updates = step.what == "repair"
            with suppress(PolicyError):
                await made.update()
        elif hosts:
            HARMS[step.what](made, hosts[step.host % len(hosts)])
    for host in list(made.engine.hosts.values()):
        heal(made, host)
        repair(made, host)
    made.host(f"last-{len(made.backends)}")


async def beside_updates(directory: Path, schedule: list[Step], in_flight: str) -> TrainingBench:
    made = TrainingBench(directory, tasks=4, scheduling={"max_attempts": 8})
    for name in "ab":
        made.host(name)
    async with (
        made.opened(in_flight=in_flight) as fleet,
        made.bench.orchestrator(elsewhere=made.rolled_out_on(fleet)) as orchestrator,
    ):
        playing = asyncio.ensure_future(disturbed(made, schedule, made.roller))
        await orchestrator.run()
        await playing
    return made


schedules = st.tuples(steps, st.sampled_from(["interrupt", "drain"]))
CUT_OFF, UPDATE = Step(3.0, "cut_off", 0), Step(0.5, "spoil", 0)
A_HOST_THAT_MISSES_AN_UPDATE = [CUT_OFF, UPDATE, Step(25.0, "heal", 0), Step(0.5, "spoil", 1)]
ONE_THAT_IS_LOST_IN_AN_UPDATE = [Step(3.0, "slow", 0), UPDATE, Step(0.5, "lose", 0), Step(0.5, "join", 0)]
MANY_UPDATES = [Step(3.0, "spoil", 0), Step(3.0, "repair", 1), Step(3.0, "spoil", 1), Step(0.5, "join", 0)]


@settings(max_examples=1)
@given(schedules)
@example((A_HOST_THAT_MISSES_AN_UPDATE, "interrupt"))
@example((A_HOST_THAT_MISSES_AN_UPDATE, "drain"))
@example((ONE_THAT_IS_LOST_IN_AN_UPDATE, "interrupt"))
@example((MANY_UPDATES, "interrupt"))
@example(([Step(3.0, "slow", 0), Step(7.0, "join", 0), Step(7.0, "drain", 0), Step(7.0, "cut_off", 0)], "interrupt"))
def test_no_stored_token_bears_another_version_than_sampled_it(schedule: tuple[list[Step], str]) -> None:
    check_beside_updates(schedule)


@pytest.mark.nightly
@pytest.mark.timeout(3000)
@settings(max_examples=200)
@given(schedules)
def test_none_in_many_random_schedules(schedule: tuple[list[Step], str]) -> None:
    check_beside_updates(schedule)


def check_beside_updates(schedule: tuple[list[Step], str]) -> None:
    """All is stored once, with true stamps, and nothing is left."""
    with tempfile.TemporaryDirectory() as directory, in_memory():
        made = run_in_virtual_time(beside_updates(Path(directory), *schedule))
        stored = made.bench.stored()  # fails if a key is there twice
        assert len(stored) == 16
        for one in stored.values():
            assert one.outcome in (Outcome.RESOLVED, Outcome.INFRASTRUCTURE)
            stamped(one)
        assert made.sandboxes_left == 0


async def step_by_step(directory: Path, schedule: list[Step]) -> list[list[Trajectory]]:
    """The trajectories of three steps, each rolled out with the weights of the one before it."""
    made = TrainingBench(directory, tasks=2, scheduling={"max_attempts": 8})
    harms = [step for step in schedule if step.what not in ("spoil", "repair")]
    for name in "ab":
        made.host(name)
    found = []
    async with made.opened(in_flight="drain") as fleet:
        for number in range(3):
            made.bench.directory = directory / str(number)
            async with made.bench.orchestrator(elsewhere=made.rolled_out_on(fleet)) as orchestrator:
                playing = asyncio.ensure_future(disturbed(made, harms[number::3], made.roller))
                await orchestrator.run()
                await playing
            found.append(list(made.bench.stored().values()))
            await made.update()
    return found


@settings(max_examples=1)
@given(steps)
@example(A_HOST_THAT_MISSES_AN_UPDATE)
def test_a_step_is_rolled_out_with_its_own_weights_alone(schedule: list[Step]) -> None:
    with tempfile.TemporaryDirectory() as directory, in_memory():
        found = run_in_virtual_time(step_by_step(Path(directory), schedule))
        for version, stored in enumerate(found, start=1):
            assert len(stored) == 8
            assert {one for each in stored for response in each.responses for one in response.versions} <= {version}
            for one in stored:
                stamped(one)
