"""The witness in real sessions of pytest and unittest: what it records, and what it leaves for the code under test."""

import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from swe_aem.core import Deadline
from swe_aem.grading import evaluation
from swe_aem.grading.evaluation import evaluate
from swe_aem.grading.log_file import LogFile
from swe_aem.grading.log_reading import read_text, statuses_of
from swe_aem.grading.markers import CODE_MARKER, END_MARKER, START_MARKER
from swe_aem.grading.shell import script_text
from swe_aem.grading.witness import Record, Witness, join_records, read_records
from swe_aem.tasks.families.log_parsers import log_parser

SCRIPT = f"""#!/bin/bash
set -uxo pipefail
: '{START_MARKER}'
COMMAND
SWEBENCH_TEST_EXIT_CODE=$?
: '{END_MARKER}'
echo "{CODE_MARKER}: $SWEBENCH_TEST_EXIT_CODE"
"""
PYTEST = "python -m pytest -p no:cacheprovider"
LOOK = """
import os, subprocess, sys

def look():
    child = "import os, sys; print([k for k in os.environ if 'SWE_AEM' in k], [p for p in sys.path if 'private' in p])"
    assert [name for name in os.environ if "SWE_AEM" in name] == []
    assert "private" not in os.environ.get("PYTHONPATH", "")
    assert [path for path in sys.path if "private" in path] == []
    assert subprocess.check_output([sys.executable, "-c", child]).split() == [b"[]", b"[]"]
    names = [entry.partition(b"=") for entry in open("/proc/self/environ", "rb").read().split(b"\\0")]
    assert [value for name, _, value in names if b"SWE_AEM" in name and set(value) != set(b"-")] == []
    assert "sitecustomize" not in sys.modules or not hasattr(sys.modules["sitecustomize"], "_witness")
"""
"""What code under test sees: no key, no path, no file name, neither in its environment nor in that of its children."""
FILES = {
    "look.py": LOOK,
    "test_x.py": """
        import unittest
        import pytest
        from look import look

        def test_clean(): look()
        def test_wrong(): assert 0
        @pytest.mark.xfail
        def test_excused(): assert 0
        @pytest.mark.xfail
        def test_surprising(): pass
        @pytest.mark.skip
        def test_skipped(): pass
        @pytest.fixture
        def bad():
            yield
            assert 0
        def test_teardown(bad): pass
        @pytest.fixture
        def worse(): assert 0
        def test_setup(worse): pass
        @pytest.mark.parametrize("x", ["a b", "a c"])
        def test_cut(x): assert x != "a b"
    """,
    "test_y.py": "def test_other(): pass\n",
    "test_u.py": """
        import io
        import unittest
        from look import look

        class T(unittest.TestCase):
            def test_clean(self): look()
            def test_wrong(self): self.fail()
            def test_error(self): raise ValueError
            def test_words(self):
                \"\"\"Said in words.\"\"\"
            @unittest.skip("no")
            def test_skipped(self): pass
            @unittest.expectedFailure
            def test_excused(self): self.fail()
            @unittest.expectedFailure
            def test_surprising(self): pass
            def test_parts(self):
                for n in range(3):
                    with self.subTest(n=n):
                        self.assertNotEqual(n, 1)
            def test_session_within(self):
                class T(unittest.TestCase):
                    def test_wrong(self): pass
                T.__qualname__ = type(self).__qualname__
                suite = unittest.defaultTestLoader.loadTestsFromTestCase(T)
                unittest.TextTestRunner(stream=io.StringIO()).run(suite)
        if __name__ == "__main__":
            unittest.main()
    """,
    "test_sub.py": """
        import unittest

        class T(unittest.TestCase):
            def test_bad(self):
                for n in range(3):
                    with self.subTest(n=n):
                        self.assertNotEqual(n, 1)
            def test_good(self):
                for n in range(3):
                    with self.subTest(n=n):
                        self.assertLess(n, 3)
    """,
    "run.sh": "# a script of the image\npytest -p no:cacheprovider -q test_x.py\npython -m pytest -q test_y.py\n",
    "both.mk": "all:\n\tpython -m pytest -q test_y.py\n\tpython -m pytest -q test_sub.py || true\n",
    "runtests.py": "import subprocess, sys\nsys.exit(subprocess.call([sys.executable, '-m', 'pytest', 'test_y.py']))\n",
    "plain.py": """
        import sys, unittest
        suite = unittest.defaultTestLoader.loadTestsFromNames(sys.argv[1:])
        result = unittest.TextTestResult(sys.stdout, True, 0)
        suite.run(result)
        sys.exit(not result.wasSuccessful())
    """,
    "main.py": "import sys, pytest\nsys.exit(pytest.main(['-q', 'test_x.py']) or pytest.main(['-q', 'test_y.py']))\n",
}
OF_X = {
    "test_x.py::test_clean": "PASSED",
    "test_x.py::test_wrong": "FAILED",
    "test_x.py::test_excused": "XFAIL",
    "test_x.py::test_teardown": "ERROR",
    "test_x.py::test_setup": "ERROR",
    "test_x.py::test_cut[a": "FAILED",
}
OF_Y = {"test_y.py::test_other": "PASSED"}
OF_SUB = {"test_sub.py::T::test_bad": "FAILED", "test_sub.py::T::test_good": "PASSED"}


@dataclass
class Ran:
    """What one evaluation left."""

    file: LogFile
    log: str
    records: list[Record]

    def statuses(self, parser: str = "parse_log_pytest") -> dict[str, str]:
        """The results by the parser's names, without what is no test."""
        found = statuses_of(log_parser(parser), self.records)
        return {test: status for test, status in found.items() if test not in log_parser(parser).no_tests}

    @property
    def idle(self) -> bool:
        """Did no session take the key?"""
        return f"\n{self.file.idle}\n" in self.log.rpartition(self.file.end)[2]


@pytest.fixture
def run(at: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Evaluate a test command on this machine, in a directory with `FILES`."""
    monkeypatch.delenv("PYTHONPATH", raising=False)
    for name in [name for name in os.environ if name.startswith("SWE_AEM_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    tree = tmp_path / "tree"
    tree.mkdir()
    for name, content in FILES.items():
        (tree / name).write_text(textwrap.dedent(content))

    async def run(command: str, files: dict[str, str] = {}) -> Ran:  # noqa: B006
        for name, content in files.items():
            (tree / name).write_text(textwrap.dedent(content))
        script = SCRIPT.replace("COMMAND", command)
        done = await evaluate(at(tree), script, str(tree), 100.0, Deadline.after(110), tmp_path)
        assert done.log is not None
        assert done.log.record is not None
        assert done.log.record_key is not None
        assert done.log.record_key not in read_text(done.log)
        records = read_records(done.log.record.read_bytes(), done.log.record_key)
        return Ran(done.log, read_text(done.log), records)

    return run


COMMANDS = {
    f"{PYTEST} -rA test_x.py": OF_X,
    "pytest -q -q -p no:cacheprovider test_x.py": OF_X,
    "pytest -p no:cacheprovider -p no:terminal test_x.py": OF_X,
    "python -W ignore -m pytest --color=yes --tb=no test_x.py": OF_X,
    f"{PYTEST} -n 2 -p xdist test_x.py": OF_X,
    f"{PYTEST} -v test_sub.py": OF_SUB,
    f"PYTHONPATH=. {PYTEST} test_x.py": OF_X,
    f"PYTHONPATH='a b':lib PYTEST_ADDOPTS=--tb=short {PYTEST} test_x.py": OF_X,
    f"export PYTHONPATH=lib:${{PYTHONPATH-}}; {PYTEST} test_x.py": OF_X,
    "python -S -m pytest --version; python -E -m pytest -q test_y.py": OF_Y,
    "python -Im pytest --version; python -bEm pytest -q test_y.py": OF_Y,
    f"{PYTEST} test_x.py\n{PYTEST} test_y.py": OF_X | OF_Y,
    f"(cd . && {PYTEST} test_x.py) || {PYTEST} test_y.py && {PYTEST} test_sub.py": OF_X | OF_Y | OF_SUB,
    "bash run.sh": OF_X | OF_Y,
    "sh -c 'bash run.sh; exec python -m pytest test_sub.py'": OF_X | OF_Y | OF_SUB,
    "make -f both.mk": OF_Y | OF_SUB,
    "python main.py": OF_X,
    "python runtests.py": OF_Y,
    f"mkdir sub; cd sub; {PYTEST} --rootdir=.. ../test_y.py": {"../test_y.py::test_other": "PASSED"},
    "coverage run -m pytest test_y.py": OF_Y,
    f"{PYTEST} test_y.py; {PYTEST} test_y.py test_x.py -k 'other or clean' ": OF_Y
    | {"test_x.py::test_clean": "PASSED"},
}


@pytest.mark.parametrize("command", COMMANDS)
async def test_a_record_of_each_session_of_pytest(run: Any, command: str) -> None:
    for needed in ("make", "coverage"):
        if command.startswith(needed) and shutil.which(needed) is None:
            pytest.skip(f"{needed} is not here")
    done = await run(command)
    assert done.statuses() == COMMANDS[command], done.log
    assert not done.idle
    assert "_witness" not in done.log


OF_U = {
    "test_clean (test_u.T.test_clean)": "PASSED",
    "test_wrong (test_u.T.test_wrong)": "FAILED",
    "test_error (test_u.T.test_error)": "ERROR",
    "Said in words.": "PASSED",
    "test_skipped (test_u.T.test_skipped)": "SKIPPED",
    "test_surprising (test_u.T.test_surprising)": "FAILED",
    "test_parts (test_u.T.test_parts)": "FAILED",
    "test_session_within (test_u.T.test_session_within)": "PASSED",
}


@pytest.mark.parametrize(
    "command",
    [
        "python -m unittest -v test_u.py",
        "python -S -m unittest test_u",
        "python -B -E -W ignore -m unittest discover -v -p test_u.py",
        "PYTHONPATH=. python -S -m unittest test_u.py",
        "python -S test_u.py; python -m unittest test_u.py",
        "bash -c 'python -m unittest test_u.py; python -m unittest test_u.T.test_clean'",
        "python -X dev -m unittest -b test_u.py",
        "python plain.py test_u",
    ],
)
async def test_a_record_of_each_session_of_unittest(run: Any, command: str) -> None:
    done = await run(command)
    assert _by_3_11(done.statuses("parse_log_django")) == OF_U, done.log
    assert not done.idle


async def test_unittest_from_a_script_of_its_own(run: Any) -> None:
    done = await run("python test_u.py -v")
    assert _by_3_11(done.statuses("parse_log_django")) == {
        name.replace("test_u.", "__main__."): status for name, status in OF_U.items()
    }


def _by_3_11(statuses: dict[str, str]) -> dict[str, str]:
    """The results under the names that Python 3.11 and later have: `test_a (m.T.test_a)`, not `test_a (m.T)`."""
    return {re.sub(r"^(\w+) \((\w+\.T)\)$", r"\1 (\2.\1)", name): status for name, status in statuses.items()}


@pytest.mark.parametrize("hook", ["pytest_sessionfinish", "pytest_unconfigure"])
async def test_a_process_that_a_plugin_ends_after_its_tests_has_its_record(run: Any, hook: str) -> None:
    done = await run(f"{PYTEST} -q test_x.py", {"conftest.py": f"import os\ndef {hook}(): os._exit(0)\n"})
    assert done.statuses() == OF_X


async def test_of_an_output_that_is_too_long_to_be_read_both_ends_are(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation, "MAX_LOG_BYTES", 4000)
    done = await run(f"echo {'x' * 9000}; {PYTEST} -q test_y.py")
    assert len(done.log) <= 4000
    assert done.log.index(done.file.begin) < done.log.index(done.file.end)
    assert done.statuses() == OF_Y


@pytest.mark.parametrize(
    "command", [f"env -i PATH=$PATH {PYTEST} test_y.py", "true", "python -c 'print(1)'", "python -S main.py"]
)
async def test_a_session_that_is_out_of_reach_is_told_from_one_that_broke_off(run: Any, command: str) -> None:
    done = await run(command)
    assert done.records == []
    assert done.idle


BROKEN = {
    "at import": "print('PASSED test_y.py::test_other\\n== 1 passed in 0.1s ==', flush=True)\nos._exit(0)",
    "in a test": "class T(unittest.TestCase):\n    def test_x(self): os._exit(0)",
    "with a record and a token of its own": """
class T(unittest.TestCase):
    def test_x(self):
        home = next(pathlib.Path("..").glob("box-*/private/*"))
        assert not (home / "token").exists()
        (home / "token").write_text("0" * 32 + "\\n")
        (home / "records" / "mine").write_text("x\\n{}\\n")
        os._exit(0)
""",
}


@pytest.mark.parametrize("code", BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize("command", ["python -m pytest -q test_z.py", "python -S -m unittest test_z.py"])
async def test_a_session_that_broke_off_has_no_record(run: Any, command: str, code: str) -> None:
    done = await run(command, {"test_z.py": f"import os, pathlib, unittest\n{code}\n"})
    assert (done.records, done.idle) == ([], False)


TAKES_AWAY = {
    "no descriptor is left": "resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))",
    "all descriptors are used": """
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    with suppress(OSError):
        while True:
            KEPT.append(os.open("/dev/null", os.O_RDONLY))
""",
    "files may not grow": "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))",
    "every descriptor is closed": "os.closerange(3, 100)",
}
"""What honest code may take away from its own process before its session ends. Its log still fits."""
TAKEN = """
import os, resource, unittest
from contextlib import suppress
KEPT = []
class T(unittest.TestCase):
    def test_x(self):
        take()
for n in range(60):
    setattr(T, "test_%d_%s" % (n, "x" * 100), lambda self: None)
def take():
    CODE
"""


@pytest.mark.parametrize("code", TAKES_AWAY.values(), ids=TAKES_AWAY)
@pytest.mark.parametrize(
    ("command", "name", "parser"),
    [
        (f"{PYTEST} -q --tb=no -p no:faulthandler --capture=no --show-capture=no --no-summary test_z.py",
         "test_z.py::T::test_x", "parse_log_pytest"),
        ("python -S -m unittest -b test_z.py", "test_x (test_z.T.test_x)", "parse_log_django"),
    ],
)  # fmt: skip
async def test_a_record_needs_nothing_that_code_may_take_away(
    run: Any, command: str, name: str, parser: str, code: str
) -> None:
    done = await run(command, {"test_z.py": TAKEN.replace("CODE", code.strip())})
    assert _by_3_11(done.statuses(parser))[name] == "PASSED", done.log


async def test_a_record_takes_the_space_that_it_needs(run: Any) -> None:
    """Less than what was reserved for it, and more."""
    many = f"""
        import pytest
        class Test{"x" * 1000}:
            @pytest.mark.parametrize("n", range(COUNT))
            def test_z(self, n): pass
    """
    for count in (1, 2500):
        done = await run(f"{PYTEST} -q test_z.py", {"test_z.py": many.replace("COUNT", str(count))})
        assert len(done.statuses()) == count
        assert done.file.record is not None
        size = done.file.record.stat().st_size
        assert 1000 * count < size < 1200 * count


ENDS = {
    "by exiting": "import os\ndef pytest_unconfigure(config): os._exit(0)\n",
    "with an error": "def pytest_unconfigure(config): raise OSError\n",
}
"""What the `conftest.py` of a repository does when its session is over."""


@pytest.mark.parametrize("code", ENDS.values(), ids=ENDS)
async def test_a_session_is_recorded_before_a_conftest_ends_it(run: Any, code: str) -> None:
    done = await run(f"{PYTEST} test_y.py", {"conftest.py": code})
    assert done.statuses() == OF_Y, done.log


async def test_a_description_that_is_no_unicode_costs_no_record(run: Any) -> None:
    code = r"""
        import unittest
        class T(unittest.TestCase):
            def test_x(self): "\udcff"
    """
    done = await run("python -m unittest -v test_z.py", {"test_z.py": code})
    assert [status for record in done.records for _, status in record.results] == ["PASSED"], done.log


async def test_the_witness_leaves_the_images_own_start_as_it_is(run: Any) -> None:
    """The image's own `sitecustomize` runs too, and a module of that name stays what it is."""
    files = {
        "sitecustomize.py": "OURS = 1\n",
        "test_z.py": "def test_z():\n    import sitecustomize\n    assert sitecustomize.OURS\n",
    }
    done = await run("PYTHONPATH=. python -m pytest -q test_z.py", files)
    assert done.statuses() == {"test_z.py::test_z": "PASSED"}, done.log


def test_the_witness_is_valid_for_old_pythons() -> None:
    code = "import ast, sys; ast.parse(sys.stdin.read(), feature_version=(3, 5))"
    subprocess.run([sys.executable, "-c", code], input=script_text("witness.py"), text=True, check=True)


@pytest.mark.parametrize(
    ("line", "becomes"),
    [
        ("python -S -m unittest -v t.py", "python -S DIR/sitecustomize.py unittest -v t.py"),
        (
            "A=1 .venv/bin/python3.9 -W ignore -Es -m pytest x",
            "A=1 .venv/bin/python3.9 -W ignore -Es DIR/sitecustomize.py pytest x",
        ),
        ("python -Im pytest x", "python -I DIR/sitecustomize.py pytest x"),
        ("python -Impytest x", "python -I DIR/sitecustomize.py pytest x"),
        ("python3 -S -munittest x", "python3 -S DIR/sitecustomize.py unittest x"),
        ("python -BbSm unittest -v x", "python -BbS DIR/sitecustomize.py unittest -v x"),
        ("python -IWignore -m pytest x", "python -IWignore DIR/sitecustomize.py pytest x"),
        (
            "python -IW 'ignore::a b' '-X' dev -m 'pytest' x",
            "python -IW 'ignore::a b' '-X' dev DIR/sitecustomize.py pytest x",
        ),
        (
            "python --check-hash-based-pycs never -I -m pytest",
            "python --check-hash-based-pycs never -I DIR/sitecustomize.py pytest",
        ),
        (
            "(cd a && pypy3 -Im pytest x); python3.13t -Sm unittest",
            "(cd a && pypy3 -I DIR/sitecustomize.py pytest x); python3.13t -S DIR/sitecustomize.py unittest",
        ),
        ("bash -c 'python -Im pytest x'", "bash -c 'python -I DIR/sitecustomize.py pytest x'"),
        ("python -WI -m pytest x", "python -WI -m pytest x"),
        ("python -X S -m pytest x", "python -X S -m pytest x"),
        ("python -Ic 'import x' -m pytest", "python -Ic 'import x' -m pytest"),
        ("python -I x.py -m pytest", "python -I x.py -m pytest"),
        ("python -I -- -m pytest", "python -I -- -m pytest"),
        ("python -I; python -m pytest", "python -I; python -m pytest"),
        ("mypython -I -m pytest", "mypython -I -m pytest"),
        ("python -I -m", "python -I -m"),
        ("python -m unittest -S", "python -m unittest -S"),
        ("python -X dev -m pytest x", "python -X dev -m pytest x"),
        ("python -W error::SyntaxWarning -m pytest", "python -W error::SyntaxWarning -m pytest"),
        ("python -I -m pytester x", "python -I -m pytester x"),
        ("PYTHONPATH=. pytest; MYPYTHONPATH=1 x", "PYTHONPATH=DIR:. pytest; MYPYTHONPATH=1 x"),
    ],
)
def test_commands_that_would_leave_the_witness_out(line: str, becomes: str) -> None:
    witness = Witness.in_directory("/private")
    assert witness.command(line).replace(witness.directory, "DIR") == becomes


def test_nothing_secret_is_in_the_witnesss_files() -> None:
    witness = Witness.in_directory("/private")
    setup = "\n".join(witness.setup())
    file = setup.partition("sitecustomize.py <<")[2].partition(f"\nEOF_{witness.variable}\n")[0]
    assert witness.variable in file
    assert witness.key not in file
    assert witness.token_text not in file
    assert setup.endswith("} 2>/dev/null")


def test_records_are_joined_whatever_lies_among_them() -> None:
    assert join_records([b"a\nb\n", None, b"", b"c"]) == b"a\nb\n\nc"
    assert read_records(json.dumps({"runner": "pytest"}).encode(), "key") == []


AGES = [
    ("3.10.1", "3.7"), ("4.6.11", "3.8"), ("5.4.3", "3.8"), ("6.2.5", "3.9"), ("7.4.4", "3.10"), ("8.3.5", "3.11"),
    ("9.0.1", "3.12"),
]  # fmt: skip
PLUGINS = ("pytest-subtests", "pytest-xdist", "pytest-rerunfailures", "pytest-cov", "pytest-timeout", "pytest-asyncio")
_LATER = ("--exclude-newer-package", "atomicwrites=2023-01-01", "--exclude-newer-package", "execnet=2022-01-01")
OF_ITS_TIME = {
    "4.6.11": ("--exclude-newer", "2020-06-10", *_LATER),
    "5.4.3": ("--exclude-newer", "2020-07-25", *_LATER),
}
"""Options of `uv pip install`. The old atomicwrites is gone from the index; the old execnet hangs on this Python."""
WITH_PLUGINS = (
    "pytest -rA --reruns 1 test_r.py",
    "pytest -q -q -n 2 --reruns 1 test_r.py",
    "pytest -v --cov=. --cov-fail-under=100 --timeout 60 --reruns 1 --color=yes test_r.py",
)
RERUN = """
import os
import pytest

def test_second_time():
    try:
        os.mkdir("tried")
    except FileExistsError:
        return
    assert 0

@pytest.mark.asyncio
async def test_async(): pass

def test_wrong(): assert 0
"""


def environment(directory: Path, python: str, *packages: str) -> Path:
    """The programs of a new environment, from the package index."""
    uv = shutil.which("uv")
    if uv is None:
        pytest.skip("needs uv")
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), "versions")
    here = next(iter(pyenv.glob(f"{python}.*/bin/python")), python)
    made = subprocess.run([uv, "venv", "-q", "-p", here, directory], capture_output=True, text=True, timeout=300)
    if made.returncode:
        pytest.skip(f"needs Python {python}: {made.stderr.strip()}")
    subprocess.run([uv, "pip", "install", "-q", "-p", directory / "bin" / "python", *packages], check=True, timeout=300)
    return directory / "bin"


@pytest.mark.slow
@pytest.mark.nightly
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("version", "python"), AGES)
async def test_each_age_of_pytest(run: Any, tmp_path: Path, version: str, python: str) -> None:
    programs = environment(tmp_path / "environment", python, f"pytest=={version}")
    for command in (f"{PYTEST} -v test_x.py test_y.py", "bash run.sh"):
        done = await run(f"PATH={programs}:$PATH; {command}")
        assert done.statuses() == OF_X | OF_Y, done.log


@pytest.mark.slow
@pytest.mark.nightly
@pytest.mark.timeout(900)
@pytest.mark.parametrize("command", WITH_PLUGINS)
@pytest.mark.parametrize(("version", "python"), AGES[1:])
async def test_plugins_change_no_record(run: Any, tmp_path: Path, version: str, python: str, command: str) -> None:
    """Plugins of the time of each age of pytest: newer ones claim that they support it, and break it."""
    programs = environment(
        tmp_path / "environment", python, f"pytest=={version}", *PLUGINS, *OF_ITS_TIME.get(version, ())
    )
    ready = f"unset PYTEST_DISABLE_PLUGIN_AUTOLOAD; PATH={programs}:$PATH"
    done = await run(f"{ready}; {command} -p no:cacheprovider test_sub.py", {"test_r.py": RERUN})
    assert done.statuses() == OF_SUB | {
        "test_r.py::test_second_time": "PASSED",
        "test_r.py::test_async": "PASSED",
        "test_r.py::test_wrong": "FAILED",
    }, done.log


@pytest.mark.slow
@pytest.mark.nightly
@pytest.mark.timeout(900)
@pytest.mark.parametrize("pass_env", ["HOME", "PYTHONPATH", "*"])
async def test_tox(run: Any, tmp_path: Path, pass_env: str) -> None:
    """tox, as swebench's rows of sphinx run it, hides variables: the log decides unless it passes all of them on."""
    programs = environment(tmp_path / "environment", "3.9", "pytest==7.4.4", "tox<5")
    lines = [
        "[tox]", "skipsdist = true", "[testenv]", f"pass_env = {pass_env}", "allowlist_externals = *",
        f"commands = {programs}/python -m pytest -rA {{posargs}}",
    ]  # fmt: skip
    done = await run(f"PATH={programs}:$PATH; tox -e py39 -v -- test_y.py", {"tox.ini": "\n".join(lines)})
    assert "\nPASSED test_y.py::test_other\n" in done.log
    assert done.statuses() == (OF_Y if pass_env == "*" else {})
    assert done.idle == (pass_env != "*")
