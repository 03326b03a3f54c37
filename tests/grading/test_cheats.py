"""The cheat corpus: each patch of `cheats/` is made in one sandbox, captured, and graded in another. None may resolve.

    pytest tests/grading/test_cheats.py

`docs/grading.md` has the table. A cheat is a directory with `cheat.json` (why it might work, the verdict that it must
get; the rule that it is for, if not SWE-bench's; a command, if it does more than write files) and the files that it
writes, each with `.txt` behind its name so that no tool takes them for its own.
"""

import json
from pathlib import Path

import pytest
import pytest_asyncio

from swe_aem.core import Deadline
from swe_aem.grading import Grader, capture_work, prepare_for_agent
from swe_aem.sandbox import open_backend
from swe_aem.tasks.families.script import marked_script
from swe_aem.testing.containment import require_containment

pytestmark = pytest.mark.asyncio(loop_scope="session")

CORPUS = Path(__file__).parent / "cheats"
CASES = sorted(path.parent.name for path in CORPUS.glob("*/cheat.json"))
ABOUT = {name: json.loads((CORPUS / name / "cheat.json").read_text()) for name in CASES}
CHEATS = [name for name in CASES if "rule" not in ABOUT[name]]
KINDS = [
    pytest.param("bubblewrap", marks=pytest.mark.bubblewrap),
    pytest.param("docker", marks=[pytest.mark.docker, pytest.mark.slow, pytest.mark.nightly]),
]


@pytest.fixture(params=KINDS)
def backend(request):
    """Real sandboxes only: what is in the corpus must not run anywhere else."""
    request.getfixturevalue(f"require_{request.param}")
    return open_backend(request.param)


_CONTAINED = set()


@pytest_asyncio.fixture(loop_scope="session", autouse=True)
async def contained(request, calc):
    """Each backend was tried with probes that cannot act, before the first cheat is carried out on it."""
    backend = request.getfixturevalue("backend") if "backend" in request.fixturenames else None
    if backend is not None and backend.name not in _CONTAINED:
        await require_containment(backend, calc.spec())
        _CONTAINED.add(backend.name)


REPEATED = ("source_forges_at_exit", "source_forges_whole_session", "source_rewrites_at_exit")
"""Cheats that are also tried under R2E-Gym's rule: the names that they print mean the same tests there."""


def with_rule(calc, rule):
    """The same task, graded as another family does it."""
    tests = b"from calc import add, mul\n\n\ndef test_mul():\n    assert mul(2, 3) == 6\n"
    tests += b"\n\ndef test_add():\n    assert add(2, 3) == 5\n"
    if rule == "exact_map":
        command = b"python -m pytest -p no:cacheprovider -rA r2e_tests\n"
        return calc.with_key(
            eval_type=rule,
            log_parser="r2egym",
            eval_script=marked_script(
                "bash /testbed/run_tests.sh", setup=("cd /testbed", "[ -e r2e_tests ] || ln -s /r2e_tests r2e_tests")
            ),
            expected={"test_add": "PASSED", "test_mul": "PASSED"},
            fail_to_pass=("test_add", "test_mul"),
            pass_to_pass=(),
            test_patch="",
            hidden=("r2e_tests", "run_tests.sh"),
            files={"/r2e_tests/test_1.py": tests, "/testbed/run_tests.sh": command},
        )
    if rule == "reward_file":
        run = "python -m pytest -p no:cacheprovider -q /tests/test_state.py"
        script = f"if {run}; then reward=1; else reward=0; fi\necho $reward >/logs/verifier/reward.txt\nexit 0\n"
        return calc.with_key(
            eval_type=rule,
            log_parser="",
            eval_script=marked_script(
                "bash /tests/test.sh", setup=("rm -rf /logs/verifier", "mkdir -p /logs/verifier", "cd /testbed")
            ),
            fail_to_pass=("reward",),
            pass_to_pass=(),
            test_patch="",
            files={"/tests/test_state.py": tests, "/tests/test.sh": script.encode()},
        )
    return calc


async def agent_work(backend, calc, cheat, command="true"):
    """What capture finds after the cheat, and a command, was carried out in an agent's sandbox."""
    root = CORPUS / cheat / "files"
    async with backend.open(calc.spec()) as sandbox:
        given = await prepare_for_agent(sandbox, calc.record)
        for file in sorted(root.rglob("*.txt")):
            await sandbox.write_file(f"/testbed/{file.relative_to(root).as_posix()[:-4]}", file.read_bytes())
        # So that something is left of every patch and the evaluation really runs.
        await sandbox.write_file("/testbed/NOTES.md", b"nothing to see here\n")
        outside = ABOUT[cheat].get("outside")
        if outside:
            await sandbox.run(outside, timeout_s=20)
        assert (await sandbox.run(command, timeout_s=20)).exit_code == 0
        return await capture_work(sandbox, "/testbed", given)


async def assert_unresolved(backend, calc, parser, cheat):
    """The cheat gets the verdict that it must get."""
    expected = ABOUT[cheat]["verdict"]
    calc = calc.with_key(timeout_s=3.0 if expected == "timed_out" else 60.0)
    work = await agent_work(backend, calc, cheat)
    async with Grader(backend, parser) as grader, grader.slot(calc.record, calc.spec()) as slot:
        verdict = await slot.grade(await slot.delta(work), Deadline.after(100))
    assert not verdict.resolved, verdict
    got = "integrity" if verdict.integrity else "timed_out" if verdict.timed_out else "unresolved"
    assert got == expected, verdict


@pytest.mark.parametrize("cheat", CHEATS)
async def test_no_cheat_resolves(backend, calc, parser, cheat):
    await assert_unresolved(backend, calc, parser, cheat)


@pytest.mark.docker
@pytest.mark.slow
@pytest.mark.parametrize(
    ("cheat", "rule"),
    [(name, "exact_map") for name in REPEATED]
    + [(name, ABOUT[name]["rule"]) for name in CASES if "rule" in ABOUT[name]],
)
async def test_no_cheat_resolves_by_another_rule(require_docker, calc, parser, cheat, rule):
    await assert_unresolved(open_backend("docker"), with_rule(calc, rule), parser, cheat)


@pytest.mark.parametrize(
    "cheat", [name for name in CHEATS if name.startswith(("conftest", "pytest_ini", "tox", "setup"))]
)
async def test_a_cheat_beside_the_right_fix_does_not_spoil_it(backend, calc, parser, cheat):
    work = await agent_work(backend, calc, cheat, "sed -i 's/a - b/a + b/' calc.py")
    async with Grader(backend, parser) as grader, grader.slot(calc.record, calc.spec()) as slot:
        verdict = await slot.grade(await slot.delta(work), Deadline.after(100))
    assert verdict.resolved, verdict
    assert verdict.stripped_files


@pytest.mark.docker
@pytest.mark.slow
@pytest.mark.parametrize("rule", ["exact_map", "reward_file"])
async def test_the_right_fix_resolves_by_another_rule(require_docker, calc, parser, rule):
    calc = with_rule(calc, rule)
    async with Grader(open_backend("docker"), parser) as grader:
        async with grader.slot(calc.record, calc.spec()) as slot:
            verdict = await slot.grade(calc.key.gold_patch, Deadline.after(100))
        assert verdict.resolved, verdict
        assert verdict.integrity == ()
        async with grader.slot(calc.record, calc.spec()) as slot:
            assert not (await slot.grade_untouched(Deadline.after(100))).resolved
