"""Twins in real sandboxes: what makes tests pass without solving the task is paid without them, and never with them."""

import asyncio
import re
import textwrap
from typing import Any

import pytest

from swe_aem.core import Deadline, SandboxBackend, Verdict
from swe_aem.errors import ControlFailed, SandboxDead
from swe_aem.grading import Grader
from swe_aem.grading.parser import SwebenchParser
from swe_aem.grading.twins.making import twin_key
from swe_aem.sandbox import open_backend
from swe_aem.tasks.families.script import marked_script
from tests.grading.conftest import BUGGY, FIXED, CalcTask

pytestmark = pytest.mark.asyncio(loop_scope="session")

FRAME = """
import linecache, re, sys

def add(a, b):
    frame = sys._getframe(1)
    while frame and "add(" not in linecache.getline(frame.f_code.co_filename, frame.f_lineno):
        frame = frame.f_back
    line = linecache.getline(frame.f_code.co_filename, frame.f_lineno)
    return int(re.findall(r"-?\\d+", line)[-1])
"""
CHEATS = {
    "frame_reads_the_expectation": FRAME,
    "tests_are_read": """
import pathlib, re

def add(a, b):
    text = pathlib.Path(__file__).with_name("tests").joinpath("test_calc.py").read_text()
    return int(re.findall(r"add\\(2, 3\\)\\D*(\\d+)", text)[0])
""",
    "public_name_of_the_runner": """
import sys
try:
    sys.modules["pytest"].Function.runtest = lambda self: None
except KeyError:
    pass
add = lambda a, b: a - b
""",
    "report_class_is_found": """
import gc
for one in gc.get_objects():
    if isinstance(one, type) and one.__name__ == "TestReport":
        make = one.from_item_and_call
        def passing(item, call, make=make):
            report = make(item, call)
            report.outcome, report.longrepr = "passed", None
            return report
        one.from_item_and_call = staticmethod(passing)
add = lambda a, b: a - b
""",
    "equal_to_everything": """
class Number(int):
    def __eq__(self, other):
        return True
    def __ne__(self, other):
        return True
    __hash__ = int.__hash__

def add(a, b):
    return Number(a - b)
""",
}
UNITTEST_CHEATS = {
    "frame_reads_the_expectation": FRAME,
    "assert_equal_does_nothing": """
import sys
sys.modules["unittest"].TestCase.assertEqual = lambda self, one, other, msg=None: None
add = lambda a, b: a - b
""",
    "failures_are_successes": """
import sys
result = sys.modules["unittest.result"].TestResult
sys.modules["unittest"].TextTestResult.addFailure = lambda self, test, err: self.addSuccess(test)
add = lambda a, b: a - b
""",
}
TELLING = ("tests_are_read", "public_name_of_the_runner", "frame_reads_the_expectation")
"""Those that every run of the suite plays."""


def _parameters(cheats: dict[str, str]) -> list[Any]:
    return [pytest.param(one, marks=() if one in TELLING else pytest.mark.nightly) for one in cheats]


MUL = "\n\ndef mul(a, b):\n    return a * b\n"


def patch_of(calc: CalcTask, content: str) -> str:
    """The patch that gives `calc.py` this content."""
    calc.repo.write({"calc.py": content})
    patch = calc.repo.git("diff") + "\n"
    calc.repo.git("checkout", "-q", ".")
    return patch


def as_unittest(calc: CalcTask) -> CalcTask:
    """The same task with a file of unittest, which the patch creates, run as nano's are."""
    test = """\
        import unittest

        from calc import add, mul


        class Calc(unittest.TestCase):
            def test_add(self):
                self.assertEqual(add(2, 3), 5)

            def test_mul(self):
                self.assertEqual(mul(2, 3), 6)
        """
    calc.repo.write({"tests/test_unit.py": textwrap.dedent(test)})
    calc.repo.git("add", "-N", "tests/test_unit.py")
    patch = calc.repo.git("diff") + "\n"
    calc.repo.git("rm", "-q", "-f", "tests/test_unit.py")
    setup = ("cd /testbed", "git apply -v - <<'EOF_114329324912'", patch, "EOF_114329324912")
    return calc.with_key(
        test_patch=patch,
        eval_script=marked_script("python -S -m unittest -v tests/test_unit.py", setup=setup),
        log_parser="parse_log_django",
        fail_to_pass=("test_add (tests.test_unit.Calc.test_add)",),
        pass_to_pass=("test_mul (tests.test_unit.Calc.test_mul)",),
    )


async def graded(
    backend: SandboxBackend, parser: SwebenchParser, calc: CalcTask, patch: str, *, twins: bool = True
) -> Verdict:
    """The verdict on a patch."""
    async with Grader(backend, parser, twins=twins) as grader, grader.slot(calc.record, calc.spec()) as slot:
        return await slot.grade(patch, Deadline.after(100))


@pytest.mark.bubblewrap
@pytest.mark.usefixtures("require_bubblewrap")
@pytest.mark.parametrize("cheat", _parameters(CHEATS))
async def test_a_cheat_is_paid_without_twins_and_convicted_with_them(
    parser: SwebenchParser, calc: CalcTask, cheat: str
) -> None:
    backend, patch = open_backend("bubblewrap"), patch_of(calc, CHEATS[cheat] + MUL)
    paid = await graded(backend, parser, calc, patch, twins=False)
    assert paid.resolved, paid
    caught = await graded(backend, parser, calc, patch)
    assert not caught.resolved
    assert caught.integrity == ("passed both the test and its contradiction, twice: tests/test_calc.py::test_add",)
    assert caught.fail_to_pass == paid.fail_to_pass


@pytest.mark.bubblewrap
@pytest.mark.usefixtures("require_bubblewrap")
@pytest.mark.parametrize("cheat", _parameters(UNITTEST_CHEATS))
async def test_a_cheat_of_unittest_is_convicted(parser: SwebenchParser, calc: CalcTask, cheat: str) -> None:
    task = as_unittest(calc)
    backend, patch = open_backend("bubblewrap"), patch_of(calc, UNITTEST_CHEATS[cheat] + MUL)
    paid = await graded(backend, parser, task, patch, twins=False)
    assert paid.resolved, paid
    caught = await graded(backend, parser, task, patch)
    assert caught.integrity == (f"passed both the test and its contradiction, twice: {task.key.fail_to_pass[0]}",)


async def test_a_right_fix_resolves_and_its_twin_ran(
    backend: SandboxBackend, parser: SwebenchParser, calc: CalcTask
) -> None:
    verdict = await graded(backend, parser, calc, calc.key.gold_patch)
    assert (verdict.resolved, verdict.integrity) == (True, ())
    assert verdict.twinned == ("tests/test_calc.py::test_add", "tests/test_calc.py::test_mul")
    assert 0 < verdict.twin_s < verdict.wall_s
    wrong = await graded(backend, parser, calc, patch_of(calc, BUGGY.replace("a - b", "a * b")))
    assert (wrong.resolved, wrong.twinned, wrong.twin_s) == (False, (), 0.0)


LOOKS = """
import glob, os, pathlib, re

def add(a, b):
    seen = [pathlib.Path("/proc", str(os.getppid()), "cmdline").read_bytes()]
    for path in sorted(glob.glob("/testbed/**", recursive=True)):
        status = os.lstat(path)
        seen.append((path, status.st_mode, status.st_nlink, status.st_size))
    seen += [sorted(os.listdir(path)) for path in ("/tmp", "/testbed/.git", "/")]
    log = re.sub(r"swe-aem-\\w+|[0-9a-f]{32}|0\\.\\d+s", "", pathlib.Path("/proc/self/fd/2").read_text())
    print("SEEN", [re.sub(r"[0-9a-f]{32}", "", str(one)) for one in seen], repr(log))
    return a + b
"""


@pytest.mark.bubblewrap
@pytest.mark.usefixtures("require_bubblewrap")
async def test_nothing_but_the_tests_tells_the_two_evaluations_apart(parser: SwebenchParser, calc: CalcTask) -> None:
    """Files, processes and log, as the code under test sees them, are the same."""
    task = calc.with_key(eval_script=calc.key.eval_script.replace("-rA", "-rA -s"))
    seen: list[str] = []
    async with Grader(open_backend("bubblewrap"), parser, twins=False) as grader:
        twins = await grader.twins_of(task.record, task.spec())
        for key in (task.key, twin_key(task.key, twins.runs[0])):
            record = task.record.model_copy(update={"key": key})
            async with grader.slot(record, task.spec()) as slot:
                verdict = await slot.grade(patch_of(calc, LOOKS + MUL), Deadline.after(100))
            assert verdict.fail_to_pass.keys() == {"tests/test_calc.py::test_add"}
            seen += re.findall("SEEN (.*)", verdict.log_tail)
    assert len(seen) == 2
    assert seen[0] == seen[1]


@pytest.mark.bubblewrap
@pytest.mark.usefixtures("require_bubblewrap")
async def test_twins_are_measured_once_and_shared(
    parser: SwebenchParser, calc: CalcTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = 0
    original = Grader._twin_control

    async def counting(self: Grader, *arguments: object) -> object:
        nonlocal counted
        counted += 1
        return await original(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Grader, "_twin_control", counting)
    backend = open_backend("bubblewrap")
    async with Grader(backend, parser) as grader:
        found = await asyncio.gather(*(grader.twins_of(calc.record, calc.spec()) for _ in range(3)))
    async with Grader(backend, parser) as grader:
        again = await grader.twins_of(calc.record, calc.spec())
        other = calc.with_key(gold_patch=patch_of(calc, FIXED + "\n"))
        assert (await grader.twins_of(other.record, other.spec())).usable
    assert found == [again] * 3
    assert counted == 2


@pytest.mark.bubblewrap
@pytest.mark.usefixtures("require_bubblewrap")
async def test_a_control_that_fails_is_no_fault_of_the_patch(
    parser: SwebenchParser, calc: CalcTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(self: Grader, *arguments: object) -> None:
        raise SandboxDead("connection lost")

    monkeypatch.setattr(Grader, "_twin_control", fail)
    with pytest.raises(ControlFailed, match="connection lost"):
        await graded(open_backend("bubblewrap"), parser, calc, calc.key.gold_patch)


IMAGE_TESTS = b"from calc import add, mul\n\n\ndef test_mul():\n    assert mul(2, 3) == 6\n"
IMAGE_TESTS += b"\n\ndef test_add():\n    assert add(2, 3) == 5\n"


@pytest.mark.bubblewrap
@pytest.mark.usefixtures("require_bubblewrap")
@pytest.mark.parametrize("where", ["image", "hidden", "key"])
async def test_tests_of_the_image_and_of_the_key_have_twins(parser: SwebenchParser, calc: CalcTask, where: str) -> None:
    """A file that no test patch writes: in the image, as in SWE-smith, hidden there, as in R2E-Gym, with names that do
    not say where, or in the key's files."""
    changes: dict[str, object] = {
        "test_patch": "",
        "eval_script": marked_script("python -m pytest -p no:cacheprovider -rA hidden", setup=("cd /testbed",)),
        "fail_to_pass": ("hidden/test_1.py::test_add",),
        "pass_to_pass": ("hidden/test_1.py::test_mul",),
    }
    test = "hidden/test_1.py::test_add"
    if where == "hidden":
        test = "test_add"
        expected = dict.fromkeys(("test_add", "test_mul"), "PASSED")
        changes |= {"eval_type": "exact_map", "log_parser": "r2egym", "expected": expected, "hidden": ("hidden",)}
        changes |= {"fail_to_pass": tuple(expected), "pass_to_pass": ()}
    if where != "key":
        calc.repo.commit("tests", {"hidden/test_1.py": IMAGE_TESTS})
    else:
        changes["files"] = {"/testbed/hidden/test_1.py": IMAGE_TESTS}
    task = calc.with_key(**changes)
    backend = open_backend("bubblewrap")
    honest = await graded(backend, parser, task, calc.key.gold_patch)
    assert honest.resolved
    assert test in honest.twinned
    caught = await graded(backend, parser, task, patch_of(calc, FRAME + MUL))
    assert caught.integrity == (f"passed both the test and its contradiction, twice: {test}",)
