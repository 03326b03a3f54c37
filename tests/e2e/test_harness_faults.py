"""A harness's process, the gateway's session, the sandbox or a client in it is killed in the middle of conversations of
OpenHands or Codex; and the whole rollout, with the gateway in it. Every trajectory ends as it should, the run goes on,
and nothing is left."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from swe_aem.core import Completion, Outcome, Policy, SamplingParams, TaskRecord
from swe_aem.core.settings import check
from swe_aem.harness.agent import HarnessAgent
from swe_aem.policy import scripted
from swe_aem.rollout import (
    RolloutComponents,
    RolloutConfig,
    RolloutRun,
    chosen_tasks,
    open_components,
    script_tools,
    turn_renderer,
)
from swe_aem.sandbox.roots import state_dir
from swe_aem.store import Store
from tests.conftest import require_harness
from tests.e2e.conftest import REPOSITORY

pytestmark = [pytest.mark.slow, pytest.mark.bubblewrap]

TASKS = 4


class Waiting:
    """Plays a policy, but waits before its second response until it is told to go on."""

    def __init__(self, policy: Policy, waits: list[asyncio.Event], go_on: asyncio.Event) -> None:
        self.name = policy.name
        self._policy, self._waits, self._go_on = policy, waits, go_on
        self._asked = 0

    async def sample(self, prompt_ids: Sequence[int], params: SamplingParams, *, trajectory_id: str) -> Completion:
        self._asked += 1
        if self._asked == 2:
            self._waits.append(self._go_on)
            await self._go_on.wait()
        return await self._policy.sample(prompt_ids, params, trajectory_id=trajectory_id)

    async def close(self) -> None:
        await self._policy.close()


async def kill_worker(agent: HarnessAgent) -> int:
    """Kill the process of all conversations; how many there were."""
    (worker,) = agent.pool.workers
    os.kill(worker.pid, signal.SIGKILL)
    return len(worker.conversations)


async def close_session(agent: HarnessAgent) -> int:
    """Close the gateway's session of one conversation."""
    session = next(iter(agent.gateway.sessions.values()))
    await session.close()
    return 1


async def kill_sandbox(agent: HarnessAgent) -> int:
    """Kill the sandbox that one agent acts in."""
    entries = [json.loads(path.read_text()) for path in state_dir().glob("*/entry.json")]
    mine = [
        one for one in entries if one["labels"].get("role") == "agent" and one["lease"]["owner"]["pid"] == os.getpid()
    ]
    os.killpg(mine[0]["pid"], signal.SIGKILL)
    return 1


async def kill_client(agent: HarnessAgent) -> int:
    """Kill Codex in one sandbox, in the middle of its conversation."""
    mine = [pid for pid in programs(b"bin/codex") if os.getpid() in ancestors(pid)]
    os.kill(mine[0], signal.SIGKILL)
    return 1


@pytest.mark.parametrize(
    ("agent", "fault"),
    [
        ("openhands", kill_worker),
        *(pytest.param("openhands", one, marks=pytest.mark.nightly) for one in (close_session, kill_sandbox)),
        pytest.param("codex", kill_client, marks=pytest.mark.nightly),
    ],
)
async def test_an_infrastructure_failure_costs_an_attempt_and_no_trajectory(
    agent: str, fault: Callable[[HarnessAgent], Any], require_bubblewrap: None, tmp_path: Path
) -> None:
    require_harness(agent)
    config = check(
        RolloutConfig,
        {
            "agent": agent,
            "policy": "gold",
            "limit": TASKS,
            "twins": False,
            "scheduling": {"concurrency": TASKS, "backoff_s": 0.1},
        },
    )
    renderer, tools = turn_renderer(config), script_tools(config)
    waits: list[asyncio.Event] = []
    go_on = asyncio.Event()
    agents: list[HarnessAgent] = []

    def policies(record: TaskRecord, sample: int) -> Policy:
        return Waiting(scripted.gold(record, renderer, tools), waits, go_on)

    @asynccontextmanager
    async def components(config: Any, tasks: Any) -> AsyncIterator[RolloutComponents]:
        async with open_components(config, tasks) as opened:
            assert isinstance(opened.agent, HarnessAgent)
            agents.append(opened.agent)
            yield replace(opened, policies=policies)

    async def strike() -> int:
        while len(waits) < TASKS:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        failed = await fault(agents[0])
        await asyncio.sleep(0.5)
        go_on.set()
        return failed

    striking = asyncio.create_task(strike())
    store = Store(tmp_path / "out")
    with RolloutRun(config, chosen_tasks(config), store, open_components=components) as rollout:
        finished = await asyncio.wait_for(rollout.run(), 200)
    failed = await striking
    assert finished.summary.outcomes == {Outcome.RESOLVED: TASKS}
    assert finished.summary.retries == failed
    attempts = [trajectory.attempt for trajectory in store.trajectories()]
    assert sorted(attempts) == [0] * (TASKS - failed) + [1] * failed
    assert agents[0].gateway.sessions == {}
    assert not any(Path(f"/proc/{worker.pid}").exists() for worker in agents[0].pool.workers)


SIGNAL = """for process in /proc/[0-9]*; do
    case "$(readlink "$process/exe")" in */bin/codex) kill -{signal} "${{process#/proc/}}" ;; esac
done"""


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("signal", "outcome"),
    [("KILL", Outcome.SANDBOX_KILLED), ("STOP", Outcome.TIME_LIMIT)],
    ids=["codex-KILL", "codex-STOP"],
)
async def test_a_policy_that_ends_its_agent_does_not_escape(
    signal: str, outcome: Outcome, require_bubblewrap: None, tmp_path: Path
) -> None:
    require_harness("codex")
    settings = {"agent": "codex", "policy": "gold", "limit": 1, "time_limit_s": 60, "scheduling": {"backoff_s": 0.1}}
    config = check(RolloutConfig, settings)
    renderer, tools = turn_renderer(config), script_tools(config)
    assert tools is not None
    assert renderer is not None
    end = scripted.call("I end it.", tools.shell, tools.run(SIGNAL.format(signal=signal)))

    @asynccontextmanager
    async def components(config: Any, tasks: Any) -> AsyncIterator[RolloutComponents]:
        async with open_components(config, tasks) as opened:
            yield replace(opened, policies=lambda record, sample: scripted.scripted("ending", [end], renderer, tools))

    store = Store(tmp_path / "out")
    with RolloutRun(config, chosen_tasks(config), store, open_components=components) as rollout:
        await rollout.run()
    (trajectory,) = store.trajectories()
    assert trajectory.outcome is outcome
    assert trajectory.token_exact
    assert len(trajectory.responses) == 1
    if outcome is Outcome.SANDBOX_KILLED:
        assert (trajectory.reward, trajectory.attempt) == (0, 10)
        assert "exit code 137" in (trajectory.error or "")


@pytest.mark.parametrize("agent", ["openhands", pytest.param("codex", marks=pytest.mark.nightly)])
def test_kill_9_of_the_rollout_ends_its_processes_and_the_rerun_finishes(
    agent: str, require_bubblewrap: None, tmp_path: Path
) -> None:
    require_harness(agent)
    out = tmp_path / "out"
    options = [
        "--agent",
        agent,
        "--policy",
        "gold",
        "--limit",
        "5",
        "--concurrency",
        "2",
        "--out",
        str(out),
        "--no-twins",
    ]
    command = [sys.executable, "-m", "swe_aem", "rollout", *options]
    run = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    clients: list[int] = []
    while not any(part.read_bytes() for part in out.glob("trajectories/*.jsonl")) or bool(clients) != (
        agent == "codex"
    ):
        assert run.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
        clients = [pid for pid in programs(b"bin/codex") if run.pid in ancestors(pid)]
    workers = [*children(run.pid), *clients]
    assert workers
    run.kill()
    run.wait()
    deadline = time.monotonic() + 15
    while any(Path(f"/proc/{pid}").exists() for pid in workers):
        assert time.monotonic() < deadline, "a process outlived its rollout"
        time.sleep(0.05)
    assert len(Store(out).completed()) < 5
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads((out / "summary.json").read_text())["resolved"] == 5


def children(pid: int) -> list[int]:
    """Processes of harnesses that a process has started."""
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parent = int((directory / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == pid and b"harness/inside/main.py" in (directory / "cmdline").read_bytes():
                found.append(int(directory.name))
    return found


def programs(name: bytes) -> list[int]:
    """Processes that run a program whose path ends so."""
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (directory / "cmdline").read_bytes().partition(b"\0")[0].endswith(name):
                found.append(int(directory.name))
    return found


def ancestors(pid: int) -> list[int]:
    """The process that started a process, the one that started that, and so on."""
    with contextlib.suppress(OSError):
        parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        return [parent, *(ancestors(parent) if parent > 1 else [])]
    return []
