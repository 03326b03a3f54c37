"""The twin's test patch makes the twin's files of what the test patch starts from, and of nothing else."""

import random
import subprocess
from pathlib import Path

import pytest

from swe_aem.grading.twins.patch import patched_paths, replaced, twin_sections
from swe_aem.grading.twins.source import Unsuitable

BASE = "".join(f"line {n}\n" for n in range(60))


def git(directory: Path, *arguments: str, data: bytes = b"") -> bytes:
    """Run git there."""
    done = subprocess.run(["git", *arguments], cwd=directory, input=data, capture_output=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A repository with two files of tests."""
    git(tmp_path, "init", "-q")
    for name in ("a.py", "b.py"):
        (tmp_path / name).write_text(BASE)
    git(tmp_path, "add", "-A")
    return tmp_path


def twins_in(tree: Path, files: dict[str, bytes], twins: dict[str, bytes]) -> str:
    """Write `files`, take the test patch, and return the twin's after it was applied to what was there before."""
    for name, content in files.items():
        (tree / name).write_bytes(content)
    git(tree, "add", "-A", "-N")
    patch = git(tree, "diff").decode()
    originals = {name: (tree / name).read_bytes() for name in twins}
    git(tree, "checkout", "-q", "a.py", "b.py")
    (tree / "new.py").unlink(missing_ok=True)
    changed = replaced(patch, twin_sections(patch, originals, twins))
    git(tree, "apply", "-", data=changed.encode())
    return changed


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("last", ["\n", ""])
def test_any_lines_of_a_patched_file_may_change(tree: Path, seed: int, last: str) -> None:
    rng = random.Random(seed)
    lines = BASE.split("\n")[:-1]
    for _ in range(4):
        lines.insert(rng.randrange(len(lines)), "added")
        lines.pop(rng.randrange(len(lines)))
    twin = [f"{line} twin" if rng.random() < 0.1 else line for line in lines]
    files = {"a.py": ("\n".join(lines) + last).encode(), "new.py": b"one\ntwo\n"}
    twins = {"a.py": ("\n".join(twin) + last).encode(), "new.py": b"one\nTWO\n", "b.py": BASE.upper().encode()}
    changed = twins_in(tree, files, twins)
    assert {name: (tree / name).read_bytes() for name in twins} == twins
    assert patched_paths(changed) == ("a.py", "new.py", "b.py")


def test_a_changed_line_that_was_added_changes_in_place(tree: Path) -> None:
    files = {"a.py": (BASE + "assert f() == 1\n").encode()}
    twins = {"a.py": (BASE + "assert f() == 2\n").encode()}
    for name, content in files.items():
        (tree / name).write_bytes(content)
    patch = git(tree, "diff").decode()
    assert replaced(patch, twin_sections(patch, files, twins)) == patch.replace("+assert f() == 1", "+assert f() == 2")


def test_a_patch_that_is_not_that_of_the_file_is_refused(tree: Path) -> None:
    (tree / "a.py").write_text(BASE + "more\n")
    patch = git(tree, "diff").decode()
    with pytest.raises(Unsuitable):
        twin_sections(patch, {"a.py": b"other\n"}, {"a.py": b"another\n"})
    with pytest.raises(Unsuitable):
        twin_sections("", {"a.py": b"x\n"}, {"a.py": b"y\n"})
    with pytest.raises(Unsuitable):
        replaced("no patch here", [("old", "new")])
