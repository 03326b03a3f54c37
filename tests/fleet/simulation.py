"""Thousands of trajectories at once on fake hosts, some of which are lost, cut off or drained, while others join.

    python -m tests.fleet.simulation --hosts 64 --places 32 --tasks 256 --events 30

Everything is in one process and in virtual time: the real orchestrator, fleet, agents, rollers and store, with
sandboxes in memory. It prints what happened as one JSON object.
"""

import argparse
import asyncio
import json
import math
import random
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from swe_aem.core import AnyPolicy, Deadline, Sandbox, Stop, Task, Trajectory, TrajectoryKey
from swe_aem.fleet.roller import RemoteRoller
from swe_aem.store import Store
from swe_aem.testing.engine import FakeHost
from swe_aem.testing.virtual_time import run_in_virtual_time
from tests.fleet.fakes import FleetBench
from tests.memory import peak_bytes
from tests.rollout.fakes import FakeAgent, submit

GROUP_SIZE = 16
_MEDIAN_S = 300.0
_TEXT_BYTES = 100_000
"""A trajectory's messages, so that lines are as long as those of real agents."""


class LongAgent(FakeAgent):
    """An agent with much to say."""

    async def run(
        self, task: Task, sandbox: Sandbox, policy: AnyPolicy, *, sample: int, deadline: Deadline
    ) -> Trajectory:
        drafted = await super().run(task, sandbox, policy, sample=sample, deadline=deadline)
        return drafted.model_copy(update={"messages": ({"role": "tool", "content": "y" * _TEXT_BYTES},)})


async def take_long(agent: FakeAgent, task: Task, sandbox: Sandbox, sample: int) -> Stop:
    """Work for seconds that are log-normal, and the same in every run."""
    dice = random.Random(f"{task.id}.{sample}")
    await asyncio.sleep(min(1800.0, dice.lognormvariate(math.log(_MEDIAN_S), 0.7)))
    return await submit(agent, task, sandbox, sample)


@dataclass
class Chaos:
    """What happens to hosts at random moments. One that is lost or cut off comes back."""

    made: FleetBench
    dice: random.Random
    events: int
    happened: Counter[str] = field(default_factory=Counter)
    most_at_once: int = 0
    most_repeated: int = 0
    """Places that were taken where a host was lost or cut off."""

    async def play(self, roller: RemoteRoller) -> None:
        """Harm hosts until all events have happened."""
        for _ in range(self.events):
            await asyncio.sleep(self.dice.uniform(20.0, 60.0))
            well = [host for host in self.made.engine.hosts.values() if host.reachable and not host.draining]
            what = self.dice.choice(("lose", "cut off", "drain", "join"))
            if what == "join":
                self.made.host(f"host-{len(self.made.backends)}")
            elif len(well) > 1:
                await self._harm(what, self.dice.choice(well), roller)
            self.happened[what] += 1

    async def _harm(self, what: str, host: FakeHost, roller: RemoteRoller) -> None:
        if what == "drain":
            host.draining = True
            return
        self.most_repeated += taken(roller).get(host.id, 0)
        if what == "lose":
            self.made.engine.lose(host)
            self.made.host(host.name)
        else:
            host.reachable = False
            asyncio.get_running_loop().call_later(self.dice.uniform(30.0, 90.0), setattr, host, "reachable", True)

    async def watch(self, roller: RemoteRoller) -> None:
        """Count what runs at once."""
        while True:
            self.most_at_once = max(self.most_at_once, sum(taken(roller).values()))
            await asyncio.sleep(1.0)


def taken(roller: RemoteRoller) -> dict[str, int]:
    """Places that are taken, by host; none before the hosts join and after they are left."""
    try:
        return {node.id: node.used for node in roller.fleet.nodes}
    except RuntimeError:
        return {}


async def simulate(directory: Path, *, hosts: int, places: int, tasks: int, events: int, seed: int) -> Chaos:
    """One rollout over such hosts."""
    made = FleetBench(
        directory,
        tasks=tasks,
        group_size=GROUP_SIZE,
        behaviour=take_long,
        make_agent=LongAgent,
        scheduling={"concurrency": places, "starting": places, "grading": places, "max_attempts": 20},
        time_limit_s=20_000.0,
    )
    made.bench.records = [
        record.model_copy(update={"task": record.task.model_copy(update={"image": f"image-{record.task.id}"})})
        for record in made.bench.records
    ]
    for number in range(hosts):
        made.host(f"host-{number}")
    chaos = Chaos(made, random.Random(seed), events)
    await made.run(chaos.play, chaos.watch)
    return chaos


def main() -> None:
    """Simulate, and print what happened."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("hosts", "places", "tasks", "events"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--seed", type=int, default=20261130)
    options = vars(parser.parse_args())
    with tempfile.TemporaryDirectory() as directory:
        began_s = time.monotonic()
        chaos = run_in_virtual_time(simulate(Path(directory), **options))
        found: dict[str, Any] = {
            "wall_s": time.monotonic() - began_s,
            "peak_bytes": peak_bytes(),
            "happened": chaos.happened,
            "most_at_once": chaos.most_at_once,
            "most_repeated": chaos.most_repeated,
            "failed_attempts": chaos.made.bench.progress.failed_attempts,
            "sandboxes_left": chaos.made.sandboxes_left,
        }
        ends: Counter[str] = Counter()
        keys: Counter[TrajectoryKey] = Counter()
        for one in Store(Path(directory)).trajectories():
            keys[one.key] += 1
            ends[f"{one.outcome}, reward {one.reward}"] += 1
    print(json.dumps(found | {"ends": ends, "keys": len(keys), "stored": keys.total()}))


if __name__ == "__main__":
    main()
