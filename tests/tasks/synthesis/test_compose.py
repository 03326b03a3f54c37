"""Small repositories composed of single functions, and the library that they come from."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swe_aem.errors import UserError
from swe_aem.tasks import load_tasks
from swe_aem.tasks.library import FunctionLibrary, Layout
from swe_aem.tasks.load import bundled
from swe_aem.tasks.synthesis.compose import (
    DEMONSTRATED,
    DEMOS,
    HELDOUT,
    NEW_FUNCTION,
    NEW_KIND,
    NEW_KINDS,
    TRAIN,
    ComposeConfig,
    compose,
    part,
    replaced_line,
)
from swe_aem.tasks.synthesis.inventions import shape
from swe_aem.tasks.synthesis.slips import SLIPS

LIBRARY = """def half(n):
    if n < 0:
        return 0
    return n // 2


def test_half():
    assert half(8) == 4
    assert half(-2) == 0
    assert half(3) == 1
"""
LOOPING = """def countdown(n):
    steps = 0
    while n > 0:
        n = n - 1
        steps = steps + 1
    return steps


def test_countdown():
    assert countdown(3) == 3
    assert countdown(0) == 0
"""
SMALL = ComposeConfig(functions=Path(), train=12, heldout=6, demos=12)


def write_library(directory: Path) -> Path:
    directory.mkdir(parents=True)
    (directory / "half.py").write_text(LIBRARY)
    (directory / "countdown.py").write_text(LOOPING)
    return directory


@pytest.fixture
def functions(tmp_path: Path) -> Path:
    return write_library(tmp_path / "set" / "functions")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    """All splits of a small set."""
    functions = write_library(tmp_path_factory.mktemp("set") / "functions")
    return compose(SMALL.model_copy(update={"functions": functions, "splits": (TRAIN, HELDOUT, DEMOS)}))


def nano() -> Path:
    directory = bundled("nano")
    assert directory is not None
    return directory


def rows(split: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in (nano() / f"{split}.jsonl").read_text().splitlines()]


def test_the_checks_of_every_bundled_function_hold() -> None:
    files = sorted(map(str, (nano() / "functions").glob("*.py")))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", "/dev/null", *files]
    subprocess.run(command, check=True, capture_output=True)


def test_held_out_tasks_are_unseen_bugs_in_unseen_layouts() -> None:
    train, heldout = rows(TRAIN), rows(HELDOUT)
    assert len(heldout) >= 150
    assert not {row["repo"] for row in train} & {row["repo"] for row in heldout}

    def bugs(split: list[dict[str, str]]) -> set[tuple[str, str]]:
        return {(row["function"], row["instance_id"].rpartition("-")[2]) for row in split}

    assert not bugs(train) & bugs(heldout)
    assert {row["part"] for row in heldout} == {DEMONSTRATED, NEW_KIND, NEW_FUNCTION}


def test_no_function_that_demonstrations_cover_has_the_name_or_the_body_of_a_new_one() -> None:
    functions = FunctionLibrary(nano() / "functions").functions.values()
    new = [function for function in functions if part(function.name, "", 0) == NEW_FUNCTION]
    covered = [function for function in functions if function not in new]
    assert 10 <= len(new) < len(covered)
    names, shapes = {function.name for function in new}, {shape(function.text) for function in new}
    for function in covered:
        said = function.text + "".join(check.call + check.expected for check in function.checks)
        assert not names & set(re.findall(r"\w+", said)), function.name
        assert shape(function.text) not in shapes, function.name


@pytest.mark.slow
@pytest.mark.nightly
def test_demonstrations_show_no_held_back_kind_function_or_bug() -> None:
    demos = compose(ComposeConfig(functions=nano() / "functions", demos=120, splits=(DEMOS,)))[DEMOS]
    both = rows(TRAIN) + rows(HELDOUT)
    bugs = {(row["function"], row["instance_id"].rpartition("-")[2]) for row in both}
    new = {row["function"] for row in both if row["part"] == NEW_FUNCTION}
    assert new
    assert {row["mutation_kind"] for row in demos} == {kind for kind, _ in SLIPS}
    library = FunctionLibrary(nano() / "functions")
    bodies = {library.functions[name].text.partition("\n")[2] for name in new}
    for row in demos:
        shown = "".join(library.clean(row["repo"].partition("/")[2]).values()) + row["problem_statement"] + row["patch"]
        assert not new & set(re.findall(r"\w+", shown))
        assert not any(body in shown for body in bodies)
        assert (row["function"], row["instance_id"].rpartition("-")[2]) not in bugs


def test_demonstrations_are_slips_that_are_no_bugs_of_tasks(made: dict[str, list[dict[str, Any]]]) -> None:
    patches = {(row["function"], row["instance_id"].rpartition("-")[2]) for row in made[TRAIN] + made[HELDOUT]}
    assert made[DEMOS]
    for row in made[DEMOS]:
        assert row["mutation_kind"] not in NEW_KINDS
        assert (row["function"], row["instance_id"].rpartition("-")[2]) not in patches


@pytest.mark.slow
def test_no_layout_of_a_held_out_task_is_elsewhere(functions: Path, made: dict[str, list[dict[str, Any]]]) -> None:
    """Whichever splits are written, and whatever the numbers."""
    repos = {split: {row["repo"] for row in rows} for split, rows in made.items()}
    assert len(repos[DEMOS]) == 12
    assert not repos[HELDOUT] & (repos[TRAIN] | repos[DEMOS])
    assert compose(SMALL.model_copy(update={"functions": functions}))[HELDOUT] == made[HELDOUT]


def test_more_repositories_than_a_library_has_layouts_for_are_refused(functions: Path) -> None:
    with pytest.raises(UserError, match="too few functions for so many repositories"):
        compose(ComposeConfig(functions=functions, demos=0))


def test_an_issue_names_the_function_and_the_line_but_no_file(made: dict[str, list[dict[str, Any]]]) -> None:
    for row in made[TRAIN]:
        module = row["repo"].partition("/")[2].partition("-")[0]
        assert module not in row["problem_statement"]
        suspected = row["problem_statement"].rpartition("; `")[2].removesuffix("`?\n")
        told = [line[1:].strip() for line in row["patch"].splitlines()[4:] if line[:1] in " -"]
        assert suspected in told


def test_the_bundled_rows_are_of_the_bundled_functions() -> None:
    library = FunctionLibrary(nano() / "functions")
    for row in rows(TRAIN) + rows(HELDOUT):
        files = library.clean(row["repo"].partition("/")[2])
        (tests,) = (path for path in files if path.startswith("tests/"))
        for patch, path in (("patch", row["patch"].split()[2].removeprefix("a/")), ("test_patch", tests)):
            added = re.findall(r"^\+(?!\+\+ )(.*)$", row[patch], re.MULTILINE)
            assert f"+++ b/{path}\n" in row[patch]
            assert set(added) <= set(files[path].splitlines())
        assert added == files[tests].splitlines()


@pytest.mark.slow
@pytest.mark.nightly
def test_the_bundled_rows_are_what_the_command_makes() -> None:
    made = compose(ComposeConfig(functions=nano() / "functions"))
    for split in (TRAIN, HELDOUT):
        assert made[split] == rows(split)


def test_rows_load_and_their_trees_come_out(functions: Path, made: dict[str, list[dict[str, Any]]]) -> None:
    from swe_aem.tasks.synthesis.synth import write_rows

    for split in (TRAIN, HELDOUT):
        write_rows(functions.parent / f"{split}.jsonl", made[split])
    tasks = load_tasks(str(functions.parent))
    assert {record.split for record in tasks} == {"train", "heldout"}
    for record in tasks:
        tree = tasks.workspace(record.task.id)
        assert tree is not None
        assert not (tree / "tests").exists()  # what grades is nowhere that an agent can read
        assert record.task.problem_statement.startswith("`")


def test_bugs_that_loop_for_ever_are_left_out(functions: Path) -> None:
    made = compose(ComposeConfig(functions=functions, train=30, heldout=0, demos=0))
    assert not any("+    n = n - 1" in row["patch"] and "n = n + 1" in row["patch"] for row in made[TRAIN])


def test_a_file_of_another_form_is_named(functions: Path) -> None:
    (functions / "odd.py").write_text("x = 1\n")
    with pytest.raises(UserError, match=r"odd\.py: expected `def odd`"):
        compose(ComposeConfig(functions=functions))


def test_a_wrong_check_is_named(functions: Path) -> None:
    (functions / "half.py").write_text(LIBRARY.replace("== 4", "== 5"))
    with pytest.raises(UserError, match="half: its own checks fail"):
        compose(ComposeConfig(functions=functions))


def test_an_empty_library_and_an_unknown_function_are_refused(tmp_path: Path, functions: Path) -> None:
    with pytest.raises(UserError, match="has no functions"):
        compose(ComposeConfig(functions=tmp_path))
    with pytest.raises(UserError, match="has no function third"):
        FunctionLibrary(functions).clean("items-half-third")


def test_a_layouts_name_says_what_is_in_it(functions: Path) -> None:
    library = FunctionLibrary(functions)
    layout = Layout("items", ("half", "countdown"))
    assert library.clean(layout.name) == library.compose(layout)
    text = library.clean(layout.name)["items.py"]
    assert text.index("def half") < text.index("def countdown")


LINES = st.lists(st.sampled_from(["a", "b", "c", "d"]), min_size=1, max_size=6)


@given(clean=LINES, at=st.integers(0, 5), broken=st.lists(st.sampled_from(["a", "x"]), max_size=1))
def test_a_replaced_line_gives_the_clean_text(clean: list[str], at: int, broken: list[str]) -> None:
    at = min(at, len(clean) - 1)
    old = [*clean[:at], *broken, *clean[at + 1 :]]
    found = replaced_line("\n".join(old), "\n".join(clean))
    if found is None:
        assert clean[: len(old)] == old  # nothing to do, or no line behind the missing one
    else:
        number, text = found
        assert [*old[: number - 1], *text, *old[number:]] == clean
