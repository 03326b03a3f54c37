"""An agent's sandbox holds the task's start and nothing that gives it away; a grading sandbox agrees with it."""

import pytest

from swe_aem.core import AnswerKey, Task, TaskRecord
from swe_aem.errors import InfrastructureError, TaskUnusable
from swe_aem.grading import capture_work, prepare_for_agent, prepare_for_grading
from swe_aem.grading.apply import wanted_state, write_state
from swe_aem.grading.comparing import delta_of

CLEAN, BUG = "def one():\n    return 1\n", "def one():\n    return 2\n"
EVERYTHING = ("cat-file", "--batch-all-objects", "--batch-check")


def record_of(repo, base_commit="f" * 40, **key):
    """A task whose start has still to be made out of `repo`."""
    task = Task(id="t-1", repo="o/t", base_commit=base_commit, problem_statement="", image="i", workdir=str(repo.path))
    blank = dict.fromkeys(("version", "gold_patch", "test_patch", "eval_script", "log_parser", "eval_type"), "")
    tests = {"fail_to_pass": ("a",), "pass_to_pass": ()}
    return TaskRecord(task=task, key=AnswerKey(**{"task_id": task.id, "repo": task.repo, **blank, **tests, **key}))


@pytest.fixture
def bug(make_repo):
    """The patch that plants the bug, as SWE-smith ships it, and the two roles' copies of the clean repository."""
    copies = [make_repo(name) for name in ("agent", "grader")]
    for repo in copies:
        repo.commit("start", {"one.py": CLEAN, "tests/test_one.py": "hidden test\n", "README": "x\n"})
        repo.commit("later", {"README": "y\n"})
        repo.git("tag", "v1")
        repo.write(
            {".git/info/exclude": "__pycache__\n/build\n", "__pycache__/one.pyc": CLEAN, "build/lib/one.py": CLEAN}
        )
    copies[0].write({"one.py": BUG})
    patch = copies[0].git("diff") + "\n"
    copies[0].git("checkout", "-q", ".")
    return patch, *copies


async def test_the_clean_code_and_hidden_tests_are_nowhere_in_an_agents_repository(bug, at):
    patch, repo, _ = bug
    clean = repo.git("rev-parse", "HEAD:one.py")
    test = repo.git("rev-parse", "HEAD:tests/test_one.py")
    record = record_of(repo, setup_patch=patch, hidden=("tests/test_one.py",))
    await prepare_for_agent(at(repo.path), record)
    assert repo.git("rev-list", "--all", "--reflog", "HEAD").split() == [repo.git("rev-parse", "HEAD")]
    assert (repo.path / "one.py").read_text() == BUG
    assert not (repo.path / "tests/test_one.py").exists()
    objects = repo.git(*EVERYTHING)
    assert clean not in objects
    assert test not in objects
    assert "test_one" not in (repo.path / ".git/info/exclude").read_text()
    assert {path.name for path in repo.path.iterdir()} == {".git", "README", "build", "one.py", "tests"}
    assert not list(repo.path.glob("build/*"))
    assert repo.git("status", "--porcelain") == ""


async def test_a_delta_of_the_agent_is_written_where_it_is_graded(bug, at):
    patch, mine, theirs = bug
    sandbox, grading = at(mine.path), at(theirs.path)
    given = await prepare_for_agent(sandbox, record_of(mine, setup_patch=patch, hidden=("tests/test_one.py",)))
    mine.write({"one.py": CLEAN, "new.py": "x = 1\n"})
    work = await capture_work(sandbox, str(mine.path), given)
    await prepare_for_grading(
        grading, record_of(theirs, setup_patch=patch, hidden=("tests/test_one.py",)), str(theirs.path)
    )
    assert (theirs.path / "one.py").read_text() == BUG
    delta = await delta_of(work, grading, str(theirs.path))
    assert [change.path for change in delta.changes] == ["new.py", "one.py"]
    before = await grading.list_tree(str(theirs.path))
    await write_state(grading, str(theirs.path), before, wanted_state(delta.changes, before, "", {}))
    assert (theirs.path / "one.py").read_text() == CLEAN
    assert (theirs.path / "tests/test_one.py").exists()


async def test_hidden_paths_that_git_does_not_know_leave_the_history_alone(repo, at, tmp_path):
    base = repo.commit("start", {"a.py": "a\n"})
    repo.write({"run_tests.sh": "pytest\n", ".venv/pyvenv.cfg": "", ".venv/lib/x.py": "x\n", "build/in place": "1\n"})
    outside = tmp_path / "tests of the image"
    outside.mkdir()
    sandbox, record = at(repo.path), record_of(repo, hidden=("run_tests.sh", str(outside)), base_commit="")
    given = await prepare_for_agent(sandbox, record)
    assert repo.git("rev-parse", "HEAD") == base
    assert not outside.exists()
    assert not (repo.path / "run_tests.sh").exists()
    repo.write({"a.py": "b\n", ".venv/lib/y.py": "y\n", "build/new": "2\n"})
    work = await capture_work(sandbox, str(repo.path), given)
    assert sorted(file.path for file in work.files) == ["a.py", "build/new"]
    assert "run_tests" not in (repo.path / ".git/info/exclude").read_text()


async def test_a_hidden_path_of_an_earlier_commit_is_no_way_to_read_it(repo, at):
    repo.commit("start", {"a.py": "a\n", "run_tests.sh": "pytest\n"})
    test = repo.git("rev-parse", "HEAD:run_tests.sh")
    repo.git("rm", "-q", "run_tests.sh")
    head = repo.commit("without")
    record = record_of(repo, hidden=("run_tests.sh",), base_commit=head)
    await prepare_for_agent(at(repo.path), record)
    assert repo.git("rev-parse", "HEAD") != head
    assert test not in repo.git(*EVERYTHING)


async def test_a_directory_without_a_repository_becomes_one(tmp_path, at):
    work = tmp_path / "app"
    work.mkdir()
    (work / "main.py").write_text("1\n")
    sandbox = at(work)
    task = record_of(type("Here", (), {"path": work}), base_commit="")
    given = await prepare_for_agent(sandbox, task)
    (work / "main.py").write_text("2\n")
    assert [file.content for file in (await capture_work(sandbox, str(work), given)).files] == [b"2\n"]


async def test_a_setup_patch_that_does_not_fit_is_an_infrastructure_failure(bug, at):
    patch, repo, _ = bug
    repo.commit("another", {"one.py": "nothing\n"})
    with pytest.raises(InfrastructureError, match=r"(?s)t-1: .*the setup patch does not apply"):
        await prepare_for_agent(at(repo.path), record_of(repo, setup_patch=patch))


async def test_an_image_without_the_work_tree_makes_the_task_unusable(repo, at, tmp_path):
    repo.commit("start", {"a.py": "a\n"})
    record = record_of(repo)
    absent = record.model_copy(update={"task": record.task.model_copy(update={"workdir": str(tmp_path / "absent")})})
    with pytest.raises(TaskUnusable, match=r"image i has no directory .*absent: correct the task's workdir"):
        await prepare_for_agent(at(tmp_path), absent)
