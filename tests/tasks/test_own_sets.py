"""Task sets of a user's own: commits of a git repository, and rows that a family of their own reads."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

import swe_aem as sa
from swe_aem.errors import GraderError, UserError
from swe_aem.tasks import load_tasks
from swe_aem.tasks.families.family import FAMILIES, Family
from swe_aem.tasks.families.git import git_task
from swe_aem.tasks.families.log_parsers import log_parser

NAME = "tests/test_shelf.py::test_total"
FAMILY = """
import swe_aem as sa

def read(where, row, reading):
    return sa.git_task(row["ticket"], reading.directory / "shelf", row["text"], row["tests"], fix_commit=row["fix"])

class Prefixed(sa.Settings):
    prefix: str
    name: str = "prefixed"
    columns: str = "ticket"

    def recognise(self, row):
        return "ticket" in row

    def read(self, where, row, reading):
        return read(where, {**row, "ticket": self.prefix + row["ticket"]}, reading)

def broken(where, row, reading):
    return 1 / 0

def strict(where, row, reading):
    raise sa.errors.UserError(f"{where}: not today")

number = 7

def lines(log):
    return {name: "PASSED" for word, _, name in (line.partition(" ") for line in log.splitlines()) if word == "good"}

LINES = sa.LogParser(name="lines", runner="other", read=lines, read_because="no witness knows this runner")

def parsed(where, row, reading):
    command = "python -c 'import shelf; print(\\"good total\\" if shelf.total([1, 2]) == 3 else \\"bad\\")'"
    return sa.git_task(
        row["ticket"], reading.directory / "shelf", row["text"], ["total"], fix_commit=row["fix"], test_cmd=command,
        log_parser="mine.py:LINES",
    )
"""


def git(directory: Path, *words: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.example"]
    done = subprocess.run(["git", *identity, *words], cwd=directory, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The fix in a repository `shelf` of the working directory: its commit."""
    monkeypatch.chdir(tmp_path)
    place = tmp_path / "shelf"
    (place / "tests").mkdir(parents=True)
    git(place, "init", "-q", "-b", "main")
    code = "def first(items):\n    return items[0]\n\n\ndef total(items):\n    return sum(items[1:])\n"
    (place / "shelf.py").write_text(code)
    test = "import shelf\n\n\ndef test_first():\n    assert shelf.first([3]) == 3\n"
    (place / "tests" / "test_shelf.py").write_text(test)
    git(place, "add", "-A")
    git(place, "commit", "-qm", "start")
    (place / "shelf.py").write_text(code.replace("items[1:]", "items"))
    with (place / "tests" / "test_shelf.py").open("a") as file:
        file.write("\n\ndef test_total():\n    assert shelf.total([1, 2]) == 3\n")
    git(place, "commit", "-qam", "the secret fix")
    (tmp_path / "mine.py").write_text(FAMILY)
    return git(place, "rev-parse", "HEAD")


def rows(path: Path, *given: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in given))
    return path


def row(fix: str, **columns: Any) -> dict[str, Any]:
    made = {"instance_id": "shelf-1", "repository": "shelf", "fix_commit": fix, "problem_statement": "total is wrong"}
    return {**made, "FAIL_TO_PASS": [NAME], **columns}


def test_a_fix_commit_is_a_task(shelf: str, tmp_path: Path) -> None:
    (record,) = load_tasks(rows(tmp_path / "tasks.jsonl", row(shelf[:10])))
    assert record.task.base_commit == git(tmp_path / "shelf", "rev-parse", "HEAD^")
    assert ("shelf.py" in record.key.gold_patch, "tests/" in record.key.gold_patch) == (True, False)
    assert ("test_total" in record.key.test_patch, "sum(items)" in record.key.test_patch) == (True, False)
    assert record.task.repo == "local/shelf"
    made = git_task("shelf-1", "shelf", "total is wrong", [NAME], fix_commit="main")
    assert made == record


def test_its_working_tree_has_the_history_up_to_the_start_and_nothing_later(shelf: str, tmp_path: Path) -> None:
    tasks = load_tasks(rows(tmp_path / "tasks.jsonl", row(shelf)))
    tree = tasks.workspace("shelf-1")
    assert tree is not None
    assert tree == tasks.workspace("shelf-1")
    assert git(tree, "status", "--porcelain") == ""
    assert (git(tree, "rev-parse", "HEAD"), git(tree, "branch", "--show-current")) == (
        tasks[0].task.base_commit,
        "main",
    )
    assert git(tree, "log", "--format=%s", "--all") == "start"
    objects = git(tree, "cat-file", "--batch-check", "--batch-all-objects")
    assert shelf not in objects
    assert len(objects.splitlines()) == 5  # a commit, two trees, two files


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"repository": "nowhere"}, "there is no directory"),
        ({"repository": "."}, "not a git repository"),
        ({"fix_commit": "0" * 40}, "has no commit"),
        ({"fix_commit": "main^"}, "has no commit"),
        ({"fix_commit": "--help"}, "has no commit"),
        ({"FAIL_TO_PASS": []}, "field 'FAIL_TO_PASS' is empty"),
        ({"fix_commit": "", "base_commit": "main"}, "needs fix_commit, or base_commit, patch and test_patch"),
        ({"log_parser": "mine.py:LINES"}, "is not a log parser"),
        ({"PASS_TO_PAS": ["a"]}, "'PASS_TO_PAS' is not read; did you mean PASS_TO_PASS"),
        ({"timout_s": 5}, "'timout_s' is not read; did you mean timeout_s"),
        ({"repository": "shelf/tests"}, "shelf/tests is not the top of its git repository, which is .*/shelf: name"),
    ],
)
def test_rows_that_are_no_tasks(shelf: str, tmp_path: Path, columns: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        load_tasks(rows(tmp_path / "tasks.jsonl", row(shelf, **columns)))


def test_columns_of_another_purpose_are_left_alone(shelf: str, tmp_path: Path) -> None:
    assert len(load_tasks(rows(tmp_path / "tasks.jsonl", row(shelf, difficulty=3, version="1", hints_text="x")))) == 1


def test_a_fix_without_a_test_needs_one(shelf: str, tmp_path: Path) -> None:
    (tmp_path / "shelf" / "more.py").write_text("x = 1\n")
    git(tmp_path / "shelf", "add", "-A")
    git(tmp_path / "shelf", "commit", "-qm", "no test")
    with pytest.raises(UserError, match=r"changes no test .* give test_patch"):
        load_tasks(rows(tmp_path / "tasks.jsonl", row("HEAD")))


def test_rows_of_the_hub_name_no_directory_of_this_host(shelf: str) -> None:
    from swe_aem.tasks.families.git import read
    from swe_aem.tasks.families.reading import Reading

    with pytest.raises(UserError, match="which rows of the hub cannot name"):
        read("here", row(shelf), Reading())


def test_head_is_where_it_is_now(shelf: str, tmp_path: Path) -> None:
    place = tmp_path / "shelf"
    assert git_task("1", place, "", [NAME], fix_commit="HEAD").task.base_commit == git(place, "rev-parse", f"{shelf}^")
    for name in ("shelf.py", "tests/test_shelf.py"):
        with (place / name).open("a") as file:
            file.write("\n# more\n")
    git(place, "commit", "-qam", "another fix")
    assert git_task("2", place, "", [NAME], fix_commit="HEAD").task.base_commit == shelf


def ticket(fix: str) -> dict[str, Any]:
    return {"ticket": "T-1", "text": "total is wrong", "tests": [NAME], "fix": fix}


@pytest.mark.parametrize(
    ("family", "id"), [("mine.py:read", "T-1"), ({"type": "mine.py:Prefixed", "prefix": "x"}, "xT-1")]
)
def test_a_family_of_ones_own(shelf: str, tmp_path: Path, family: Any, id: str) -> None:
    tasks = load_tasks(rows(tmp_path / "t.jsonl", ticket(shelf)), family=family)
    assert [record.task.id for record in tasks] == [id]
    assert tasks.family == family
    assert list(tasks.extensions) == ["family"]
    assert tasks.extensions["family"].startswith("sha256:")


def test_what_reads_rows_is_identified_once_and_not_for_each_row(
    shelf: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    identity = FAMILIES.identity
    monkeypatch.setattr(FAMILIES, "identity", lambda name: made.append(name) or identity(name))
    two = [ticket(shelf), ticket(shelf) | {"ticket": "T-2"}]
    assert len(load_tasks(rows(tmp_path / "t.jsonl", *two), family="mine.py:read")) == 2
    assert made == ["mine.py:read"]


def test_a_family_that_is_handed_over(shelf: str, tmp_path: Path) -> None:
    def read(where: str, row: dict[str, Any], reading: Any) -> Any:
        return git_task(row["ticket"], reading.directory / "shelf", row["text"], [NAME], fix_commit=row["fix"])

    for family in (read, Family("tickets", lambda row: "ticket" in row, read, "ticket")):
        tasks = load_tasks(rows(tmp_path / "t.jsonl", ticket(shelf)), family=family)
        assert tasks[0].task.id == "T-1"
        assert tasks.extensions["family"].startswith("sha256:")


@pytest.mark.parametrize(
    ("family", "said"),
    [
        ("mine.py:number", "which has no name, columns, recognise, read: give a function"),
        ("mine.py:strict", "not today"),
        ("mine.py:nothing", "has no nothing"),
        ("minee", "no family 'minee'"),
        ("mine.py", "say which object of the file, as in mine.py:NAME"),
    ],
)
def test_what_is_no_family(shelf: str, tmp_path: Path, family: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        load_tasks(rows(tmp_path / "t.jsonl", ticket(shelf)), family=family)


def test_a_bug_of_a_family_ends_with_its_own_traceback(shelf: str, tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError) as error:
        load_tasks(rows(tmp_path / "t.jsonl", ticket(shelf)), family="mine.py:broken")
    assert "t.jsonl, line 1" in error.value.__notes__[0]


def test_an_own_log_parser(shelf: str, tmp_path: Path) -> None:
    tasks = load_tasks(rows(tmp_path / "t.jsonl", ticket(shelf)), family="mine.py:parsed")
    assert sorted(tasks.extensions) == ["family", "log_parser.mine.py:LINES"]
    assert log_parser(tasks[0].key.log_parser).runner == "other"
    with pytest.raises(UserError, match=r"log parser mine.py:number is 7: give a swe_aem.LogParser"):
        log_parser("mine.py:number")
    with pytest.raises(GraderError, match="no log parser 'nothing'"):
        log_parser("nothing")


@pytest.mark.bubblewrap
@pytest.mark.parametrize("family", ["mine.py:read", "mine.py:parsed"])
def test_own_tasks_are_graded_and_the_code_that_read_them_is_recorded(
    shelf: str, tmp_path: Path, require_bubblewrap: None, family: str
) -> None:
    source = rows(tmp_path / "t.jsonl", ticket(shelf))
    tasks = sa.load_tasks(source, family=family)
    run = sa.rollout(tasks, agent="gold", out="gold")
    assert run.summary.outcomes == {"resolved": 1}
    assert not sa.grade(tasks[0], tasks[0].key.test_patch).resolved
    assert json.loads(Path("gold/config.json").read_text())["extensions"] == tasks.extensions
    changed = dict.fromkeys(tasks.extensions, "sha256:before")
    stored = json.loads(Path("gold/config.json").read_text()) | {"extensions": changed}
    Path("gold/config.json").write_text(json.dumps(stored))
    with pytest.raises(UserError, match="family was the code of sha256:before and is now the code of sha256:"):
        sa.rollout(tasks, agent="gold", out="gold")
