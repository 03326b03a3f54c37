"""`swe-aem tasks`."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from swe_aem.cli.tasks import app
from swe_aem.errors import UserError
from swe_aem.tasks import LockEntry, load_tasks

FUNCTION = '''"""One function."""


def clamp(value: int, low: int, high: int) -> int:
    """The nearest value within bounds."""
    if value < low:
        return low
    if value > high:
        return high
    return value
'''
TESTS = """from bounds import clamp


def test_inside():
    assert clamp(5, 0, 9) == 5


def test_below():
    assert clamp(-5, 0, 9) == 0


def test_above():
    assert clamp(15, 0, 9) == 9
"""


def _run(*arguments: str) -> Result:
    result = CliRunner().invoke(app, arguments)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_list_is_a_table() -> None:
    lines = _run("list", "--split", "heldout", "--limit", "3").stdout.splitlines()
    assert lines[0].split() == ["id", "repo", "split", "kind"]
    assert len(lines) == 4
    assert lines[1].split()[2] == "heldout"


def test_list_as_json() -> None:
    rows = [json.loads(line) for line in _run("list", "--json", "--limit", "2").stdout.splitlines()]
    assert [row["id"] for row in rows] == [record.task.id for record in load_tasks("micro", limit=2)]
    assert set(rows[0]) == {"id", "repo", "split", "kind"}


@pytest.fixture
def odd_set(tmp_path: Path) -> str:
    """Two tasks and a row that cannot be one."""
    row = {
        **dict.fromkeys(("repo", "patch", "test_patch", "problem_statement", "image", "eval_script", "version"), "x"),
        **{"base_commit": "a" * 40, "eval_type": "fail_only", "log_parser": "parse_log_jest"},
        **{"FAIL_TO_PASS": ["a"], "PASS_TO_PASS": []},
    }
    rows = [{**row, "instance_id": id} for id in ("one", "odd", "two")]
    rows[1]["FAIL_TO_PASS"] = []
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_rows_that_cannot_be_tasks_are_counted_and_listed(odd_set: str) -> None:
    listed = _run("list", "--tasks", odd_set)
    assert [line.split()[0] for line in listed.stdout.splitlines()] == ["id", "one", "two"]
    (note,) = listed.stderr.splitlines()
    assert "1 of 3 rows cannot be tasks and are left out: odd: field 'FAIL_TO_PASS' is empty" in note
    lines = [json.loads(line) for line in _run("list", "--tasks", odd_set, "--json").stdout.splitlines()]
    assert [line.get("id") for line in lines] == ["one", "two", None]
    assert lines[2]["left_out"] == "odd"
    assert lines[2]["where"] == f"{odd_set}, line 2"
    assert lines[2]["reason"].startswith("field 'FAIL_TO_PASS' is empty")


@pytest.mark.parametrize("command", [("show", "odd"), ("check", "--id", "odd")])
def test_a_row_that_cannot_be_a_task_is_an_error_by_id(odd_set: str, command: tuple[str, ...]) -> None:
    with pytest.raises(UserError, match=r"odd \(.*line 2\).*FAIL_TO_PASS"):
        _run(*command, "--tasks", odd_set)


def test_a_choice_of_tasks_says_which_rows_are_left_out(odd_set: str, tmp_path: Path) -> None:
    chosen = _run("select", "--tasks", odd_set, "--out", str(tmp_path / "ids.txt"))
    assert "1 of 3 rows cannot be tasks" in chosen.stderr
    assert (tmp_path / "ids.txt").read_text().splitlines()[1:] == ["one", "two"]


def test_check_says_which_tests_are_weakest() -> None:
    from swe_aem.cli.strength_lines import strength_lines

    def entry(task_id: str, mutants: int | None, passed: int) -> LockEntry:
        return LockEntry(
            task_id=task_id, record="r", passed=True, network="none", backend="bubblewrap", image="i", gold_runs=1,
            gold_resolved=1, noop_runs=1, noop_resolved=0, boot_s=0, test_s=1, max_test_s=1, peak_memory_bytes=None,
            checked_on="2026-01-01", mutants=mutants, mutants_passed=passed, mutants_equivalent=2,
            survivors=("m.py:1:2: constant: `1` -> `2`",) * passed,
        )  # fmt: skip

    assert list(strength_lines([entry("a", None, 0)])) == []
    lines = list(strength_lines([entry("a", 10, 1), entry("b", 4, 2), entry("c", 5, 0), entry("d", 0, 0)]))
    assert lines == [
        "strength: tests let 3 of 19 mutants pass (15.8%); 8 more are equivalent; 1 of 4 tasks have none",
        "mutants that pass         tasks",
        "none                  1 (33.3%)",
        "up to 20%             1 (33.3%)",
        "more than 20% (weak)  1 (33.3%)",
        "pass  mutants  equivalent  weakest tasks",
        " 50%   2 of 4           2  b",
        " 10%  1 of 10           2  a",
        *["b: m.py:1:2: constant: `1` -> `2`"] * 2,
        "a: m.py:1:2: constant: `1` -> `2`",
    ]


def test_show_keeps_the_answer_back() -> None:
    record = load_tasks("micro", limit=1).records[0]
    shown = _run("show", record.task.id).stdout
    assert record.task.problem_statement.rstrip() in shown
    assert "diff --git" not in shown
    assert record.key.fail_to_pass[0] not in shown


def test_show_answer() -> None:
    record = load_tasks("micro", limit=1).records[0]
    shown = _run("show", record.task.id, "--answer").stdout
    assert record.key.gold_patch.rstrip() in shown
    assert record.key.fail_to_pass[0] in shown


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["show", "x"], "has no task x; `swe-aem tasks list --tasks micro` shows the ids"),
        (["show", "micro__almanac-comparison-0f71c62"], r"did you mean micro__almanac-comparison-0f71c626\?"),
        (["list", "--tasks", "tasks/mirco"], r"no task set tasks/mirco \(did you mean micro\?\)"),
        (["list", "--tasks", "nanno"], r"did you mean nano\?"),
        (["list", "--tasks", "nowhere.jsonl"], "no such file or directory; the bundled sets are micro, nano"),
        (["list", "--split", "trian"], r"has no split trian \(did you mean train\?\); it has heldout, train"),
        (["compose", "--out", "x", "--split", "tain"], "there are train, heldout, demos"),
    ],
)
def test_a_wrong_name_is_answered_with_what_there_is(words: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        _run(*words)


@pytest.mark.slow
def test_synth_makes_a_set_that_loads(tmp_path: Path) -> None:
    package = tmp_path / "packages" / "bounds"
    for name, text in {"bounds/__init__.py": "from bounds.clamp import clamp\n", "bounds/clamp.py": FUNCTION}.items():
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(text)
    (package / "tests").mkdir()
    (package / "tests" / "test_clamp.py").write_text(TESTS)
    result = _run(
        "synth", "--packages", str(tmp_path / "packages"), "--out", str(tmp_path), "--per-package", "7", "--seed", "3"
    )
    assert "bounds: " in result.stderr
    made = sum(int(line.split()[-2]) for line in result.stdout.splitlines())
    assert made == len((tmp_path / "train.jsonl").read_text().splitlines()) + len(
        (tmp_path / "heldout.jsonl").read_text().splitlines()
    )
    assert made >= 2
