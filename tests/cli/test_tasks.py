"""`swe-aem tasks`."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from swe_aem.cli.tasks import app
from swe_aem.errors import UserError
from swe_aem.tasks import load_tasks

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
