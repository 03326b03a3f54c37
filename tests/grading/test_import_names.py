"""Which new files make names that Python could import in place of others, and what is found outside of a work tree."""

import os
import sys

import pytest

from swe_aem.errors import GraderError
from swe_aem.grading.import_names import NewName, is_in_front, names_outside, new_names
from swe_aem.grading.import_record import in_front_of_paths
from swe_aem.grading.shell import script_text

GIVEN = [
    "README.md", "docs", "docs/conf.py", "setup.py", "src", "src/pkg", "src/pkg/__init__.py", "src/pkg/data",
    "src/pkg/data/a.txt", "tests", "tests/test_a.py", "top", "top/__init__.py", "top/io.py", "plain", "plain/x.txt",
]  # fmt: skip


def made(*files):
    """The names that new files make, in order."""
    return [tuple(name) for names in new_names(files, set(GIVEN)).values() for name in names]


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (["repro.py"], [("", "repro", "module")]),
        (["pluggy.abi3.so"], [("", "pluggy", "module")]),
        (["x.cpython-312-x86_64-linux-gnu.so"], [("", "x", "module")]),
        (["pygments/__init__.py"], [("", "pygments", "module")]),
        (["pygments/a/b.py"], [("", "pygments", "namespace"), ("pygments", "a", "namespace"),
                               ("pygments/a", "b", "module")]),
        (["colorama/data.txt"], [("", "colorama", "namespace")]),
        (["src/newpkg/__init__.py", "src/newpkg/logging.py"], 2 * [("src", "newpkg", "module")]),
        (["src/logging.py"], [("src", "logging", "module")]),
        (["docs/conf_extra.py"], [("docs", "conf_extra", "module")]),
        (["scripts/helper.py"], [("", "scripts", "namespace"), ("scripts", "helper", "module")]),
        (["plain/__init__.py"], [("", "plain", "module")]),  # a namespace becomes a package
        (["plain/sub/y.txt"], []),
        (["docs/img/a.png"], []),
        # an __init__ of the patch takes no directory off a path that it was on
        (["src/__init__.py", "src/pytest.py"], [("", "src", "module"), ("", "src", "module"),
                                                ("src", "pytest", "module")]),
    ],
)  # fmt: skip
def test_names_that_can_be_imported_from_a_path(files, expected):
    assert made(*files) == expected


@pytest.mark.parametrize(
    "files",
    [
        ["top/logging.py"],
        ["top/new/logging.py", "top/new/__init__.py"],
        ["src/pkg/token.py"],
        ["src/pkg/data/token.py"],  # below a package
        ["NOTES.md"],
        ["repro-1.py"],
        ["docs/conf/__init__.py"],  # the repository has a module of that name there already
        ["top.py"],  # and a package
        ["top/__main__.py"],
    ],
)
def test_names_inside_of_packages_and_names_that_were_there_are_not_new(files):
    assert made(*files) == []


def test_a_namespace_is_in_front_of_namespaces_only():
    module, namespace = (NewName("", "x", kind) for kind in ("module", "namespace"))
    assert is_in_front(module, {"module"})
    assert is_in_front(module, {"namespace"})
    assert is_in_front(namespace, {"namespace"})
    assert not is_in_front(namespace, {"module"})
    assert not is_in_front(module, set())


async def test_interpreters_say_what_there_is_outside_of_the_work_tree(at, tmp_path, monkeypatch):
    work = tmp_path / "work tree"
    (work / "mine").mkdir(parents=True)
    (work / "mine/__init__.py").touch()
    (work / "logging.py").write_text("raise SystemExit('imported')\n")
    outside = tmp_path / "outside"
    (outside / "spread" / "a").mkdir(parents=True)
    (outside / "it's").mkdir()
    monkeypatch.setenv("PYTHONPATH", f"{work}:{outside}")
    names = ["logging", "sys", "pytest", "mine", "spread", "nowhere", "encodings", "zipimport"]
    seen = await names_outside(at(work), str(work), names)
    assert seen.has_python
    assert {name: set(kinds) for name, kinds in seen.found.items()} == {
        "logging": {"module"}, "sys": {"module"}, "pytest": {"module"}, "spread": {"namespace"},
        "encodings": {"module"}, "zipimport": {"module"},
    }  # fmt: skip


async def test_a_virtual_environment_in_the_work_tree_is_no_part_of_it(at, tmp_path, shell):
    work = tmp_path / "work"
    work.mkdir()
    shell(sys.executable, "-m", "venv", "--without-pip", work / ".venv")
    (site,) = (work / ".venv/lib").glob("python*/site-packages")
    (site / "only_there.py").touch()
    (work / "only_here.py").touch()
    seen = await names_outside(at(work), str(work), ["only_there", "only_here"])
    assert seen.found == {"only_there": {"module"}}


def test_paths_in_a_test_patch_are_not_those_of_commands():
    patch = "EOF_1 not yet\n PYTHONPATH=. pytest\n+PYTHONPATH=lib\n"
    script = (
        f"cd /testbed\ngit apply -v - <<'EOF_1'\n{patch}EOF_1\nPYTHONPATH=. pytest && env PYTHONPATH=src python x.py"
    )
    found = in_front_of_paths(script, "/ours")
    assert f"<<'EOF_1'\n{patch}EOF_1\n" in found
    assert found.endswith("PYTHONPATH=/ours:. pytest && env PYTHONPATH=/ours:src python x.py")


def interpreters(tmp_path, monkeypatch, script):
    """Puts a shell script in the place of Python."""
    place = tmp_path / "bin"
    place.mkdir()
    for name in ("python", "python3"):
        (place / name).write_text(f"#!/bin/sh\n{script}\n")
        (place / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{place}:{os.environ['PATH']}")


@pytest.mark.parametrize("script", ["echo 'ImportError: No module named site' >&2; exit 1", "exit 0", "kill -9 $$"])
async def test_an_interpreter_that_answers_nothing_is_none(at, tmp_path, monkeypatch, script):
    interpreters(tmp_path, monkeypatch, script)
    assert await names_outside(at(tmp_path), str(tmp_path), ["logging"]) == (False, {})


async def test_an_interpreter_that_answers_must_answer_for_new_names_too(at, tmp_path, monkeypatch):
    only_os = f'for last; do :; done; [ "$last" != os ] || exec {sys.executable} "$@"; echo broken; exit 1'
    interpreters(tmp_path, monkeypatch, only_os)
    with pytest.raises(GraderError, match="broken"):
        await names_outside(at(tmp_path), str(tmp_path), ["logging"])


def test_an_old_interpreter_says_nothing(shell, tmp_path):
    old = "import sys\nsys.modules['importlib.util'] = None\n" + script_text("resolve_names.py")
    done = shell(sys.executable, "-c", old, "token", tmp_path, "os")
    assert not done
