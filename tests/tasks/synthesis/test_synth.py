"""The generator on a tiny package: rows that hold what they promise, the same bytes again, refusals."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from swe_aem.errors import InfrastructureError, UserError
from swe_aem.tasks import load_tasks
from swe_aem.tasks.packages import read_package
from swe_aem.tasks.synthesis.codebase import micro_codebase
from swe_aem.tasks.synthesis.instance import git_diff
from swe_aem.tasks.synthesis.mutate import KINDS, Mutation
from swe_aem.tasks.synthesis.probe_pool import open_pool
from swe_aem.tasks.synthesis.probe_result import FailedTest
from swe_aem.tasks.synthesis.synth import HELDOUT, TRAIN, SynthConfig, heldout_packages, synthesize


def _generate(packages: Path, **settings: Any) -> dict[str, list[dict[str, Any]]]:
    return synthesize(SynthConfig(packages=packages, **{"per_package": 14, "jobs": 2, **settings}))


def _ids(splits: dict[str, list[dict[str, Any]]]) -> set[str]:
    return {row["instance_id"] for rows in splits.values() for row in rows}


def _git(directory: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=directory, capture_output=True, text=True, check=True).stdout


@pytest.mark.slow
def test_same_bytes_again_whatever_the_parallelism(packages: Path) -> None:
    again = _generate(packages, per_package=7, jobs=1)
    assert json.dumps(again) == json.dumps(_generate(packages, per_package=7, jobs=3))


@pytest.mark.slow
def test_another_seed_makes_another_set(packages: Path) -> None:
    first, second = (_generate(packages, per_package=7, seed=seed) for seed in (0, 1))
    assert _ids(first) != _ids(second)


def test_rows(made: Path, packages: Path) -> None:
    tasks = load_tasks(str(made))
    clean = read_package(packages / "shapes")
    assert {tasks.labels[record.task.id]["mutation_kind"] for record in tasks} <= set(KINDS)
    assert len(tasks) >= 10
    for record in tasks:
        tree = tasks.workspace(record.task.id)
        assert tree is not None
        assert _git(tree, "status", "--porcelain") == ""
        buggy = (tree / "shapes" / "rectangle.py").read_text()
        hidden = (tree / "tests" / "test_rectangle.py").read_text()
        assert git_diff("shapes/rectangle.py", buggy, clean["shapes/rectangle.py"]) == record.key.gold_patch
        for test in record.key.fail_to_pass:
            assert test.rpartition("::")[2] + "(" not in hidden
        for test in record.key.pass_to_pass:
            assert test.rpartition("::")[2] + "(" in hidden
        assert record.key.pass_to_pass
        assert "rectangle" not in record.task.problem_statement
        assert tasks.labels[record.task.id]["mutation_kind"] not in record.task.problem_statement


def test_no_object_of_the_clean_code_in_git(made: Path, packages: Path) -> None:
    tasks = load_tasks(str(made))
    clean = read_package(packages / "shapes")["shapes/rectangle.py"]
    tree = tasks.workspace(tasks.records[0].task.id)
    assert tree is not None
    listed = _git(tree, "cat-file", "--batch-all-objects", "--batch-check=%(objectname) %(objecttype)")
    blobs = [line.split()[0] for line in listed.splitlines() if line.endswith(" blob")]
    contents = [_git(tree, "cat-file", "blob", blob) for blob in blobs]
    assert len(contents) == 5
    assert clean not in contents
    assert _git(tree, "log", "--all", "--format=%an %ae %s") == "micro micro@example.invalid Initial commit\n"
    assert not (tree / ".git" / "logs").exists()


def test_user_configuration_does_not_change_the_tree(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "home" / ".gitconfig"
    config.parent.mkdir()
    config.write_text(
        "[user]\nname = X\nemail = x@y\n[commit]\ngpgSign = true\n[core]\nautocrlf = true\nhooksPath = /nowhere\n"
        "[init]\ndefaultBranch = other\ndefaultObjectFormat = sha256\n"
    )
    monkeypatch.setenv("HOME", str(config.parent))
    monkeypatch.setenv("GIT_AUTHOR_NAME", "Somebody")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other.git"))
    tasks = load_tasks(str(made))
    assert tasks.workspace(tasks.records[0].task.id) is not None


def test_workspace_inside_another_repository(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _git(tmp_path, "init", "--quiet")
    monkeypatch.setenv("SWE_AEM_CACHE", str(tmp_path / "inside" / "cache"))
    tasks = load_tasks(str(made))
    assert tasks.workspace(tasks.records[0].task.id) is not None


def test_workspace_is_made_once(made: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    tasks = load_tasks(str(made))
    ids = [record.task.id for record in tasks] * 3
    with ThreadPoolExecutor(8) as pool:
        paths = list(pool.map(tasks.workspace, ids))
    assert len(set(paths)) == len(tasks)
    assert paths[0] is not None
    assert sorted(path.name for path in paths[0].parent.iterdir()) == sorted({path.name for path in paths if path})


def test_changed_package_is_noticed(made: Path, packages: Path) -> None:
    (packages / "shapes" / "README.md").write_text("# Shapes, changed\n")
    tasks = load_tasks(str(made))
    with pytest.raises(InfrastructureError, match="packages was changed after the rows were made"):
        tasks.workspace(tasks.records[0].task.id)


def test_unwritable_cache(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SWE_AEM_CACHE", str(tmp_path / "file" / "cache"))
    tasks = load_tasks(str(made))
    with pytest.raises(UserError, match="set SWE_AEM_CACHE"):
        tasks.workspace(tasks.records[0].task.id)


def test_package_whose_tests_fail(packages: Path) -> None:
    tests = packages / "shapes" / "tests" / "test_rectangle.py"
    tests.write_text(tests.read_text().replace("== 12", "== 13"))
    with pytest.raises(UserError, match=r"shapes: its own tests do not pass \(tests/test_rectangle.py::test_area\)"):
        _generate(packages)


def test_package_without_tests(packages: Path) -> None:
    (packages / "shapes" / "tests" / "test_rectangle.py").unlink()
    with pytest.raises(UserError, match="package shapes has no tests"):
        _generate(packages)


def test_unknown_package(packages: Path) -> None:
    with pytest.raises(UserError, match="has no package circles"):
        _generate(packages, only=("circles",))


def test_too_few_rows(packages: Path) -> None:
    with pytest.raises(UserError, match="give at least 7"):
        _generate(packages, per_package=6)


@pytest.mark.slow
def test_progress_ends_with_equal_numbers(packages: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    synthesize(
        SynthConfig(packages=packages, per_package=7, jobs=2),
        lambda package, done, wanted: seen.append((package, done, wanted)),
    )
    assert seen[0] == ("shapes", 0, 7)
    assert seen[-1][1] == seen[-1][2]
    assert all(done < wanted for _, done, wanted in seen[:-1])


@pytest.mark.slow
def test_probe_tells_hangs_crashes_and_failures_apart(packages: Path) -> None:
    files = read_package(packages / "shapes")
    path = "shapes/rectangle.py"
    clean = files[path]

    def bug(old: str, new: str) -> Mutation:
        assert old in clean
        return Mutation(path, "f", "operator", clean.replace(old, new))

    cases = {
        "clean": Mutation(path, "f", "operator", clean),
        "wrong": bug("return width * height", "return width + height"),
        "hang": bug("return width * height", "while True: pass"),
        "crash": bug("return width * height", "import os; os._exit(0)"),
        "no import": Mutation(path, "f", "operator", "import nothing_of_that_name\n"),
        "not raised": bug("width < 0 or height < 0", "False"),
        "memory": bug("return width * height", "return len([0] * 10**12)"),
    }
    with open_pool(micro_codebase("shapes", files), 2) as pool:
        results = dict(zip(cases, pool.map([*cases.values()]), strict=True))
    assert results["hang"] is None
    assert results["crash"] is None
    clean_result, wrong = results["clean"], results["wrong"]
    assert clean_result is not None
    assert (len(clean_result.passed), clean_result.failed) == (6, ())
    assert wrong is not None
    assert wrong.failures[0] == FailedTest(
        test="tests/test_rectangle.py::test_area", line=7, how="compared", observed="7", expected="12"
    )
    assert results["no import"] is not None
    assert not results["no import"].collected
    assert results["not raised"] is not None
    assert [failure.how for failure in results["not raised"].failures] == ["not_raised"]
    assert results["memory"] is not None
    assert results["memory"].exhausted


def test_whole_packages_are_held_out() -> None:
    names = [f"p{number}" for number in range(12)]
    held = heldout_packages(names, seed=0)
    assert len(held) == 3
    assert held == heldout_packages(names, seed=0)
    assert held != heldout_packages(names, seed=1)
    assert heldout_packages(["only"], seed=0) == set()


def test_splits_are_named_like_the_files(made: Path) -> None:
    assert {path.stem for path in made.glob("*.jsonl")} == {TRAIN, HELDOUT}
    assert load_tasks(str(made)).packages is not None
