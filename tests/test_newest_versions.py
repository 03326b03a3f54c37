"""How `tests.newest_versions` reads what pytest says."""

import sys
from pathlib import Path

import pytest

from tests.newest_versions import LIBRARIES, ROOT, main, run_tests

TESTS = """
import pytest

def test_passes(): pass

@pytest.mark.skip
def test_is_skipped(): pass

@pytest.mark.parametrize("n", [1, 2])
def test_fails(n): assert n == 1, "told"

@pytest.mark.nightly
def test_is_another(): assert False
"""


def test_what_failed_is_named_so_that_it_can_be_run_alone(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.pytest.ini_options]\nmarkers = ["nightly: x"]\n')
    one, two = tmp_path / "test_one.py", tmp_path / "test_two.py"
    one.write_text(TESTS)
    two.write_text("import nothing_of_that_name\n")
    options = [f"--rootdir={tmp_path}", "-p", "no:cacheprovider", "-n0"]
    ran = run_tests(sys.executable, [*options, str(tmp_path)], {}, mark="not nightly")
    assert (ran.passed, ran.skipped) == (2, 1)
    assert ran.failed == {
        "test_one.py::test_fails[2]": "AssertionError: told",
        "test_two.py": "ModuleNotFoundError: No module named 'nothing_of_that_name'",
    }


def test_each_library_has_tests() -> None:
    marked = {path: path.read_text() for path in (ROOT / "tests").rglob("test_*.py")}
    for library in LIBRARIES:
        assert any(f"contract({library}=True" in text or f", {library}=True)" in text for text in marked.values())


def test_an_unknown_library_is_refused() -> None:
    with pytest.raises(SystemExit, match="no library torch: choose among trl, transformers, vllm"):
        main(["torch"])
