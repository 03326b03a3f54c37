"""Rollouts and verdicts through the public API, in real sandboxes: from a script, beside an event loop, interrupted."""

import asyncio
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import swe_aem as sa
from tests.waiting import until

pytestmark = [pytest.mark.bubblewrap, pytest.mark.usefixtures("require_bubblewrap")]

INTERRUPTED = """
import sys, swe_aem as sa
tasks = sa.load_tasks("tasks/micro", limit=4)
sa.rollout(tasks, agent="gold", group_size=2, out=sys.argv[1], twins=False, scheduling={"concurrency": 1})
"""


def ends(run: Any) -> list[tuple[str, int, str]]:
    """Task, sample and outcome of each trajectory, sorted."""
    return sorted((one.task_id, one.sample, str(one.outcome)) for one in run.trajectories())


def test_a_rollout_and_its_report(tmp_path: Path) -> None:
    tasks = sa.load_tasks("tasks/micro", limit=2)
    run = sa.rollout(tasks, agent="gold", sandbox=sa.Bubblewrap(pids=300), group_size=1, out=tmp_path)
    assert ends(run) == sorted((record.task.id, 0, "resolved") for record in tasks)
    assert {one.reward for one in run.trajectories()} == {1.0}
    report = sa.evaluate(run)
    assert report == sa.evaluate(str(tmp_path))
    assert (report.resolved, report.complete, report.pass_at[0].estimate.value) == (2, True, 1.0)
    assert report.config is not None
    assert (report.config.tasks, report.config.limit, report.config.limits.pids) == ("tasks/micro", 2, 300)


def test_a_store_is_resumed_by_either_way_in(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "swe_aem", "rollout", "--agent", "noop", "--limit", "1", "--out", str(tmp_path)]
    subprocess.run(command, check=True, capture_output=True)
    run = sa.rollout(sa.load_tasks("tasks/micro", limit=2), agent="noop", out=tmp_path)
    assert (run.summary.trajectories, run.summary.outcomes) == (2, {"empty_patch": 2})
    with pytest.raises(sa.errors.UserError, match='holds another run: policy was "noop" and is now "gold"'):
        sa.rollout(sa.load_tasks("tasks/micro", limit=2), agent="gold", out=tmp_path)


async def test_beside_a_running_event_loop(tmp_path: Path) -> None:
    """A notebook's cell runs on the kernel's loop."""
    tasks = [record for record in sa.load_tasks("tasks/micro", limit=3) if record != sa.load_tasks("tasks/micro")[1]]
    run = sa.rollout(tasks, agent="noop", out=tmp_path / "sync")
    again = await sa.rollout_async(tasks, agent="noop", out=tmp_path / "async")
    assert ends(run) == ends(again) == sorted((record.task.id, 0, "empty_patch") for record in tasks)


async def test_a_cancelled_task_leaves_a_store_that_resumes(tmp_path: Path) -> None:
    tasks = sa.load_tasks("tasks/micro", limit=2)
    settings: dict[str, Any] = {"agent": "gold", "out": tmp_path, "twins": False, "scheduling": {"concurrency": 1}}
    running = asyncio.create_task(sa.rollout_async(tasks, **settings))
    await until(lambda: list(tmp_path.glob("trajectories/*")))
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert (await sa.rollout_async(tasks, **settings)).summary.resolved == 2


def test_ctrl_c_closes_the_sandboxes_and_the_same_call_resumes(tmp_path: Path) -> None:
    command = [sys.executable, "-c", INTERRUPTED, str(tmp_path)]
    run = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while b"\n" not in b"".join(map(Path.read_bytes, tmp_path.glob("trajectories/*"))):
        assert run.poll() is None, "it ended before it was interrupted"
        time.sleep(0.02)
    run.send_signal(signal.SIGINT)
    said = run.communicate()[1]
    assert "KeyboardInterrupt" in said, said
    assert f"{tmp_path} keeps what was finished; the same call resumes" in said
    live = subprocess.run([sys.executable, "-m", "swe_aem", "sandbox", "ls", "--json"], capture_output=True, text=True)
    run_id = json.loads((tmp_path / "config.json").read_text())["run"]
    assert run_id not in live.stdout
    assert json.loads((tmp_path / "summary.json").read_text())["trajectories"] < 8
    subprocess.run(command, check=True, capture_output=True)
    assert json.loads((tmp_path / "summary.json").read_text())["resolved"] == 8


def test_verdicts_on_patches(tmp_path: Path) -> None:
    task = sa.load_tasks("tasks/micro")[0]
    verdict = sa.grade(task, task.key.gold_patch)
    assert verdict.resolved
    assert set(verdict.fail_to_pass) == set(task.key.fail_to_pass)
    wrong = sa.grade(task, "diff --git a/no b/no\n--- a/no\n+++ b/no\n@@ -1 +1 @@\n-a\n+b\n")
    assert (wrong.resolved, wrong.patch_applied) == (False, False)


def test_a_verdict_beside_a_running_event_loop() -> None:
    task = sa.load_tasks("tasks/micro")[0]

    async def both() -> tuple[sa.Verdict, sa.Verdict]:
        return sa.grade(task, ""), await sa.grade_async(task, "", sandbox=sa.Bubblewrap())

    assert [one.resolved for one in asyncio.run(both())] == [False, False]
