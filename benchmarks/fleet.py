"""What it costs, and what it brings, to roll out on agents of a Ray cluster in place of one process.

    uv run --all-extras python benchmarks/fleet.py [--only processor,images] [--quick] [--json FILE]

A head and two hosts of Ray are started on this machine. Sandboxes are in memory and the grader is instant, so that the
machinery alone is measured, but for tool calls, which are made in bubblewrap. `one` is a single process that does it
all, `fleet` the process that drives and an agent on each host; they take turns.

processor  processor time per trajectory of 40 turns and 32,000 tokens, from a simulated server in another process
cores      trajectories per second where each response takes 5 ms of the processor of the process that asks
sleeping   1,000 trajectories at once on two agents whose responses take 10 to 30 s, against the same latencies with
           nothing in between; and the memory of a host
calls      `true` in a sandbox, made on an agent and in this process
images     distinct images per host of 16 that are full, simulated in virtual time, beside those of a fleet that gives
           any free place to the next trajectory; and the pace of both

`images` can be measured on a busy machine, the others need a quiet one: looks at hosts take processor time each second.
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from swe_aem.rollout.roller import Roller, RunState

BENCHMARKS = Path(__file__).parent
sys.path.insert(0, str(BENCHMARKS.parent))  # the tests know how to start Ray

GOALS = {
    "driver's processor time to one": "at most 0.15",
    "all processor time to one": "at most 1.15",
    "share of ideal": "at least 0.97",
    "tool call on an agent to local": "at most 1.05",
    "trajectories per second to one": "at least 1.6",
    "images per host to tasks over hosts": "at most 1.2",
    "pace to taking any free place": "at least 0.97",
    "host MB": "at most 700",
    "MB per trajectory": "at most 2",
}
TURNS = 40
HOSTS = 2
SLEEP_S = (10.0, 30.0)
"""So long that 1,000 trajectories, which start together and so end together, leave two cores time to sleep then too."""


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(PARTS), help=f"of {','.join(PARTS)}")
    parser.add_argument("--quick", action="store_true", help="few trajectories, for rough figures")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        _child(json.loads(options.child))
        return
    chosen = options.only.split(",")
    if unknown := set(chosen) - set(PARTS):
        parser.error(f"--only is of {', '.join(PARTS)}, not {', '.join(sorted(unknown))}")
    found: dict[str, float] = {}
    began_s = time.monotonic()
    with _hosts() if set(chosen) - {"images"} else _no_hosts() as hosts:
        for part in chosen:
            figures = PARTS[part](hosts, options.quick)
            for name, value in figures.items():
                print(f"{part:10} {name:46} {value:10.3f}   {GOALS.get(name, '')}", flush=True)
            found |= {f"{part}: {name}": value for name, value in figures.items()}
    print(f"{time.monotonic() - began_s:.0f} s in all, load average {os.getloadavg()[0]:.1f}")
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


class Hosts:
    """Ray on this machine: the head's address, and the processes with which the other hosts were started."""

    def __init__(self, address: str, roots: list[int], environment: dict[str, str]) -> None:
        self.address, self.roots, self.environment = address, roots, environment

    def measured(self, **what: Any) -> dict[str, Any]:
        """What a child of this script says of a rollout."""
        given = json.dumps({"address": self.address, "roots": self.roots, **what})
        done = subprocess.run(
            [sys.executable, __file__, "--child", given],
            env=self.environment,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        return json.loads(done.stdout.splitlines()[-1])


@contextmanager
def _hosts() -> Iterator[Hosts]:
    from tests.e2e.ray_cluster import ray_cluster

    path = os.pathsep.join(filter(None, [str(BENCHMARKS), os.environ.get("PYTHONPATH")]))
    os.environ.update({"RAY_worker_niceness": "0", "PYTHONPATH": path})
    with ray_cluster() as cluster:
        roots = [cluster.add().pid for _ in range(HOSTS)]
        os.environ.update(cluster.environment)
        yield Hosts(cluster.address, roots, cluster.environment)


@contextmanager
def _no_hosts() -> Iterator[Hosts]:
    yield Hosts("", [], dict(os.environ))


def processor(hosts: Hosts, quick: bool) -> dict[str, float]:
    """Processor time per trajectory."""
    from simulated_server import served

    trajectories, rounds = (8, 1) if quick else (48, 2)
    spent_s: dict[str, list[dict[str, float]]] = {"one": [], "fleet": []}
    with served("converse") as url:
        for _ in range(rounds):
            for way, found in spent_s.items():
                found.append(
                    hosts.measured(
                        way=way, kind="served", policy=url, trajectories=trajectories, places=16, turns=TURNS
                    )
                )

    def ms(way: str, whose: str) -> float:
        return 1000 * statistics.median(one[whose] for one in spent_s[way]) / trajectories

    one, driver, agents = ms("one", "driver_s"), ms("fleet", "driver_s"), ms("fleet", "agents_s")
    return {
        "one, ms": one,
        "driver, ms": driver,
        "agents, ms": agents,
        "Ray's own processes, ms": ms("fleet", "ray_s"),
        "driver's processor time to one": driver / one,
        "all processor time to one": (driver + agents) / one,
    }


def cores(hosts: Hosts, quick: bool) -> dict[str, float]:
    """Throughput where responses take processor time."""
    trajectories, rounds = (8, 1) if quick else (64, 3)
    per_s: dict[str, list[float]] = {"one": [], "fleet": []}
    what = {"kind": "burning", "policy": "gold", "trajectories": trajectories, "places": 16, "turns": TURNS}
    for _ in range(rounds):
        for way, found in per_s.items():
            found.append(trajectories / hosts.measured(way=way, **what)["wall_s"])
    one, fleet = (statistics.median(found) for found in per_s.values())
    return {"one, per s": one, "fleet, per s": fleet, "trajectories per second to one": fleet / one}


def sleeping(hosts: Hosts, quick: bool) -> dict[str, float]:
    """Share of the ideal with many places, and memory."""
    from simulated_server import LATENCY_S, ideal_s, served
    from simulated_server import TURNS as FEW_TURNS

    trajectories, places, between_s = (60, 40, LATENCY_S) if quick else (2000, 1000, SLEEP_S)
    with served("simulate", between_s) as url:
        taken = hosts.measured(
            way="fleet", kind="served", policy=url, trajectories=trajectories, places=places // HOSTS, turns=FEW_TURNS
        )
    ideal, each = ideal_s(trajectories, places, between_s), places / HOSTS
    return {
        "ideal, s": ideal,
        "taken, s": taken["wall_s"],
        "share of ideal": ideal / taken["wall_s"],
        "host MB": taken["idle_bytes"] / HOSTS / 1e6,
        "MB per trajectory": (taken["most_bytes"] - taken["idle_bytes"]) / HOSTS / each / 1e6,
    }


def calls(hosts: Hosts, quick: bool) -> dict[str, float]:
    """Tool calls here and on an agent."""
    from in_memory import make_record, open_calls, run_state, tool_calls

    from swe_aem.fleet.ray_engine import RayEngine
    from swe_aem.fleet.remote_work import Piece, RemoteWork
    from swe_aem.rollout import RolloutConfig
    from swe_aem.tasks import TaskSet

    count, rounds = (50, 2) if quick else (200, 15)
    config = RolloutConfig.model_validate({"cluster": {"address": hosts.address}})
    ms: dict[str, list[float]] = {"local": [], "agent": []}

    async def take(directory: Path) -> None:
        tasks, engine, record = TaskSet("calls", ()), RayEngine(hosts.address), make_record(0)
        agents = RemoteWork(open_calls, config, tasks, directory, engine, run="calls", part="agent")
        async with agents.open(run_state(config, 1)):
            for _ in range(rounds + 1):
                there_s = await agents.do(Piece(record, payload=count), await agents.place(record))
                ms["agent"].append(1000 * statistics.median(there_s))
                ms["local"].append(1000 * statistics.median(await tool_calls(count)))

    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(take(Path(directory)))
    local, agent = statistics.median(ms["local"][1:]), statistics.median(ms["agent"][1:])
    return {"local, ms": local, "agent, ms": agent, "tool call on an agent to local": agent / local}


def images(hosts: Hosts, quick: bool) -> dict[str, float]:
    """Distinct images per host, and how well places are used."""
    from tests.fleet.spread import FreeForAll, Spread

    groups, size, count, places = (64, 8, 8, 8) if quick else (192, 16, 16, 32)
    with tempfile.TemporaryDirectory() as directory:
        found = Spread(Path(directory) / "fleet", count, groups, size, places).run()
        free = Spread(Path(directory) / "free", count, groups, size, places, roller=FreeForAll).run()
    per_host = [len(had) for had in found.images.values()]
    return {
        "tasks over hosts": groups / count,
        "images per host": statistics.fmean(per_host),
        "most images of a host": max(per_host),
        "images per host to tasks over hosts": found.images_to_ideal,
        "the same where any free place is taken": free.images_to_ideal,
        "share of places that idle": found.idle_share,
        "pace to taking any free place": free.taken_s / found.taken_s,
    }


PARTS = {"processor": processor, "images": images, "calls": calls, "cores": cores, "sleeping": sleeping}


def _child(what: dict[str, Any]) -> None:
    """Roll out, in a process of its own, and print what it took."""
    from in_memory import Here, burning, make_record, open_burning, open_served, served

    from swe_aem.fleet.ray_engine import RayEngine
    from swe_aem.fleet.roller import RemoteRoller
    from swe_aem.rollout import RolloutConfig, RolloutRun
    from swe_aem.store import Store
    from swe_aem.tasks import TaskSet

    places, fleet = what["places"], what["way"] == "fleet"
    concurrency = places if fleet else places * HOSTS
    config = RolloutConfig.model_validate(
        {
            "agent": "native",
            "policy": what["policy"],
            "tokenizer": "bytes",
            "native": {"max_turns": what["turns"], "max_context_tokens": 100_000},
            "scheduling": {"concurrency": concurrency, "starting": 64, "grading": 64},
            "cluster": {"address": what["address"], "min_nodes": HOSTS} if fleet else None,
        }
    )
    components, work = (served, open_served) if what["kind"] == "served" else (burning, open_burning)
    tasks = TaskSet("benchmark", tuple(map(make_record, range(what["trajectories"]))))
    taken = Taken(what["roots"])

    def make(config: RolloutConfig, tasks: TaskSet, directory: Path, run: str) -> "Roller":
        if not fleet:
            return _Watched(Here(config, tasks, directory, run, components), taken)
        engine = RayEngine(what["address"])
        return _Watched(RemoteRoller(config, tasks, directory, engine, run=run, work=work), taken)

    with tempfile.TemporaryDirectory() as directory:
        store = Store(Path(directory))
        with RolloutRun(config, tasks, store, elsewhere=make, brief=True) as rollout:
            asyncio.run(rollout.run())
        ended = list(store.trajectories())
    assert len(ended) == what["trajectories"]
    assert {len(one.responses) for one in ended} == {what["turns"]}
    print(json.dumps(taken.figures()))


class _Watched:
    """A roller whose cost is taken from when it is open until it closes."""

    def __init__(self, roller: "Roller", taken: "Taken") -> None:
        self._roller, self._taken = roller, taken
        self.admit, self.place, self.roll = roller.admit, roller.place, roller.roll

    @asynccontextmanager
    async def open(self, run: "RunState") -> AsyncIterator[None]:
        """What rolling out needs."""
        async with self._roller.open(run), self._taken.watching():
            yield


class Taken:
    """Processor time, wall time and memory of a rollout: of this process and of hosts, by their first processes."""

    def __init__(self, roots: list[int]) -> None:
        self._roots = roots
        self._spent: dict[str, float] = {}
        self._memory: list[int] = []

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Count what the block takes."""
        before = self._now()
        sampling = asyncio.create_task(self._sample())
        yield
        after = self._now()
        sampling.cancel()
        self._spent = {name: after[name] - value for name, value in before.items()}

    def figures(self) -> dict[str, float]:
        """Seconds and bytes by name."""
        return {**self._spent, "idle_bytes": self._memory[0], "most_bytes": max(self._memory)}

    async def _sample(self) -> None:
        while True:
            self._memory.append(sum(_memory_bytes(pid) for root in self._roots for pid in _below(root)))
            await asyncio.sleep(5.0)

    def _now(self) -> dict[str, float]:
        agents_s = ray_s = 0.0
        for root in self._roots:
            for pid in _below(root):
                agent, seconds = _processor_s(pid)
                agents_s += seconds if agent else 0.0
                ray_s += 0.0 if agent else seconds
        return {
            "wall_s": time.perf_counter(),
            "driver_s": time.process_time(),
            "agents_s": agents_s,
            "ray_s": ray_s,
        }


def _below(root: int) -> list[int]:
    """A process and its descendants."""
    from tests.e2e.ray_cluster import process_tree

    return process_tree(root)


def _processor_s(pid: int) -> tuple[bool, float]:
    """Is the process an agent, and how much processor time have its threads taken?"""
    with suppress(OSError):
        stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        agent = Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"ray::")
        return agent, (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")
    return False, 0.0


def _memory_bytes(pid: int) -> int:
    """Its share of the memory: pages that several processes have, as those of Ray's library, count once in all."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return 1024 * int(line.split()[1])
    return 0


if __name__ == "__main__":
    main()
