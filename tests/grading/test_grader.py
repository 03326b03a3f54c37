"""From a patch to a verdict, and whose fault it is when there is none."""

import asyncio
import time

import pytest

from swe_aem.core import Deadline, ExecResult, TestStatus
from swe_aem.errors import GraderError, SandboxDead, StartError
from swe_aem.grading import Grader
from swe_aem.tasks.families.script import marked_script
from swe_aem.testing.sandbox import FakeBackend

pytestmark = pytest.mark.asyncio(loop_scope="session")

ADD, MUL = "tests/test_calc.py::test_add", "tests/test_calc.py::test_mul"
PASSED, FAILED, MISSING = TestStatus.PASSED, TestStatus.FAILED, TestStatus.MISSING


@pytest.fixture
def grade(host_backend, parser, calc, tmp_path):
    """Grade a patch for the calc task on this machine."""

    async def run(patch, task=calc, deadline_s=100.0):
        workdir = str(tmp_path / f"graded-{time.monotonic_ns()}")
        async with Grader(host_backend, parser) as grader, grader.slot(task.record, task.spec(workdir)) as slot:
            return await slot.grade(patch, Deadline.after(deadline_s))

    return run


async def test_gold_resolves(grade, calc):
    verdict = await grade(calc.key.gold_patch)
    assert verdict.resolved, verdict
    assert verdict.patch_applied
    assert verdict.fail_to_pass == {ADD: PASSED}
    assert verdict.pass_to_pass == {MUL: PASSED}
    assert (verdict.fail_to_pass_fraction, verdict.pass_to_pass_fraction) == (1.0, 1.0)
    assert 0 < verdict.eval_s < verdict.wall_s
    assert "2 passed" in verdict.log_tail


async def test_a_wrong_patch_does_not_resolve(grade, calc):
    wrong = calc.key.gold_patch.replace("+    return a + b", "+    return b - a")
    verdict = await grade(wrong)
    assert not verdict.resolved
    assert verdict.patch_applied
    assert verdict.fail_to_pass == {ADD: FAILED}
    assert verdict.pass_to_pass == {MUL: PASSED}
    assert (verdict.fail_to_pass_fraction, verdict.pass_to_pass_fraction) == (0.0, 1.0)
    assert verdict.integrity == ()


async def test_a_patch_that_breaks_the_import_is_missing_its_tests(grade, calc):
    verdict = await grade(calc.key.gold_patch.replace("+    return a + b", "+    return a +"))
    assert not verdict.resolved
    assert verdict.fail_to_pass == {ADD: MISSING}
    assert verdict.integrity == ()


async def test_an_empty_patch_is_not_run(grade, host_backend):
    verdict = await grade("")
    assert not verdict.resolved
    assert not verdict.patch_applied
    assert all(sandbox.runs == 0 for sandbox in host_backend.opened)


async def test_a_patch_of_stripped_files_only_is_not_run_and_says_what_was_stripped(grade, calc):
    verdict = await grade(calc.key.test_patch)
    assert not verdict.patch_applied
    assert verdict.stripped_files == ("tests/test_calc.py (belongs to the tests of the task)",)


async def test_text_that_is_no_diff_is_a_patch_that_does_not_apply(grade):
    verdict = await grade("@@ -1 +1 @@\n-a\n+b\n")
    assert not verdict.patch_applied
    assert "belongs to no file" in verdict.log_tail


async def test_a_patch_for_another_text_does_not_apply(grade, calc):
    verdict = await grade(calc.key.gold_patch.replace("a - b", "a ** b"))
    assert not verdict.patch_applied
    assert not verdict.resolved


async def test_a_patch_with_wrong_context_applies_by_fuzz(grade, calc):
    verdict = await grade(calc.key.gold_patch.replace(" def mul(a, b):", " def mul(x, y):"))
    assert verdict.resolved, verdict


async def test_an_untracked_file_of_the_image_does_not_keep_a_patch_from_applying(grade, calc):
    calc.repo.write({"notes.txt": "of the image\n"})
    calc.repo.git("add", "-N", "notes.txt")
    patch = calc.key.gold_patch + calc.repo.git("diff", "notes.txt") + "\n"
    calc.repo.git("reset", "-q")
    assert (await grade(patch)).resolved


async def test_a_file_where_the_test_patch_adds_one_is_removed(grade, calc):
    name = "tests/test_more.py"
    calc.repo.write({name: "from calc import add\n\n\ndef test_add():\n    assert add(2, 3) == 5\n"})
    calc.repo.git("add", "-N", name)
    added = calc.repo.git("diff", name) + "\n"
    calc.repo.git("reset", "-q")
    calc.repo.write({name: "the image has a file of this name\n"})
    task = calc.with_key(
        test_patch=added,
        eval_script=calc.key.eval_script.replace(calc.key.test_patch, added).replace(
            "-rA tests/test_calc.py", f"-rA {name}"
        ),
        fail_to_pass=(f"{name}::test_add",),
        pass_to_pass=(),
    )
    verdict = await grade(calc.key.gold_patch, task)
    assert verdict.resolved, verdict


@pytest.mark.slow
async def test_tests_that_hang_are_a_verdict(grade, calc):
    hang = calc.key.gold_patch.replace("+    return a + b", "+    while True: pass")
    verdict = await grade(hang, calc.with_key(timeout_s=3.0))
    assert verdict.timed_out
    assert verdict.patch_applied
    assert not verdict.resolved
    assert verdict.fail_to_pass == {ADD: MISSING}
    assert verdict.exit_code == 124


@pytest.mark.slow
async def test_a_deadline_before_the_limit_of_the_task_is_our_fault(grade, calc):
    hang = calc.key.gold_patch.replace("+    return a + b", "+    while True: pass")
    with pytest.raises(GraderError, match="deadline"):
        await grade(hang, calc.with_key(timeout_s=60.0), deadline_s=4.0)


async def test_a_script_without_markers_is_our_fault(grade, calc):
    with pytest.raises(GraderError, match="0 start and 0 end markers"):
        await grade(calc.key.gold_patch, calc.with_key(eval_script="#!/bin/bash\npytest\n"))


async def test_a_file_that_the_sandbox_has_no_place_for_is_our_fault(grade, calc):
    with pytest.raises(GraderError, match="cannot take /proc/none/x"):
        await grade(calc.key.gold_patch, calc.with_key(files={"/proc/none/x": b""}))


EXPECTED = {"test_add": "PASSED", "test_mul": "PASSED", "test_known_bug": "FAILED"}


@pytest.mark.parametrize(
    ("expected", "resolved", "fraction"),
    [
        (EXPECTED, True, 1.0),
        ({**EXPECTED, "test_known_bug": "PASSED"}, False, 2 / 3),
        ({**EXPECTED, "test_other": "PASSED"}, False, 3 / 4),
        ({"test_add": "PASSED", "test_mul": "PASSED"}, False, 1.0),
    ],
)
async def test_an_exact_map_is_equal_or_wrong(grade, calc, tmp_path, expected, resolved, fraction):
    tests = calc.key.test_patch  # its added lines, and one test that fails with the fix as well
    added = "\n".join(line[1:] for line in tests.split("\n") if line.startswith("+") and not line.startswith("+++"))
    body = f"from calc import add, mul\n\ndef test_mul():\n    assert mul(2, 3) == 6\n{added}\n"
    body += "def test_known_bug():\n    assert add(1, '2') == 3\n"
    command = f"# the tests\npython -m pytest -p no:cacheprovider -rA {tmp_path}/r2e_tests\n"
    task = calc.with_key(
        eval_type="exact_map",
        log_parser="r2egym",
        eval_script=marked_script(f"bash {tmp_path}/run_tests.sh"),
        expected=expected,
        fail_to_pass=tuple(expected),
        pass_to_pass=(),
        test_patch="",
        files={f"{tmp_path}/r2e_tests/test_1.py": body.encode(), f"{tmp_path}/run_tests.sh": command.encode()},
    )
    verdict = await grade(calc.key.gold_patch, task)
    assert (verdict.resolved, verdict.integrity) == (resolved, ()), verdict
    assert verdict.fail_to_pass_fraction == pytest.approx(fraction)
    assert f"+ python -m pytest -p no:cacheprovider -rA {tmp_path}" in verdict.log_tail  # so a witness was there


async def test_a_script_that_ends_before_the_tests_is_unresolved(grade, calc):
    script = calc.key.eval_script.replace(": '>>>>> Start", "exit 3\n: '>>>>> Start")
    verdict = await grade(calc.key.gold_patch, calc.with_key(eval_script=script))
    assert not verdict.resolved
    assert verdict.exit_code == 3
    assert verdict.fail_to_pass == {ADD: MISSING}


async def test_a_slot_is_good_for_one_patch(host_backend, parser, calc, tmp_path):
    spec = calc.spec(str(tmp_path / "graded"))
    async with Grader(host_backend, parser) as grader, grader.slot(calc.record, spec) as slot:
        await slot.grade("", Deadline.after(10))
        with pytest.raises(GraderError, match="has been used"):
            await slot.grade("", Deadline.after(10))


async def test_pip_works_offline_and_tests_do_not_see_what_is_set_for_agents(grade, calc, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    shown = 'echo "colour=${NO_COLOR-unset} isolation=$PIP_NO_BUILD_ISOLATION index=$PIP_NO_INDEX"'
    script = calc.key.eval_script.replace("git status", shown)
    verdict = await grade(calc.key.gold_patch, calc.with_key(eval_script=script))
    assert "colour=unset isolation=0 index=1" in verdict.log_tail


async def test_the_sandbox_starts_with_the_slot_and_is_gone_with_it(calc, parser):
    backend = FakeBackend()
    async with Grader(backend, parser) as grader:
        async with grader.slot(calc.record, calc.spec()):
            await asyncio.sleep(0)
            assert len(backend.live) == 1
        assert backend.live == []


async def test_a_slot_that_is_cancelled_leaves_no_sandbox(calc, parser):
    backend = FakeBackend()

    async def hold():
        async with Grader(backend, parser) as grader, grader.slot(calc.record, calc.spec()):
            await asyncio.sleep(60)

    task = asyncio.create_task(hold())
    await asyncio.sleep(0.01)
    assert len(backend.live) == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert backend.live == []


async def test_a_failed_start_shows_when_grading_and_not_before(calc, parser):
    backend = FakeBackend(fail_starts=2)
    async with Grader(backend, parser) as grader:
        async with grader.slot(calc.record, calc.spec()):
            await asyncio.sleep(0.01)
        async with grader.slot(calc.record, calc.spec()) as slot:
            with pytest.raises(StartError):
                await slot.grade(calc.key.gold_patch, Deadline.after(10))


@pytest.mark.parametrize("calls", [0, 1])
async def test_a_dead_sandbox_is_our_fault(calc, parser, calls):
    def handler(sandbox, command):
        token = command.partition("TOKEN=")[2].split()[0]
        return 0, f"{token} applied as-is\n".encode()

    backend = FakeBackend(handler, die_after=calls)
    async with Grader(backend, parser) as grader, grader.slot(calc.record, calc.spec()) as slot:
        with pytest.raises(SandboxDead):
            await slot.grade(calc.key.gold_patch, Deadline.after(10))


async def test_a_shell_that_does_not_begin_is_our_fault(calc, parser):
    def handler(sandbox, command):
        if "TOKEN=" in command:
            return 0, f"{command.partition('TOKEN=')[2].split()[0]} applied as-is\n".encode()
        sandbox.files["/tmp/out"] = b"bash: not found"
        return ExecResult(
            exit_code=127, head=b"bash: not found", tail=b"", output_bytes=15, output_path="/tmp/out", wall_s=0.1
        )

    async with Grader(FakeBackend(handler), parser) as grader, grader.slot(calc.record, calc.spec()) as slot:
        with pytest.raises(GraderError, match="did not start"):
            await slot.grade(calc.key.gold_patch, Deadline.after(10))


async def test_an_apply_that_does_not_answer_is_our_fault(calc, parser):
    async with Grader(FakeBackend(), parser) as grader, grader.slot(calc.record, calc.spec()) as slot:
        with pytest.raises(GraderError, match="did not finish"):
            await slot.grade(calc.key.gold_patch, Deadline.after(10))
