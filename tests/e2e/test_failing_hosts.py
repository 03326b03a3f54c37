"""Hosts at the end of their strength: starved processors, an engine that stops, a disk that is full."""

import asyncio
import difflib
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from swe_aem.core import Deadline, Outcome, TaskRecord, Verdict
from swe_aem.grading import Grader
from swe_aem.grading.parser import SwebenchParser
from swe_aem.rollout import RolloutConfig, grade_attempt_s, sandbox_spec
from swe_aem.sandbox import open_backend
from swe_aem.store import Store
from swe_aem.tasks import TaskSet, load_tasks
from tests.e2e.conftest import REPOSITORY
from tests.e2e.hosts import busy, filled, own_engine, small_disk

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

Harms = list[Callable[[], None]]

BUSY = 40
HANG_LIMIT_S = 3.0
SPIN = "import os\nfor _ in range(63):\n    if os.fork() == 0:\n        break\nwhile True:\n    pass\n"
SLEEP = "import time\ntime.sleep(10_000)\n"
SYNTAX_ERROR = "def (:\n"


def prepended(record: TaskRecord, workspace: Path, lines: str) -> str:
    """A patch that puts lines before the file that the gold patch changes."""
    name = next(line[6:] for line in record.key.gold_patch.split("\n") if line.startswith("+++ b/"))
    before = (workspace / name).read_text()
    diff = difflib.unified_diff(
        before.splitlines(keepends=True), (lines + before).splitlines(keepends=True), f"a/{name}", f"b/{name}"
    )
    return f"diff --git a/{name} b/{name}\n" + "".join(diff)


async def grade(kind: str, tasks: TaskSet, patches: Mapping[str, tuple[str, float]]) -> dict[str, Verdict]:
    """Verdicts on patches of the one task, each with a limit in seconds for its tests."""
    (record,) = tasks
    workspace = tasks.workspace(record.task.id)
    assert workspace is not None
    config, backend = RolloutConfig(), open_backend(kind)
    async with SwebenchParser() as parser, Grader(backend, parser, twins=False) as grader:

        async def one(patch: str, limit_s: float) -> Verdict:
            timed = record.model_copy(update={"key": record.key.model_copy(update={"timeout_s": limit_s})})
            spec = sandbox_spec(config, timed, 0, run="test", role="grader", workspace=workspace)
            async with grader.slot(timed, spec) as slot:
                return await slot.grade(patch, Deadline.after(grade_attempt_s(config, timed)))

        verdicts = await asyncio.gather(*(one(*patch) for patch in patches.values()))
    return dict(zip(patches, verdicts, strict=True))


@pytest.mark.parametrize("processes", [6, pytest.param(BUSY, marks=pytest.mark.nightly)])
def test_starved_tests_keep_their_verdicts_and_hanging_ones_stay_hanging(kind: str, processes: int) -> None:
    tasks = load_tasks("tasks/nano", limit=1)
    (record,) = tasks
    workspace = tasks.workspace(record.task.id)
    assert workspace is not None
    limit_s = record.key.timeout_s
    patches = {
        "gold": (record.key.gold_patch, limit_s),
        "syntax error": (prepended(record, workspace, SYNTAX_ERROR), limit_s),
        "64 spinning processes": (prepended(record, workspace, SPIN), HANG_LIMIT_S),
        "an endless sleep": (prepended(record, workspace, SLEEP), HANG_LIMIT_S),
    }
    with busy(processes):
        verdicts = asyncio.run(grade(kind, tasks, patches))
    seen = {name: (verdict.resolved, verdict.timed_out) for name, verdict in verdicts.items()}
    assert seen == {
        "gold": (True, False),
        "syntax error": (False, False),
        "64 spinning processes": (False, True),
        "an endless sleep": (False, True),
    }


@pytest.mark.nightly
@pytest.mark.parametrize("processes", [0, BUSY])
@pytest.mark.parametrize("name", ["micro", "nano"])
def test_gold_resolves_and_noop_does_not_on_an_idle_host_and_on_a_busy_one(
    rollout: Callable[..., dict[str, Any]], kind: str, name: str, processes: int
) -> None:
    tasks = 8 if processes else len(load_tasks(f"tasks/{name}"))
    scope = ["--tasks", f"tasks/{name}", "--limit", str(tasks), "--sandbox", kind]
    options = [*scope, "--concurrency", "16", "--grading", "8"]
    with busy(processes):
        gold = rollout("gold", *options, "--agent", "gold")
        noop = rollout("noop", *options, "--agent", "noop")
    assert gold["outcomes"] == {"resolved": tasks}
    assert noop["outcomes"] == {"empty_patch": tasks}


def stored(out: Path) -> int:
    """Trajectories that a store has by now."""
    return sum(part.read_bytes().count(b"\n") for part in out.glob("trajectories/*.jsonl"))


def roll_out(out: Path, log: Path, kind: str, tasks: int, environment: Mapping[str, str], harms: Harms) -> int:
    """Roll out the gold patches of bundled tasks and harm the host each time that a trajectory was stored; what a harm
    ends is run again. Asserts that each trajectory is stored once, and that none was charged for the host; returns how
    often something failed: attempts that the last run repeated, and runs that ended early."""
    options = ["--limit", str(tasks), "--agent", "gold", "--sandbox", kind, "--max-attempts", "30", "--no-twins"]
    patience = ["--set", "scheduling.backoff_s=0.5", "--set", "scheduling.max_consecutive_failures=1000"]
    command = [sys.executable, "-m", "swe_aem", "rollout", "--out", str(out), *options, *patience]
    runs, most = 0, len(harms) + 1
    code = -1
    while code != 0:
        assert runs < most, log.read_text()[-3000:]
        runs += 1
        with log.open("ab") as file:
            run = subprocess.Popen(command, cwd=REPOSITORY, env=environment, stdout=file, stderr=file)
        try:
            met = 0
            while run.poll() is None:
                if harms and stored(out) > met:
                    harms.pop()()
                    met = stored(out)
                time.sleep(0.05)
        finally:
            run.kill()
        code = run.wait()
    assert harms == [], "the run was done too early to prove anything"
    trajectories = list(Store(out).trajectories())
    assert Counter(one.outcome for one in trajectories) == {Outcome.RESOLVED: tasks}
    assert len({one.id for one in trajectories}) == tasks
    return runs - 1 + int(json.loads((out / "summary.json").read_text())["retries"])


@pytest.mark.docker
@pytest.mark.usefixtures("require_docker")
@pytest.mark.parametrize("tasks", [12, pytest.param(64, marks=pytest.mark.nightly)])
def test_an_engine_that_is_stopped_and_killed_costs_attempts_and_no_trajectory(tmp_path: Path, tasks: int) -> None:
    with own_engine() as engine:

        def lose(how: Callable[[], None]) -> None:
            how()
            time.sleep(1.0)  # attempts begin while there is no engine
            engine.start()

        harms = [partial(lose, (engine.stop, engine.kill)[number % 2]) for number in range(tasks // 6)]
        assert roll_out(tmp_path / "out", tmp_path / "log", "docker", tasks, engine.environment, harms) > 0
        prune = [sys.executable, "-m", "swe_aem", "sandbox", "prune"]
        subprocess.run(prune, cwd=REPOSITORY, env=engine.environment, check=True, capture_output=True)
        assert engine.docker("ps", "-qa").stdout == b""


@pytest.mark.bubblewrap
@pytest.mark.usefixtures("require_bubblewrap")
@pytest.mark.parametrize("tasks", [12, pytest.param(64, marks=pytest.mark.nightly)])
def test_a_full_disk_of_the_host_costs_attempts_and_no_trajectory(tmp_path: Path, tasks: int) -> None:
    with small_disk(tmp_path, 64 << 20) as disk:
        scratch = disk / "tmp"
        scratch.mkdir()

        def fill() -> None:
            with filled(disk):
                time.sleep(2.0)  # attempts begin and end while nothing can be written

        environment = {**os.environ, "TMPDIR": str(scratch)}
        harms = [fill] * (tasks // 6)
        assert roll_out(disk / "out", tmp_path / "log", "bubblewrap", tasks, environment, harms) > 0
        assert list(scratch.iterdir()) == []
