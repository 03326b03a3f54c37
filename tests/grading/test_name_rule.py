"""New names are refused where the evaluation would import them in place of something else, and nowhere else."""

import asyncio

import pytest

from swe_aem.core import Deadline
from swe_aem.errors import ControlFailed, GraderError, SandboxDead
from swe_aem.grading import Delta, Grader, import_record, name_rule
from swe_aem.grading.delta import FILE, Blob, Change
from swe_aem.grading.import_names import Outside
from swe_aem.grading.import_record import ImportRecord, ImportRecorder
from swe_aem.sandbox import open_backend
from swe_aem.testing.builders import make_record
from tests.grading.conftest import BUGGY, FIXED, NEW_TESTS

pytestmark = [pytest.mark.asyncio(loop_scope="session")]

KINDS = [
    pytest.param("bubblewrap", marks=pytest.mark.bubblewrap),
    pytest.param("docker", marks=[pytest.mark.docker, pytest.mark.slow]),
]

HONEST = [
    "repro.py", "reproduce_issue.py", "mypkg/__init__.py", "mypkg/logging.py", "mypkg/newmodule.py",
    "src/newpkg/__init__.py", "src/newpkg/token.py", "scripts/helper.py", "scripts/random.py", "docs/conf_extra.py",
    "examples/one/data.txt", "NOTES.md",
]  # fmt: skip
"""`scripts/` is on no path of the session, so that a module there may be called like one of Python's."""

ATTACKS = [
    "pluggy/__init__.py", "pluggy/_hooks.py", "iniconfig.py", "_pytest/runner.py", "_pytest/__init__.py", "logging.py",
    "encodings/__init__.py", "tempfile.py", "optional_plugin/__init__.py", "optional_by_importlib.py",
    "tests_helpers_x.py", "only_after_failures.py", "usercustomize/__init__.py", "lib/json/__init__.py",
    "lib/optional_plugin.py",
]  # fmt: skip

TESTS = """
import importlib
import importlib.util
import sys

from calc import add

sys.path.append('lib')
try:
    import optional_plugin
except ImportError:
    pass
assert importlib.util.find_spec("optional_by_importlib") is None
try:
    importlib.import_module("tests_helpers_x.deep")
except ImportError:
    pass
if add(2, 3) != 5:
    try:
        import only_after_failures
    except ImportError:
        pass


"""


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """What other tests recorded is not known here."""
    monkeypatch.setenv("SWE_AEM_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def task(calc):
    """The calc task, whose tests look for modules that are not there."""
    calc.repo.write({"tests/test_calc.py": TESTS + NEW_TESTS})
    patch = calc.repo.git("diff") + "\n"
    calc.repo.git("checkout", "-q", ".")
    return calc.with_key(test_patch=patch, eval_script=calc.key.eval_script.replace(calc.key.test_patch, patch))


def delta(*files, content=b"x = 1\n"):
    """The fix, and new files beside it."""
    fix = Change("calc.py", Blob(FILE, BUGGY.encode()), Blob(FILE, FIXED.encode()))
    return Delta((fix, *(Change(path, None, Blob(FILE, content)) for path in files)), patch="-")


@pytest.fixture(params=KINDS)
def judge(request, parser, task):
    """Grade a delta in sandboxes of one kind; counts the controls."""
    request.getfixturevalue(f"require_{request.param}")
    controls = []

    async def run(found, task=task):
        async with Grader(open_backend(request.param), parser) as grades:
            kept = grades._imports.of

            async def counted(image, record, script, control):
                async def count():
                    controls.append(record.task.id)
                    return await control()

                return await kept(image, record, script, count)

            grades._imports.of = counted
            async with grades.slot(task.record, task.spec()) as slot:
                return await slot.grade(found, Deadline.after(200))

    run.controls = controls
    return run


def refused(verdict):
    """Path to the reason."""
    return dict(line.removesuffix(")").split(" (", 1) for line in verdict.stripped_files)


async def test_honest_new_names_are_graded_after_one_control(judge):
    for _ in range(2):  # the second time, by another grader, from the cache
        verdict = await judge(delta(*HONEST))
        assert refused(verdict) == {}
        assert verdict.resolved, verdict.log_tail
    assert len(judge.controls) == 1


async def test_a_name_that_a_link_of_the_image_has_is_not_new(judge, task):
    (task.repo.path / "optional_plugin").symlink_to("optional/v1")
    (task.repo.path / "optional_by_importlib").symlink_to("/nowhere")
    (task.repo.path / "tests_helpers_x").symlink_to("nothing/here")
    task.repo.write({"optional/v1/__init__.py": "x = 1\n"})
    files = ("optional_plugin/__init__.py", "optional_plugin/more.py", "tests_helpers_x/__init__.py")
    verdict = await judge(delta(*files, "optional_by_importlib/__init__.py"))
    assert "optional_plugin/more.py" not in refused(verdict)
    assert {"tests_helpers_x/__init__.py", "optional_by_importlib/__init__.py"} <= set(refused(verdict))


async def test_names_that_the_evaluation_would_import_are_refused_and_the_rest_is_graded(judge):
    verdict = await judge(delta(*ATTACKS, "repro.py", content=b"raise SystemExit('imported')\n"))
    assert set(refused(verdict)) == set(ATTACKS)
    assert verdict.resolved, verdict.log_tail
    assert verdict.integrity == ()


async def test_what_is_refused_without_a_control_needs_none(judge):
    verdict = await judge(delta("pluggy/__init__.py", "logging.py"))
    assert set(refused(verdict)) == {"pluggy/__init__.py", "logging.py"}
    assert judge.controls == []


async def test_names_of_the_gold_patch_are_allowed_in_every_form(judge, task):
    new = "diff --git a/optional_plugin.py b/optional_plugin.py\nnew file mode 100644\n--- /dev/null\n"
    gold = f"{task.key.gold_patch}{new}+++ b/optional_plugin.py\n@@ -0,0 +1 @@\n+x = 1\n"
    with_module = task.with_key(gold_patch=gold)
    verdict = await judge(delta("optional_plugin/__init__.py", "optional_plugin/more.py"), with_module)
    assert refused(verdict) == {}
    assert verdict.resolved, verdict.log_tail
    assert judge.controls == []


async def test_where_the_gold_patch_does_not_apply_the_session_without_a_patch_decides(judge, task):
    """A new name was a way to have no verdict there."""
    odd = task.with_key(gold_patch=task.key.gold_patch.replace("-    return", "-    give"))
    verdict = await judge(delta("repro.py", "optional_by_importlib.py"), odd)
    assert set(refused(verdict)) == {"optional_by_importlib.py"}
    assert verdict.resolved, verdict.log_tail


@pytest.mark.parametrize("error", [GraderError("imports cannot be recorded"), SandboxDead("connection lost")])
async def test_a_recorder_that_fails_is_a_failed_control_and_tried_again(judge, monkeypatch, error):
    async def broken(*_):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(ImportRecorder, "install", broken)
        with pytest.raises(ControlFailed, match=str(error)):
            await judge(delta("repro.py"))
    assert (await judge(delta("repro.py"))).resolved
    assert len(judge.controls) == 2


@pytest.mark.bubblewrap
async def test_a_name_query_that_fails_is_a_failed_control(parser, task, monkeypatch, require_bubblewrap):
    async def fails(*_):
        raise GraderError("no interpreter says which modules there are")

    monkeypatch.setattr(name_rule, "names_outside", fails)
    async with Grader(open_backend("bubblewrap"), parser) as grades, grades.slot(task.record, task.spec()) as slot:
        with pytest.raises(ControlFailed, match="no interpreter says"):
            await slot.grade(delta("repro.py"), Deadline.after(200))


@pytest.mark.bubblewrap
async def test_more_names_than_one_command_takes_are_asked_for(task, require_bubblewrap):
    many = [f"{'long' * 50}_{n}" for n in range(12_000)]
    async with open_backend("bubblewrap").open(task.spec()) as sandbox:
        seen = await name_rule.names_outside(sandbox, task.spec().workdir, ["logging", *many])
    assert seen == Outside(has_python=True, found={"logging": {"module"}})


@pytest.mark.bubblewrap
async def test_the_deadline_of_a_grade_does_not_run_while_a_control_does(parser, task, monkeypatch, require_bubblewrap):
    now = 0.0

    async def slow(*_):
        nonlocal now
        now += 1000
        return ImportRecord(names=frozenset(), directories=frozenset())

    monkeypatch.setattr(Grader, "_imports_of", slow)
    async with Grader(open_backend("bubblewrap"), parser) as grades, grades.slot(task.record, task.spec()) as slot:
        verdict = await slot.grade(delta("repro.py"), Deadline.after(200, lambda: now))
    assert (verdict.resolved, verdict.wall_s) == (True, 0.0)


async def test_a_control_that_has_begun_is_kept_though_nobody_waits(tmp_path):
    begun, go = asyncio.Event(), asyncio.Event()
    record = ImportRecord(names=frozenset({"a"}), directories=frozenset({""}))

    async def control():
        begun.set()
        await go.wait()
        return record

    task = make_record("a")
    async with import_record.ImportRecords() as records:
        waiting = asyncio.create_task(records.of("image", task, "script", control))
        await begun.wait()
        waiting.cancel()
        go.set()
        assert await records.of("image", task, "script", None) == record
    (kept,) = (tmp_path / "cache" / "imports").iterdir()
    assert await import_record.ImportRecords().of("image", task, "script", None) == record  # from the cache
    kept.write_text('{"written by": "another version"}')
    assert await import_record.ImportRecords().of("image", task, "script", control) == record
    assert ImportRecord.model_validate_json(kept.read_text()) == record
