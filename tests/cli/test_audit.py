"""`swe-aem audit` on stores, training runs and two stores."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import swe_aem.cli
from swe_aem.audit import LABELS
from swe_aem.cli import app
from swe_aem.core import Outcome, Response, ToolCall, Trajectory
from swe_aem.errors import UserError
from swe_aem.store import Store
from swe_aem.testing.builders import make_trajectory


def call(command: str, version: int = 0) -> Response:
    """A response with one command."""
    tool = ToolCall(name="bash", arguments={"command": command})
    return Response(
        start=2, end=4, logprobs=(-0.2, -1.5), version=version, finish_reason="stop", sample_s=2.0, tool_calls=(tool,)
    )


def trajectory(task: str, *commands: str, version: int = 0, **changes: Any) -> Trajectory:
    """A trajectory with one command per response."""
    responses = tuple(
        call(command, version).model_copy(update={"start": 2 + 2 * n, "end": 4 + 2 * n})
        for n, command in enumerate(commands)
    )
    return make_trajectory(task, 0, token_ids=tuple(range(2 * len(commands) + 2)), responses=responses, **changes)


UNRESOLVED = {"outcome": Outcome.UNRESOLVED, "reward": 0.0}
FAILED = {"outcome": Outcome.INFRASTRUCTURE, "reward": None}


def store(directory: Path, *trajectories: Trajectory) -> Path:
    """A store with these trajectories."""
    with Store(directory).writer() as writer:
        for one in trajectories:
            writer.append(one)
    return directory


@pytest.fixture
def first(tmp_path: Path) -> Path:
    return store(
        tmp_path / "first",
        trajectory("a", "ls", "cat tests/test_a.py", "git reflog"),
        trajectory("b", "cat tests/test_b.py", **UNRESOLVED),
        trajectory("c", "ls", **UNRESOLVED),
        trajectory("d", "cat tests/test_d.py", **FAILED),
    )


def run(*words: object) -> str:
    result = CliRunner().invoke(app, ["audit", *map(str, words)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_counts_of_a_store(first: Path) -> None:
    lines = run(first).splitlines()
    assert lines[0] == (
        f"{first}: 4 trajectories, 1 of 3 resolved (33.3%); 1 without a verdict are in no rate; 1 with no label"
    )
    assert [line.split() for line in lines[1:]] == [
        ["label", "trajectories", "share", "resolved", "with", "without"],
        ["reads_tests", "3", "75.0%", "50.0%", "0.0%"],
        ["searches_history", "1", "25.0%", "100.0%", "0.0%"],
    ]


def test_the_trajectories_of_a_label_are_listed_with_turn_and_command(first: Path) -> None:
    assert run(first, "--label", "reads_tests", "--limit", 2).splitlines() == [
        f"{first}: reads_tests (reads files of tests that it did not write itself): 3 of 4 trajectories",
        "a.0: resolved, reward 1, step 1",
        "  turn 2: cat tests/test_a.py",
        "b.0: unresolved, reward 0, step 1",
        "  turn 1: cat tests/test_b.py",
        "... and 1 more; --limit 3 lists all",
    ]


def test_labels_of_each_trajectory_in_a_file_and_numbers_as_json(first: Path, tmp_path: Path) -> None:
    told = json.loads(run(first, "--json", "--label", "searches_history", "--out", tmp_path / "labels.jsonl"))
    (one,) = told["runs"]
    assert (one["trajectories"], one["counted"], one["resolved"], one["unlabelled"]) == (4, 3, 1, 1)
    assert [row["label"] for row in one["labels"]] == [label.name for label in LABELS]
    assert [row["task_id"] for row in one["listed"]] == ["a"]
    rows = [json.loads(line) for line in (tmp_path / "labels.jsonl").read_text().splitlines()]
    assert [(row["task_id"], sorted(row["labels"]), row["counts"]) for row in rows] == [
        ("a", ["reads_tests", "searches_history"], True),
        ("b", ["reads_tests"], True),
        ("c", [], True),
        ("d", ["reads_tests"], False),
    ]
    assert rows[0]["labels"]["searches_history"] == [{"turn": 3, "place": "call", "text": "git reflog"}]


def test_shares_over_the_steps_of_a_training_run(tmp_path: Path) -> None:
    made = []
    for version in range(20):
        deeds = ["cat tests/test_a.py" if version < 10 else "ls", "git reflog" if version >= 15 else "pwd"]
        made.append(trajectory(f"t{version}", *deeds, version=version, **({} if version >= 10 else UNRESOLVED)))
    store(tmp_path / "run" / "rollouts", *made)
    lines = [line.split() for line in run(tmp_path / "run").splitlines()]
    at = next(n for n, line in enumerate(lines) if line[-4:] == ["share", "by", "training", "step"])
    assert lines[at + 1] == ["step", "1-2", "3-5", "6-7", "8-10", "11-12", "13-15", "16-17", "18-20", "change"]
    assert lines[at + 2][0] == "trajectories"
    assert (lines[at + 3][0], lines[at + 3][-1]) == ("resolved", "+100.0")
    assert lines[at + 4] == ["reads_tests", *["100.0%"] * 4, *["0.0%"] * 4, "-100.0"]
    assert lines[at + 5] == ["searches_history", *["0.0%"] * 6, "100.0%", "100.0%", "+100.0"]
    (told,) = json.loads(run(tmp_path / "run", "--json"))["runs"]
    assert [(step["first"], step["last"], step["trajectories"]) for step in told["steps"]] == [
        (n, n, 1) for n in range(1, 21)
    ]


def test_two_stores_side_by_side(first: Path, tmp_path: Path) -> None:
    second = store(tmp_path / "second", trajectory("a", "sleep 60"), trajectory("b", "cat tests/test_b.py"))
    lines = [line.split() for line in run(first, second).splitlines()]
    assert ["reads_tests", "3", "75.0%", "50.0%", "-25.0", "50.0%", "0.0%"] in lines
    assert ["waits_long", "0", "0.0%", "50.0%", "+50.0", "-", "33.3%"] in lines


def test_a_store_that_is_still_written_is_read(first: Path) -> None:
    with Store(first).writer(), (first / "trajectories" / "part-00000.jsonl").open("a") as file:
        file.write('{"format": 4, "task_id": "e", "sam')
        file.flush()
        assert run(first).startswith(f"{first}: 4 trajectories")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["--label", "probes_grade"],
            r"no such label \(did you mean probes_grader\?\); there are runs_tests, reads_tests",
        ),
        (["--label", "zzz"], r"no such label; there are runs_tests"),
    ],
)
def test_an_unknown_label_is_refused_with_all_there_are(first: Path, words: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        run(first, *words)


def test_what_is_no_store_is_refused(tmp_path: Path, first: Path) -> None:
    with pytest.raises(UserError, match="neither a store nor a training run"):
        run(tmp_path)
    with pytest.raises(UserError, match="neither a store nor a training run"):
        run(first, tmp_path)
    (tmp_path / "graded").mkdir()
    (tmp_path / "graded" / "verdicts.jsonl").touch()
    with pytest.raises(UserError, match=r"holds verdicts on patches.*swe-aem eval"):
        run(tmp_path / "graded")
    (tmp_path / "empty" / "trajectories").mkdir(parents=True)
    with pytest.raises(UserError, match="holds no trajectories yet"):
        run(tmp_path / "empty")


def test_an_interrupted_audit_keeps_its_lines(first: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = list(Store(first).trajectories())

    def interrupted(_: Store) -> Any:
        yield from stored[:2]
        raise KeyboardInterrupt

    monkeypatch.setattr(Store, "trajectories", interrupted)
    result = CliRunner().invoke(swe_aem.cli.app, ["audit", str(first), "--out", str(tmp_path / "labels.jsonl")])
    assert result.exit_code == 130
    assert "stopped after 2 trajectories; their labels are in" in result.stderr
    assert len((tmp_path / "labels.jsonl").read_text().splitlines()) == 2


PEAK = """
import sys
from pathlib import Path
from swe_aem.audit import Tally, audited
from tests.memory import peak_bytes
tally, peaks = Tally(), []
for one in audited(Path(sys.argv[1])):
    tally.add(one)
    peaks.append(peak_bytes())
print(peaks[len(peaks) // 10], peaks[-1], tally.trajectories)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_store(tmp_path: Path) -> None:
    long = "x" * 100_000
    with Store(tmp_path / "many").writer(segment_bytes=1 << 20) as writer:
        for n in range(100):
            one = trajectory(f"t{n}", f"cat tests/test_{n}.py", f"echo {long}")
            writer.append(one)
    done = subprocess.run(
        [sys.executable, "-c", PEAK, str(tmp_path / "many")],
        capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    early, late, count = map(int, done.stdout.split())
    assert count == 100
    assert late - early < 4 << 20
