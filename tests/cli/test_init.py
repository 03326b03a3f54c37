"""`swe-aem init`: what it writes, what it says, and what it refuses."""

import ast
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

import swe_aem.cli
from swe_aem.errors import UserError
from swe_aem.scaffold import KINDS


def init(*words: str) -> tuple[int, str]:
    """Exit code of the command, and what it says in one line; a `UserError` is the code 2."""
    result = CliRunner().invoke(swe_aem.cli.app, ["init", *words])
    if isinstance(result.exception, UserError):
        return 2, str(result.exception)
    return result.exit_code, " ".join(result.output.split())


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_its_kinds_are_the_ones_that_the_docs_have_pages_for() -> None:
    assert list(KINDS) == ["family", "reward", "advantage", "agent", "sandbox", "task-sampler"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["my-own", "my_own2"])
def test_a_package_has_its_names_in_every_place(kind: str, name: str, here: Path) -> None:
    code, said = init(kind, name)
    assert code == 0, said
    module = name.replace("-", "_")
    assert sorted(path.name for path in (here / name).iterdir()) == sorted(
        ["README.md", "pyproject.toml", f"{module}.py", f"test_{module}.py"]
    )
    project = tomllib.loads((here / name / "pyproject.toml").read_text())["project"]
    ((group, points),) = project["entry-points"].items()
    assert (project["name"], group) == (name, KINDS[kind].extension_point().group)
    ((point, reference),) = points.items()
    assert (point, reference.partition(":")[0]) == (name, module)
    defined = ast.parse((here / name / f"{module}.py").read_text()).body
    assert reference.partition(":")[2] in [getattr(one, "name", None) for one in defined]
    texts = "".join(path.read_text() for path in (here / name).iterdir())
    assert not [word for word in ("new-", "new_", "NewName") if word in texts]
    assert len((here / name / "README.md").read_text().split("\n")) <= 12


def test_the_directory_can_be_another(here: Path) -> None:
    code, said = init("reward", "mine", "--out", "deep/er")
    assert (code, "cd deep/er && pytest" in said) == (0, True)
    assert (here / "deep" / "er" / "mine.py").is_file()


def test_nothing_is_overwritten(here: Path) -> None:
    (here / "mine").mkdir()
    (here / "mine" / "kept").touch()
    assert init("reward", "mine") == (
        2,
        "mine exists already: choose another name, or another directory with --out",
    )
    assert [path.name for path in here.rglob("*")] == ["mine", "kept"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "My Reward",
            "'My Reward' is no name for a package: lower-case letters, digits and hyphens, such as my-reward",
        ),
        ("../up", "such as up"),
        ("2fast", "such as fast"),
        ("é", "lower-case letters, digits and hyphens"),
        ("-x", "No such option"),
        ("a--b", "such as a-b"),
        ("class", "Python has a module class already"),
        ("json", "Python has a module json already"),
        ("pytest", "Python has a module pytest already"),
        ("swe-aem", "Python has a module swe_aem already"),
    ],
)
def test_a_name_that_cannot_be_one_is_refused(name: str, said: str, here: Path) -> None:
    code, message = init("reward", name)
    assert (code, said in message) == (2, True), message
    assert list(here.iterdir()) == []


@pytest.mark.parametrize("kind", KINDS)
def test_the_name_of_one_that_is_there_is_refused(kind: str, here: Path) -> None:
    taken = KINDS[kind].extension_point().names[0]
    code, message = init(kind, taken)
    assert (code, f"{taken}: there is a" in message) == (2, True), message
    assert list(here.iterdir()) == []


def test_it_is_not_mistaken_for_another_verb() -> None:
    code, said = init("tiny-model", "x")
    assert (code, "did you mean swe-aem init-tiny-model?" in said) == (2, True), said
    assert "did you mean" in init("rewrd", "x")[1].lower()
    helped = CliRunner().invoke(swe_aem.cli.app, ["init", "--help"]).output
    assert "swe-aem init-tiny-model" in helped
