"""From a patch to a verdict, and whose fault it is when there is none."""

import asyncio
import os
import tempfile
from dataclasses import replace

import pytest

from swe_aem.core import Deadline, TestStatus
from swe_aem.errors import GraderError, InfrastructureError, SandboxDead, StartError
from swe_aem.grading import Delta, Grader, capture_work, foreign, prepare_for_agent, record_given
from swe_aem.grading.delta import FILE, Blob, Change
from swe_aem.sandbox import open_backend
from swe_aem.tasks.families.script import marked_script
from swe_aem.testing.sandbox import FakeBackend
from tests.grading.conftest import BUGGY

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.bubblewrap]

ADD, MUL = "tests/test_calc.py::test_add", "tests/test_calc.py::test_mul"
PASSED, FAILED, MISSING = TestStatus.PASSED, TestStatus.FAILED, TestStatus.MISSING


@pytest.fixture
def grade(require_bubblewrap, parser, calc):
    """Grade a patch for the calc task."""

    async def run(patch, task=calc, deadline_s=100.0):
        async with (
            Grader(open_backend("bubblewrap"), parser) as grader,
            grader.slot(task.record, task.spec()) as slot,
        ):
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


async def test_an_empty_patch_is_not_run(calc, parser):
    backend = FakeBackend()
    for patch in ("", " \n", Delta()):
        async with Grader(backend, parser) as grader, grader.slot(calc.record, calc.spec()) as slot:
            verdict = await slot.grade(patch, Deadline.after(10))
        assert not verdict.resolved
        assert verdict.official_resolved is False
        assert not verdict.patch_applied
    assert not any(sandbox.commands for sandbox in backend.opened)


async def test_a_patch_of_stripped_files_only_is_not_run_and_says_what_was_stripped(grade, calc):
    verdict = await grade(calc.key.test_patch)
    assert not verdict.patch_applied
    assert verdict.official_resolved is None
    assert verdict.stripped_files == ("tests/test_calc.py (belongs to the tests of the task, or is in their way)",)


async def test_text_that_is_no_diff_is_a_patch_that_does_not_apply(grade):
    verdict = await grade("@@ -1 +1 @@\n-a\n+b\n")
    assert not verdict.patch_applied
    assert verdict.official_resolved is False
    assert "as-is:" in verdict.log_tail


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
async def test_an_exact_map_is_equal_or_wrong(grade, calc, expected, resolved, fraction):
    tests = calc.key.test_patch  # its added lines, and one test that fails with the fix as well
    added = "\n".join(line[1:] for line in tests.split("\n") if line.startswith("+") and not line.startswith("+++"))
    body = f"from calc import add, mul\n\ndef test_mul():\n    assert mul(2, 3) == 6\n{added}\n"
    body += "def test_known_bug():\n    assert add(1, '2') == 3\n"
    command = "# the tests\npython -m pytest -p no:cacheprovider -rA /tmp/r2e_tests\n"
    task = calc.with_key(
        eval_type="exact_map",
        log_parser="r2egym",
        eval_script=marked_script("bash /tmp/run_tests.sh"),
        expected=expected,
        fail_to_pass=tuple(expected),
        pass_to_pass=(),
        test_patch="",
        files={"/tmp/r2e_tests/test_1.py": body.encode(), "/tmp/run_tests.sh": command.encode()},
    )
    verdict = await grade(calc.key.gold_patch, task)
    assert (verdict.resolved, verdict.integrity) == (resolved, ()), verdict
    assert verdict.fail_to_pass_fraction == pytest.approx(fraction)
    assert verdict.official_resolved is resolved  # the record says what the log does


async def test_a_script_that_ends_before_the_tests_is_unresolved(grade, calc):
    script = calc.key.eval_script.replace(": '>>>>> Start", "exit 3\n: '>>>>> Start")
    verdict = await grade(calc.key.gold_patch, calc.with_key(eval_script=script))
    assert not verdict.resolved
    assert verdict.exit_code == 3
    assert verdict.fail_to_pass == {ADD: MISSING}


async def test_a_slot_is_good_for_one_patch(parser, calc):
    async with Grader(FakeBackend(), parser) as grader, grader.slot(calc.record, calc.spec()) as slot:
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


@pytest.mark.parametrize("calls", [0, 1, 2])
async def test_a_dead_sandbox_is_our_fault(calc, parser, calls):
    delta = Delta((Change("calc.py", Blob(FILE, b"1\n"), Blob(FILE, b"2\n")),), patch="x")
    backend = FakeBackend(die_after=calls)
    async with Grader(backend, parser) as grader, grader.slot(calc.record, calc.spec()) as slot:
        with pytest.raises(SandboxDead):
            await slot.grade(delta, Deadline.after(10))


async def test_a_sandbox_without_a_shell_is_our_fault(calc, parser):
    def handler(sandbox, command):
        return 127, b"bash: not found"

    async with Grader(FakeBackend(handler), parser) as grader, grader.slot(calc.record, calc.spec()) as slot:
        with pytest.raises(GraderError, match="no shell starts in the sandbox: bash: not found"):
            await slot.grade_untouched(Deadline.after(10))


async def test_a_patch_that_was_not_written_as_it_is_accepted_is_our_fault(calc, parser):
    """The grader looks at what is there afterwards: also a warden of ours could be wrong."""
    delta = Delta((Change("calc.py", Blob(FILE, b"1\n"), Blob(FILE, b"2\n")),), patch="x")
    for forget in ("write", "content", "mode", "another"):
        backend = FakeBackend()
        async with Grader(backend, parser) as grader, grader.slot(calc.record, calc.spec()) as slot:
            sandbox = await slot.sandbox()
            sandbox.files["/testbed/calc.py"] = b"1\n"
            sandbox.files["/testbed/other.py"] = b"1\n"
            change = sandbox.change_tree

            async def wrong(root, changes, forget=forget, change=change, sandbox=sandbox):
                if forget != "write":
                    await change(root, changes)
                if forget == "content":
                    sandbox.files["/testbed/calc.py"] = b"3\n"
                if forget == "mode":
                    sandbox.modes["/testbed/calc.py"] = 0o100755
                if forget == "another":
                    sandbox.files["/testbed/other.py"] = b"2\n"

            sandbox.change_tree = wrong
            with pytest.raises(GraderError, match=r"not as they should be: (calc|other)\.py"):
                await slot.grade(delta, Deadline.after(10))


MISSING_FILE = (
    "diff --git a/pkg/m{n}.py b/pkg/m{n}.py\n--- a/pkg/m{n}.py\n+++ b/pkg/m{n}.py\n@@ -1,1 +1,2 @@\n a = 1\n+b = 2\n"
)


@pytest.mark.parametrize("files", [1, 60, 2000])
async def test_what_an_attempt_to_apply_prints_is_no_way_out(grade, files):
    verdict = await grade("".join(MISSING_FILE.format(n=n) for n in range(files)))
    assert not verdict.patch_applied
    assert "pkg/m0.py" in verdict.log_tail


async def test_a_patch_that_takes_too_long_to_apply_does_not_apply(grade, calc, monkeypatch):
    monkeypatch.setattr(foreign, "APPLY_TIMEOUT_S", 0.05)
    slow = "".join(
        f"diff --git a/{'d/' * 150}{n} b/{'d/' * 150}{n}\nnew file mode 100644\n--- /dev/null\n+++ b/{'d/' * 150}{n}\n"
        "@@ -0,0 +1 @@\n+x\n"
        for n in range(3000)
    )
    verdict = await grade(calc.key.gold_patch + slow)
    assert not verdict.patch_applied
    assert "takes longer" in verdict.log_tail


async def test_a_program_of_the_repository_takes_no_part_in_applying(grade, calc):
    """Attributes, filters and hooks of the work tree."""
    calc.repo.write({".gitattributes": "*.py filter=x merge=x\n"})
    calc.repo.git("config", "filter.x.clean", "false")
    calc.repo.git("config", "filter.x.smudge", "false")
    calc.repo.git("config", "filter.x.required", "true")
    async with open_backend("bubblewrap").open(calc.spec()) as sandbox:
        given = await record_given(sandbox, "/testbed")
        await sandbox.run("sed -i 's/a - b/a + b/' calc.py", timeout_s=60)
        work = await capture_work(sandbox, "/testbed", given)
    async with Grader(open_backend("bubblewrap")) as grader, grader.slot(calc.record, calc.spec()) as slot:
        assert [change.path for change in (await slot.delta(work)).changes] == ["calc.py"]


async def did(backend, calc, command, parser):
    """The verdict on what a command does in an agent's sandbox."""
    async with Grader(backend, parser) as grader, grader.slot(calc.record, calc.spec()) as slot:
        async with backend.open(calc.spec()) as sandbox:
            given = await prepare_for_agent(sandbox, calc.record)
            done = await sandbox.run(command, timeout_s=60)
            assert done.exit_code == 0, done.output
            work = await capture_work(sandbox, "/testbed", given)
        delta = await slot.delta(work)
        return delta, await slot.grade(delta, Deadline.after(100))


FIX = "sed -i 's/a - b/a + b/' calc.py"


async def test_files_of_the_image_are_neither_in_a_patch_nor_gone_at_grading(backend, calc, parser):
    """Build products, tracked by nobody and ignored by nobody, one above the limit of new files; and a dirty file."""
    calc.repo.write({"_native.so": os.urandom(2 << 20), "build/meta.txt": "1\n", "calc.py": f"# dirty\n{BUGGY}"})
    script = calc.key.eval_script.replace("git status", "test -s _native.so && test -s build/meta.txt || exit 3")
    calc = calc.with_key(eval_script=script)
    delta, verdict = await did(backend, calc, FIX, parser)
    assert [change.path for change in delta.changes] == ["calc.py"]
    assert verdict.resolved, verdict
    delta, verdict = await did(backend, calc, "python -m pytest -q || git status", parser)
    assert (delta.changes, delta.patch, verdict.patch_applied) == ((), "", False)


async def test_a_file_below_an_ignored_directory_counts_once_it_is_forced_into_the_index(backend, calc, parser):
    calc.repo.commit("ignore", {".gitignore": "__pycache__/\nlib/\n", "pkg/__init__.py": "", "pkg/lib/__init__.py": ""})
    base = calc.record.task.base_commit
    needs = "python -c 'from pkg.lib.new import X' || exit 4"
    task = calc.record.task.model_copy(update={"base_commit": calc.repo.git("rev-parse", "HEAD")})
    calc = calc.with_key(eval_script=calc.key.eval_script.replace("git status", needs))
    calc = replace(calc, record=calc.record.model_copy(update={"task": task}))
    assert base != task.base_commit
    commit = "git add -f pkg/lib/new.py && git -c user.name=a -c user.email=a@b commit -qam fix"
    _, verdict = await did(backend, calc, f"{FIX}; echo 'X = 1' >pkg/lib/new.py; {commit}", parser)
    assert verdict.resolved, verdict


OBSTACLES = {
    "a directory where a draft was": "mkdir run_tests.sh.swe-aem-draft; touch run_tests.sh.swe-aem-draft/x",
    "a link where a draft was": "ln -s /dev/full run_tests.sh.swe-aem-draft",
    "a directory": "mkdir run_tests.sh; touch run_tests.sh/x",
    "a link": "ln -s /dev/full run_tests.sh",
    "a file where a directory must be": "touch suite",
    "a link where a directory must be": "ln -s /nonexistent suite",
}


@pytest.mark.parametrize("how", OBSTACLES)
async def test_nothing_of_a_patch_stands_in_the_way_of_the_keys_files(backend, calc, parser, how):
    tests = b"from calc import add\n\n\ndef test_add():\n    assert add(2, 3) == 5\n"
    calc = calc.with_key(
        eval_type="exact_map",
        log_parser="r2egym",
        eval_script=marked_script("bash /testbed/run_tests.sh", setup=("cd /testbed",)),
        expected={"test_add": "PASSED"},
        fail_to_pass=("test_add",),
        pass_to_pass=(),
        test_patch="",
        files={
            "/testbed/run_tests.sh": b"python -m pytest -p no:cacheprovider -rA suite/deep\n",
            "/testbed/suite/deep/test_1.py": tests,
        },
    )
    delta, verdict = await did(backend, calc, f"{FIX}; {OBSTACLES[how]}", parser)
    assert len(delta.changes) == 2
    assert verdict.resolved, verdict
    _, verdict = await did(backend, calc, OBSTACLES[how], parser)
    assert not verdict.resolved


@pytest.mark.docker
@pytest.mark.slow
async def test_a_replaced_git_writes_no_patch(require_docker, calc, parser):
    """It writes a diff that hygiene would read differently than `git apply`: the runner's file is in it either way."""
    stamp = "conftest.py 2024-01-01 00:00:00.000000000 +0000"
    forged = f"--- a/{stamp}\n+++ b/{stamp}\n@@ -0,0 +1 @@\n+x\n"
    command = f"cat >/evil <<'EOF'\n{forged}EOF\nprintf '#!/bin/sh\\ncat /evil\\n' >$(command -v git); echo 1 >new.py"
    delta, verdict = await did(open_backend("docker"), calc, command, parser)
    assert [change.path for change in delta.changes] == ["new.py"]
    assert not verdict.resolved


async def test_attributes_do_not_hide_what_a_patch_does(backend, calc, parser):
    machinery = "import _pytest.reports as r\nr.TestReport.from_item_and_call = None\n"
    command = f"printf '*.py -diff\\n' >.gitattributes; cat >>calc.py <<'EOF'\n{machinery}EOF"
    delta, verdict = await did(backend, calc, command, parser)
    assert "+import _pytest.reports as r" in delta.patch
    assert verdict.integrity
    assert verdict.stripped_files == (".gitattributes (configures git, which the evaluation runs)",)


async def test_deep_directories_are_written_in_time(backend, calc, parser):
    """What takes `git apply` minutes: hundreds of files, each in a deep directory of its own."""
    deep = "for n in $(seq 40); do d=$n$(printf '/d%.0s' $(seq 100)); mkdir -p $d; touch $d/f; done"
    delta, verdict = await did(backend, calc, f"{FIX}; {deep}", parser)
    assert len(delta.changes) == 41
    assert verdict.resolved, verdict


async def test_a_host_without_room_for_the_log_is_an_infrastructure_failure(
    require_bubblewrap, parser, calc, tmp_path, monkeypatch
):
    async with (
        Grader(open_backend("bubblewrap"), parser) as grader,
        grader.slot(calc.record, calc.spec()) as slot,
    ):
        await slot.sandbox()
        await parser.script(calc.key)
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
        with pytest.raises(InfrastructureError, match="scratch directory"):
            await slot.grade_untouched(Deadline.after(100))
