"""`swe-aem grade` as a person calls it: killed, repeated, compared, and read again from its logs."""

import json
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from swe_aem.store import read_graded
from swe_aem.tasks import load_tasks

REPOSITORY = Path(__file__).parents[2]


def swe_aem(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "swe_aem", *map(str, words)]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=3000, check=False)


def predictions(path: Path, count: int, tasks: int) -> dict[str, bool]:
    """Write so many predictions: gold patches, patches that do something else, and empty ones. Returns what each is
    worth, by `task.sample`."""
    records = load_tasks("micro", limit=tasks).records
    rows, worth = [], {}
    for number in range(count):
        record, sample = records[number % tasks], number // tasks
        gold = record.key.gold_patch
        kind = (number + sample) % 3
        patch = (gold, "", re.sub(r"\n\+( +)", r"\n+\1raise ValueError  # ", gold, count=1))[kind]
        rows.append({"instance_id": record.task.id, "model_patch": patch, "model_name_or_path": "variants"})
        worth[f"{record.task.id}.{sample}"] = patch == gold
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return worth


def lines(out: Path) -> int:
    path = out / "verdicts.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


@pytest.mark.slow
@pytest.mark.bubblewrap
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("count", "tasks", "kills"), [(9, 3, 1), pytest.param(200, 40, 6, marks=pytest.mark.nightly)])
def test_killed_and_resumed(require_bubblewrap: None, tmp_path: Path, count: int, tasks: int, kills: int) -> None:
    worth = predictions(tmp_path / "preds.jsonl", count, tasks)
    options = ["grade", "--tasks", "micro", "--limit", tasks, "--predictions", tmp_path / "preds.jsonl"]
    out, dice, known = tmp_path / "out", random.Random(3), 0
    for _ in range(kills):
        command = [sys.executable, "-m", "swe_aem", *map(str, options), "--out", str(out)]
        run = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while lines(out) <= known:
            assert run.poll() is None, "it ended before it was killed"
            time.sleep(0.02)
        time.sleep(dice.uniform(0, 0.5))
        run.send_signal(signal.SIGKILL)
        assert run.wait() == -signal.SIGKILL
        assert len(read_graded(out)) >= known, "a verdict was lost"
        known = len(read_graded(out))
    assert known < count, "the kills came too late to prove anything"
    done = swe_aem(*options, "--out", out)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{known} of {count} have a verdict already" in done.stderr
    assert {str(row.key): row.resolved for row in read_graded(out)} == worth
    assert all(row.official_resolved in (None, row.resolved) for row in read_graded(out))
    said = swe_aem("eval", out, out).stdout
    assert "the verdict differs on 0" in said
    assert "difference: +0.0 points" in said
    again = swe_aem("grade", "--predictions", out, "--from-logs", "--limit", tasks, "--out", tmp_path / "again")
    assert f"{count} verdicts in {tmp_path / 'again'}: 0 changed" in again.stdout, again.stdout + again.stderr
