"""Sandboxes that are really lost: through a policy, or through a killer from outside; and tasks that are broken."""

import asyncio
import json
import os
import random
import signal
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from swe_aem.agent import TurnRenderer
from swe_aem.core import ExecResult, Limits, Outcome, Policy, SandboxBackend, SandboxSpec, TaskRecord, Trajectory
from swe_aem.core.settings import check
from swe_aem.policy.scripted import call, gold, scripted
from swe_aem.policy.tokenizer import load_tokenizer
from swe_aem.rollout import RolloutComponents, RolloutConfig, RolloutRun, chosen_tasks, open_components
from swe_aem.rollout.recording import RecordingSandbox
from swe_aem.sandbox import open_backend
from swe_aem.sandbox.roots import state_dir
from swe_aem.store import Store, Summary
from swe_aem.tasks import TaskSet

pytestmark = pytest.mark.slow

DEADLY = "the deadly command"


def kill(kind: str, id: str) -> bool:
    """End a sandbox from outside, as an operator or a crash would. Did it run?"""
    if kind == "docker":
        return subprocess.run(["docker", "kill", id], capture_output=True, check=False).returncode == 0
    with suppress(FileNotFoundError, ProcessLookupError, ValueError):
        pid = json.loads((state_dir() / id / "entry.json").read_text())["pid"]
        if pid is not None:
            os.killpg(pid, signal.SIGKILL)
            return True
    return False


class Mortal(RecordingSandbox):
    """A sandbox that dies of one command, as if its kernel had a fault that this command finds."""

    kind = ""

    async def run(self, command: str, **options: Any) -> ExecResult:
        if DEADLY in command:
            await asyncio.to_thread(kill, self.kind, self.id)
        return await super().run(command, **options)


class MortalBackend:
    """A backend of `Mortal` sandboxes."""

    def __init__(self, backend: SandboxBackend) -> None:
        self._backend = backend

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    @asynccontextmanager
    async def open(self, spec: SandboxSpec) -> AsyncIterator[Mortal]:
        async with self._backend.open(spec) as sandbox:
            mortal = Mortal(sandbox)
            mortal.kind = self._backend.name
            yield mortal


def config_of(kind: str, limit: int, **scheduling: Any) -> RolloutConfig:
    settings = {"limit": limit, "sandbox": kind, "twins": False, "scheduling": {"backoff_s": 0.1, **scheduling}}
    return check(RolloutConfig, settings)


def roll_out(
    config: RolloutConfig,
    tasks: TaskSet,
    out: Path,
    backend: Any,
    policies: Callable[[TaskRecord, int], Policy] | None = None,
    beside: Callable[[], AbstractAsyncContextManager[None]] | None = None,
) -> tuple[list[Trajectory], Summary]:
    """The trajectories of a whole rollout, and its summary."""

    @asynccontextmanager
    async def components(config: RolloutConfig, tasks: TaskSet) -> AsyncIterator[RolloutComponents]:
        async with open_components(config, tasks) as opened:
            yield opened if policies is None else replace(opened, policies=policies)

    async def run() -> Summary:
        with RolloutRun(config, tasks, Store(out), backend=backend, open_components=components) as rollout:
            if beside is None:
                return (await rollout.run()).summary
            async with beside():
                return (await rollout.run()).summary

    summary = asyncio.run(run())
    return list(Store(out).trajectories()), summary


def test_a_policy_that_kills_its_sandbox_is_trained_on_it_wherever_it_comes(kind: str, tmp_path: Path) -> None:
    config = config_of(kind, 2, concurrency=1)
    tasks = chosen_tasks(config)
    first, last = (record.task.id for record in tasks)
    renderer = TurnRenderer(load_tokenizer(None), config.renderer)

    def policies(record: TaskRecord, sample: int) -> Policy:
        if record.task.id != last:
            return gold(record, renderer)
        deeds = [call("Look.", "bash", {"command": "ls"}), call("Now.", "bash", {"command": f"true # {DEADLY}"})]
        return scripted("killer", deeds, renderer)

    stored, summary = roll_out(config, tasks, tmp_path / "out", MortalBackend(open_backend(kind)), policies)
    outcomes = {one.task_id: one.outcome for one in stored}
    assert outcomes == {first: Outcome.RESOLVED, last: Outcome.SANDBOX_KILLED}
    (killed,) = (one for one in stored if one.task_id == last)
    assert (killed.reward, killed.attempt, len(killed.responses)) == (0.0, 0, 2)
    assert killed.responses[-1].end == len(killed.token_ids)
    assert "the same calls kill a fresh sandbox too" in (killed.error or "")
    assert (summary.infrastructure_failures, summary.retries) == (0, 0)


def test_a_task_whose_test_command_does_not_exist_is_broken_and_a_syntax_error_is_not(
    kind: str, tmp_path: Path
) -> None:
    config = config_of(kind, 2, concurrency=1, grading=1).model_copy(update={"group_size": 2})
    whole = chosen_tasks(config)
    broken, sound = whole.records
    script = broken.key.eval_script.replace("-m pytest", "-m pytset")
    assert script != broken.key.eval_script
    mistyped = broken.model_copy(update={"key": broken.key.model_copy(update={"eval_script": script})})
    renderer = TurnRenderer(load_tokenizer(None), config.renderer)
    spoil = 'for file in $(git ls-files "*.py"); do echo "def (" >>"$file"; done'

    def policies(record: TaskRecord, sample: int) -> Policy:
        if record.task.id == sound.task.id and sample == 0:
            return scripted("spoiler", [call("Now.", "bash", {"command": spoil})], renderer)
        return gold(record, renderer)

    tasks = replace(whole, records=(mistyped, sound))
    stored, summary = roll_out(config, tasks, tmp_path / "out", open_backend(kind), policies)
    outcomes = {(one.task_id, one.sample): one.outcome for one in stored}
    assert outcomes == {
        (mistyped.task.id, 0): Outcome.BROKEN_TASK,
        (mistyped.task.id, 1): Outcome.BROKEN_TASK,
        (sound.task.id, 0): Outcome.UNRESOLVED,
        (sound.task.id, 1): Outcome.RESOLVED,
    }
    assert list(summary.broken_tasks) == [mistyped.task.id]
    assert "No module named pytset" in summary.broken_tasks[mistyped.task.id]


def test_a_task_whose_tests_want_more_memory_than_a_sandbox_has_is_broken_under_this_limit(
    kind: str, tmp_path: Path
) -> None:
    config = config_of(kind, 1).model_copy(update={"limits": Limits(memory_bytes=512 << 20, disk_bytes=256 << 20)})
    whole = chosen_tasks(config)
    (record,) = whole.records
    script = record.key.eval_script.replace("python -m pytest", "python -c 'bytes(range(256)) * (8 << 20)'; false")
    assert script != record.key.eval_script
    hungry = record.model_copy(update={"key": record.key.model_copy(update={"eval_script": script})})
    renderer = TurnRenderer(load_tokenizer(None), config.renderer)
    tasks = replace(whole, records=(hungry,))
    ((one,), summary) = roll_out(
        config, tasks, tmp_path / "out", open_backend(kind), lambda record, sample: gold(record, renderer)
    )
    assert (one.outcome, one.reward) == (Outcome.BROKEN_TASK, None)
    assert "raise limits.memory_bytes (--memory)" in summary.broken_tasks[record.task.id]


class Killer:
    """Takes half of all sandboxes of a store's run, each at a random moment of its first seconds, and the first of
    agents as soon as they run."""

    def __init__(self, kind: str, backend: SandboxBackend, store: Path, longest_s: float) -> None:
        self._kind, self._backend, self._store, self._longest_s = kind, backend, store, longest_s
        self._dice = random.Random(20261128)
        self._met: set[str] = set()
        self.killed = 0

    @asynccontextmanager
    async def beside(self) -> AsyncIterator[None]:
        hunting = asyncio.create_task(self._hunt())
        try:
            yield
        finally:
            hunting.cancel()
            await asyncio.wait({hunting})

    async def _hunt(self) -> None:
        run = json.loads((self._store / "config.json").read_text())["run"]
        async with asyncio.TaskGroup() as strikes:
            while True:
                for info in await self._backend.ls():
                    if info.id not in self._met and info.labels.get("run") == run:
                        self._met.add(info.id)
                        if self.killed < 3 and info.labels["role"] == "agent":
                            strikes.create_task(self._strike(info.id, 0.0, tries=100))
                        elif self._dice.random() < 0.5:
                            strikes.create_task(self._strike(info.id, self._dice.random() * self._longest_s))
                await asyncio.sleep(0.02)

    async def _strike(self, id: str, delay_s: float, *, tries: int = 1) -> None:
        await asyncio.sleep(delay_s)
        for _ in range(tries):
            if await asyncio.to_thread(kill, self._kind, id):
                self.killed += 1
                return
            await asyncio.sleep(0.02)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("tasks", [4, pytest.param(64, marks=pytest.mark.nightly)])
def test_a_killer_that_takes_half_of_all_sandboxes_costs_attempts_and_no_trajectory(
    kind: str, tmp_path: Path, tasks: int
) -> None:
    patient = {"max_attempts": 300, "max_consecutive_failures": 10_000, "backoff_s": 0.0}
    config = config_of(kind, tasks, concurrency=4, grading=2, **patient)
    backend = open_backend(kind)
    killer = Killer(kind, backend, tmp_path / "out", longest_s=2.0 if kind == "docker" else 1.0)
    stored, summary = roll_out(config, chosen_tasks(config), tmp_path / "out", backend, beside=killer.beside)
    assert Counter(one.outcome for one in stored) == {Outcome.RESOLVED: tasks}
    assert len({one.id for one in stored}) == tasks
    assert killer.killed > 0
    assert summary.retries > 0, "the killer came too late to prove anything"
