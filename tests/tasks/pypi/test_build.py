"""Real packages end to end: built from PyPI in sandboxes, graded in both backends."""

import importlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from swe_aem.errors import UserError
from swe_aem.sandbox import open_backend
from swe_aem.tasks import load_tasks
from swe_aem.tasks.load import bundled
from swe_aem.tasks.pypi import BuildConfig, build
from swe_aem.tasks.pypi.image import check_image
from swe_aem.tasks.pypi.index import default_index
from swe_aem.tasks.pypi.recipe import PackageRecipe, read_recipes
from swe_aem.tasks.synthesis.codebase import MICRO_IMAGE

PACKAGE = "inflection"
pytestmark = [pytest.mark.slow, pytest.mark.docker, pytest.mark.bubblewrap]


def _swe_aem(*arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "swe_aem", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=280, check=False, cwd=cwd)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, require_docker: None, require_bubblewrap: None) -> Path:
    """One package of the bundled recipes, built anew whatever this machine's cache holds."""
    home = tmp_path_factory.mktemp("pypi")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SWE_AEM_CACHE", str(home / "cache"))
        done = _swe_aem("tasks", "build", "pypi", "--only", PACKAGE, "--out", home / "set")
    assert done.returncode == 0, done.stderr  # 0 says that the rows are those that are recorded
    assert "All rows are as" in done.stdout + done.stderr
    return home


@pytest.fixture
def cache(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cache of that build."""
    monkeypatch.setenv("SWE_AEM_CACHE", str(built / "cache"))


@pytest.mark.parametrize("backend", ["bubblewrap", "docker"])
def test_gold_resolves_and_nothing_does_not(built: Path, cache: None, tmp_path: Path, backend: str) -> None:
    lock = tmp_path / "tasks.lock"
    repeats = ["--gold", "1", "--noop", "1", "--sandbox", backend, "--lock", lock]
    done = _swe_aem("tasks", "check", "--tasks", built / "set", *repeats, "--json")
    assert done.returncode == 0, done.stderr
    entries = json.loads(done.stdout)["entries"]
    assert len(entries) >= 10
    assert all(entry["passed"] and entry["gold_resolved"] == 1 and not entry["noop_resolved"] for entry in entries)


def test_rows_tell_behaviour(built: Path) -> None:
    tasks = load_tasks(str(built / "set"))
    for record in tasks:
        statement, patch = record.task.problem_statement, record.key.gold_patch
        assert "```python" in statement
        lines = [line for line in patch.splitlines() if line[:1] in "+-" and line[:3] not in ("+++", "---")]
        changed = [line[1:].strip() for line in lines]
        assert not any(line in statement for line in changed if len(line) > 10)
        assert tasks.labels[record.task.id]["mutation_kind"] not in statement
        for test in record.key.fail_to_pass:
            assert test.partition("::")[2].partition("[")[0] not in statement


def test_an_agent_finds_neither_the_answer_nor_the_failing_tests(built: Path, cache: None) -> None:
    tasks = load_tasks(str(built / "set"))
    record = tasks.records[0]
    tree = tasks.workspace(record.task.id)
    assert tree is not None
    hidden = {test.partition("::")[2].partition("[")[0] for test in record.key.fail_to_pass}
    text = (tree / "test_inflection.py").read_text()
    assert hidden
    assert not any(f"def {name}(" in text for name in hidden)
    assert not (tree / "setup.cfg").exists()


async def test_what_is_done_is_not_done_again(
    built: Path, cache: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: Any, **settings: Any) -> None:
        raise AssertionError("bugs are tried again")

    monkeypatch.setattr(importlib.import_module("swe_aem.tasks.pypi.build"), "open_prober", refuse)
    directory = bundled("pypi")
    assert directory is not None
    config = BuildConfig(directory=directory, index=default_index(), only=(PACKAGE,), out=tmp_path / "again")
    again = await build(config, open_backend("bubblewrap"))
    ids = {record.task.id for record in load_tasks(str(built / "set"))}
    assert set(again.digests) == ids
    assert (tmp_path / "again" / "train.jsonl").read_bytes() == (built / "set" / "train.jsonl").read_bytes()


async def test_a_rebuild_keeps_the_lock(built: Path, cache: None, tmp_path: Path) -> None:
    directory = bundled("pypi")
    assert directory is not None
    config = BuildConfig(directory=directory, index=default_index(), only=(PACKAGE,), out=tmp_path / "set")
    await build(config, open_backend("bubblewrap"))
    (tmp_path / "set" / "tasks.lock").write_text("what was found")
    await build(config, open_backend("bubblewrap"))
    assert (tmp_path / "set" / "tasks.lock").read_text() == "what was found"


async def test_a_package_that_the_image_holds_is_refused(
    recipe_of: Callable[..., dict[str, Any]], require_docker: None
) -> None:
    fields = recipe_of("packaging-23.0.tar.gz", b"", name="packaging", version="23.0", sources=["packaging/*.py"])
    with pytest.raises(UserError, match=r"contains the package itself, in /usr/lib/python3/dist-packages/"):
        await check_image(open_backend("docker"), MICRO_IMAGE, PackageRecipe.model_validate(fields))


async def test_another_python_is_refused(recipe_of: Callable[..., dict[str, Any]], require_docker: None) -> None:
    recipe = PackageRecipe.model_validate(recipe_of("shapes-1.0.tar.gz", b"", python="3.9"))
    with pytest.raises(UserError, match=r"wants Python 3\.9, image swe-aem/micro:1 has 3\.\d+"):
        await check_image(open_backend("docker"), MICRO_IMAGE, recipe)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["pypi", "--only", PACKAGE], "name its directory with --out"),
        (["pypi", "--only", "nonesuch", "--out", "x"], "no recipe nonesuch"),
        (["micro"], "no set with recipes"),
        (["pypi", "--sandbox", "vm"], "vm"),
        (["pypi", "--only", PACKAGE, "--out", "."], "holds something else"),
    ],
)
def test_wrong_use(tmp_path: Path, arguments: list[str], message: str) -> None:
    (tmp_path / "something.txt").touch()
    done = _swe_aem("tasks", "build", *arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_recorded_rows_are_of_the_recipes() -> None:
    directory = bundled("pypi")
    assert directory is not None
    lines = (directory / "rows.sha256").read_text().splitlines()
    ids = [line.split("  ")[1] for line in lines]
    assert len(set(ids)) == len(ids) >= 150
    names = {id.removeprefix("pypi__").rpartition("-")[0].rpartition("-")[0] for id in ids}
    assert names == {recipe.name for recipe in read_recipes(directory)}
