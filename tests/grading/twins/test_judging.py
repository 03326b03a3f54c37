"""What twins make of a verdict, whatever their evaluations say."""

import pytest

from swe_aem.core import AnswerKey, TestStatus, Verdict
from swe_aem.grading.twins.judging import is_spoiled, judged_by_twins, measured, measured_twins, unmeasured
from swe_aem.grading.twins.making import Twin, Twins, make_twins, twin_key, why_no_twins

KEY = AnswerKey(
    task_id="t", repo="o/r", version="1", gold_patch="g", test_patch="", eval_script="original", log_parser="p",
    eval_type="pass_and_fail", fail_to_pass=("a", "b", "c"), pass_to_pass=(), files={"/t.py": b"original"},
)  # fmt: skip
TWIN = Twin(originals=KEY.files, files={"/t.py": b"twin"}, names={"a": "a", "b": "b2"}, kept=("c",))
ALONE = TWIN.model_copy(update={"names": {"a": "a", "b": "b2", "c": "c"}, "kept": ()})
TWICE = "passed both the test and its contradiction, twice: b"


def verdict(text: str) -> Verdict:
    """A verdict with statuses written as `a:FAILED b:PASSED`."""
    pairs = (word.partition(":") for word in text.split())
    statuses = {test: TestStatus(status) for test, _, status in pairs}
    return Verdict(
        resolved=all(status is TestStatus.PASSED for status in statuses.values()),
        patch_applied=True,
        fail_to_pass=statuses,
    )


RESOLVED = verdict("a:PASSED b:PASSED c:PASSED")
BROKEN = verdict("a:PASSED b:PASSED c:FAILED")
FINE = verdict("a:FAILED b2:ERROR c:PASSED")
PASSES = verdict("a:FAILED b2:PASSED c:PASSED")
LOSES = verdict("a:FAILED b2:FAILED c:FAILED")


async def judged(originals: list[Verdict], twins: list[Verdict], twin: Twin = TWIN) -> tuple[Verdict, list[str]]:
    """The verdict, and the order of the evaluations, for what these say in turn."""
    said = {"original": list(originals), "twin": list(twins)}
    order: list[str] = []

    async def run(key: AnswerKey) -> Verdict:
        which = key.files["/t.py"].decode()
        order.append(which)
        return said[which].pop(0)

    got = await judged_by_twins(RESOLVED, KEY, Twins(runs=(twin,)), run)
    assert not any(said.values())
    return got, order


async def test_honest_code_costs_one_evaluation() -> None:
    got, order = await judged([], [FINE])
    assert (got.resolved, got.integrity, got.twinned, order) == (True, (), ("a", "b"), ["twin"])
    assert got.odd_once == ()


async def test_without_a_kept_test_the_original_runs_again_and_either_may_be_first() -> None:
    orders = set()
    for _ in range(30):
        got, order = await judged([RESOLVED], [verdict("a:FAILED b2:FAILED c:FAILED")], ALONE)
        assert (got.resolved, got.integrity) == (True, ())
        orders.add(tuple(order))
    assert orders == {("twin", "original"), ("original", "twin")}


@pytest.mark.parametrize(
    ("first", "again", "evidence"),
    [
        (PASSES, PASSES, TWICE),
        (LOSES, LOSES, "passed the tests only where none contradicts them, twice: c"),
        (PASSES, LOSES, "passed a test or not by what other tests say: c"),
        (LOSES, PASSES, "passed a test or not by what other tests say: c"),
        (verdict(""), verdict(""), "passed the tests only where none contradicts them, twice: c"),
    ],
)
async def test_what_is_odd_twice_is_evidence(first: Verdict, again: Verdict, evidence: str) -> None:
    orders = set()
    for _ in range(30):
        got, order = await judged([RESOLVED], [first, again])
        assert (got.resolved, got.integrity, got.odd_once) == (False, (evidence,), ())
        orders.add(tuple(order))
    assert orders == {("twin", "original", "twin"), ("twin", "twin", "original")}


@pytest.mark.parametrize("first", [PASSES, LOSES])
async def test_what_is_odd_once_is_none(first: Verdict) -> None:
    got, _ = await judged([RESOLVED], [first, FINE])
    assert (got.resolved, got.integrity) == (True, ())
    assert [line[-1] for line in got.odd_once] == ["b" if first is PASSES else "c"], "it is told all the same"


@pytest.mark.parametrize("first", [PASSES, LOSES])
@pytest.mark.parametrize("again", [PASSES, LOSES, FINE])
async def test_code_that_no_longer_passes_the_tests_does_not_resolve(first: Verdict, again: Verdict) -> None:
    """It is honest in every run but the first, or fails now and then: it is judged by the later run."""
    got, _ = await judged([BROKEN], [first, again])
    assert (got.resolved, got.integrity, got.fail_to_pass) == (False, (), BROKEN.fail_to_pass)
    assert "not when they ran again" in got.cause


async def test_one_failure_of_the_original_alone_is_forgiven() -> None:
    contradicted = verdict("a:FAILED b2:FAILED c:FAILED")
    got, _ = await judged([BROKEN, RESOLVED], [contradicted, contradicted], ALONE)
    assert (got.resolved, got.integrity) == (True, ())
    got, _ = await judged([BROKEN, RESOLVED], [contradicted, verdict("a:FAILED b2:FAILED c:PASSED")], ALONE)
    assert (got.resolved, got.integrity) == (False, ())


@pytest.mark.parametrize("status", ["SKIPPED", "MISSING", "XFAIL"])
async def test_a_twin_that_says_nothing_is_not_odd(status: str) -> None:
    got, _ = await judged([], [verdict(f"a:{status} b2:{status} c:PASSED")])
    assert (got.resolved, got.integrity, got.twinned) == (True, (), ())


def test_a_twin_and_its_key() -> None:
    bytes_of_no_text = TWIN.model_copy(update={"files": {"/t.py": b"\xff"}})
    assert Twin.model_validate_json(bytes_of_no_text.model_dump_json()) == bytes_of_no_text
    got = twin_key(KEY, TWIN)
    assert (got.fail_to_pass, got.files) == (("a", "b2", "c"), TWIN.files)


def test_only_what_is_as_it_should_be_with_the_gold_patch_is_used() -> None:
    gold = verdict("a:ERROR b2:PASSED c:FAILED")
    got = measured(TWIN, gold)
    assert (got.names, got.kept) == ({"a": "a"}, ())
    assert "PASSED" in unmeasured(TWIN, gold)["b"]
    assert measured(TWIN, verdict("a:MISSING c:PASSED")).names == {}
    assert measured(TWIN, FINE) == TWIN


@pytest.mark.parametrize(
    ("changes", "has"),
    [
        ({}, True),
        ({"eval_type": "exact_map"}, True),
        ({"eval_type": "reward_file"}, False),
        ({"eval_type": "fail_only"}, False),
        ({"gold_patch": ""}, False),
    ],
)
def test_tasks_that_have_none_say_why(changes: dict[str, str], has: bool) -> None:
    assert (why_no_twins(KEY.model_copy(update=changes)) is None) is has


@pytest.mark.parametrize(
    ("functions", "expected", "runs"), [(1, {}, 1), (3, {}, 1), (4, {}, 2), (4, {"test_0": "PASSED"}, 1)]
)
def test_one_of_four_functions_is_kept(functions: int, expected: dict[str, str], runs: int) -> None:
    lines = [f"def test_{n}():\n    assert f() == {n}\n" for n in range(functions)]
    key = KEY.model_copy(
        update={
            "fail_to_pass": tuple(f"t.py::test_{n}" for n in range(functions)),
            "files": {"/w/t.py": "\n\n".join(lines).encode()},
            "expected": expected,
        }
    )
    twins = make_twins(key, "", key.files)
    assert [len(twin.kept) for twin in twins.runs] == [int(runs == 2)] * runs
    assert set(twins.names) == set(key.fail_to_pass)


BESIDE = Twin(
    originals=KEY.files, files={"/t.py": b"beside"}, names={}, more={"p": "p2", "s": "s"}, kept=("a", "b", "c")
)
WITH_OTHERS = RESOLVED.model_copy(update={"pass_to_pass": {"p": TestStatus.PASSED, "s": TestStatus.SKIPPED}})


def others(**statuses: str) -> Verdict:
    """A verdict on `BESIDE` that says this of its changed tests."""
    found = {test: TestStatus(status) for test, status in statuses.items()}
    return RESOLVED.model_copy(update={"pass_to_pass": found, "resolved": False})


async def judged_beside(said: dict[str, list[Verdict]]) -> tuple[Verdict, list[str]]:
    order: list[str] = []

    async def run(key: AnswerKey) -> Verdict:
        order.append(key.files["/t.py"].decode())
        return said[order[-1]].pop(0)

    twins = Twins(runs=(ALONE,), beside=BESIDE)
    got = await judged_by_twins(WITH_OTHERS, KEY.model_copy(update={"pass_to_pass": ("p", "s")}), twins, run)
    assert not any(said.values())
    return got, order


async def test_other_tests_are_contradicted_where_the_original_would_run_again() -> None:
    contradicted = verdict("a:FAILED b2:FAILED c:FAILED")
    got, order = await judged_beside({"twin": [contradicted], "beside": [others(p2="FAILED", s="SKIPPED")]})
    assert (got.resolved, got.integrity, got.twinned) == (True, (), ("a", "b", "c", "p"))
    assert sorted(order) == ["beside", "twin"]
    # One that is skipped where it is the task's may pass here.
    got, _ = await judged_beside({"twin": [contradicted], "beside": [others(p2="FAILED", s="PASSED")]})
    assert (got.resolved, got.integrity) == (True, ())


@pytest.mark.parametrize("again", ["PASSED", "FAILED"])
async def test_a_forged_test_that_passed_before_the_fix_is_evidence_when_its_twin_passes_twice(again: str) -> None:
    contradicted = verdict("a:FAILED b2:FAILED c:FAILED")
    said = {"twin": [contradicted], "beside": [others(p2="PASSED"), others(p2=again)], "original": [WITH_OTHERS]}
    got, _ = await judged_beside(said)
    evidence = ("passed both the test and its contradiction, twice: p",) if again == "PASSED" else ()
    assert (got.resolved, got.integrity) == (not evidence, evidence)


async def test_one_that_a_patch_fails_beside_its_twin_is_no_evidence() -> None:
    broken = WITH_OTHERS.model_copy(update={"pass_to_pass": {"p": TestStatus.FAILED}})
    contradicted = verdict("a:FAILED b2:FAILED c:FAILED")
    said = {"twin": [contradicted], "beside": [others(p2="PASSED")] * 2, "original": [broken]}
    got, _ = await judged_beside(said)
    assert (got.resolved, got.integrity) == (True, ())


def test_changed_tests_that_keep_others_from_their_results_are_told() -> None:
    fine = others(p2="FAILED", s="ERROR")
    assert not is_spoiled(BESIDE, fine)
    assert is_spoiled(BESIDE, others(p2="PASSED", s="PASSED"))
    assert is_spoiled(BESIDE, BROKEN.model_copy(update={"pass_to_pass": fine.pass_to_pass}))
    assert not is_spoiled(TWIN, verdict(""))
    both = TWIN.model_copy(update={"more": {"p": "p2"}})
    assert not is_spoiled(both, FINE.model_copy(update={"pass_to_pass": fine.pass_to_pass}))
    assert is_spoiled(
        both, verdict("a:FAILED b2:MISSING c:MISSING").model_copy(update={"pass_to_pass": fine.pass_to_pass})
    )
    usable = measured_twins(Twins(runs=(ALONE,)), [verdict("a:PASSED")], BESIDE)
    assert (usable.runs, usable.beside, usable.names) == ((BESIDE,), None, {})


MORE_FILES = {
    "/t.py": b"def test_a(): assert f() == 1\ndef test_p(): assert f() == 2\ndef test_q(): assert f()\n"
    + b"".join(b"def test_p%d(): assert f() == %d\n" % (n, n) for n in range(20)),
    "t_other.py": b"def test_o(): assert f() == 3\n",
}
MORE_KEY = KEY.model_copy(
    update={
        "files": {"/t.py": MORE_FILES["/t.py"]},
        "fail_to_pass": ("t.py::test_a",),
        "pass_to_pass": (
            "t.py::test_p", "t.py::test_a[1]", "t_other.py::test_o", *(f"t.py::test_p{n}" for n in range(20))
        ),
    }
)  # fmt: skip


def test_a_few_tests_of_files_that_each_evaluation_writes_are_changed() -> None:
    """Those of other files could be compared with HEAD's, and one of a function that has to pass is changed already."""
    seen: set[str] = set()
    for _ in range(10):
        twins = make_twins(MORE_KEY, "", MORE_FILES)
        assert twins.beside is not None
        assert [(list(twin.names), twin.more) for twin in twins.runs] == [(["t.py::test_a"], {})]
        assert (twins.beside.names, twins.beside.kept, len(twins.beside.more)) == ({}, ("t.py::test_a",), 8)
        assert twins.beside.files.keys() == {"/t.py"}
        seen |= twins.beside.more.keys()
    assert "t.py::test_a[1]" not in seen
    assert len(seen) > 8
    assert make_twins(MORE_KEY, "", MORE_FILES, with_more=False).beside is None


def test_flaky_tests_are_neither_changed_nor_have_to_pass_beside_others() -> None:
    """What the lock says of them: a twin of one would pass by chance, and one that is kept would be lost by chance."""
    wanted = tuple(f"t.py::test_p{n}" for n in range(5))
    key = MORE_KEY.model_copy(update={"fail_to_pass": wanted, "pass_to_pass": ("t.py::test_p", "t.py::test_p9")})
    twins = make_twins(key, "", MORE_FILES, flaky=("t.py::test_p0", "t.py::test_p"))
    assert set(twins.names) == set(wanted[1:])
    assert {test for twin in twins.runs for test in twin.more} == {"t.py::test_p9"}
    assert all("t.py::test_p0" not in twin.kept for twin in twins.runs)
    assert "flaky" in twins.why_not["t.py::test_p0"]
    assert make_twins(KEY, "", {}, flaky=KEY.fail_to_pass).runs == ()


async def test_a_flaky_test_that_fails_when_the_original_runs_again_takes_nothing_back() -> None:
    async def run(key: AnswerKey) -> Verdict:
        return BROKEN if key.files["/t.py"] == b"original" else verdict("a:FAILED b2:FAILED c:FAILED")

    got = await judged_by_twins(RESOLVED, KEY, Twins(runs=(ALONE,), flaky=("c",)), run)
    assert (got.resolved, got.integrity) == (True, ())


def test_where_tests_are_kept_the_others_are_changed_beside_them() -> None:
    key = MORE_KEY.model_copy(
        update={"fail_to_pass": tuple(f"t.py::test_p{n}" for n in range(4)), "pass_to_pass": ("t.py::test_p",)}
    )
    twins = make_twins(key, "", MORE_FILES)
    assert [(len(twin.names), len(twin.kept), twin.more) for twin in twins.runs] == [
        (3, 1, {"t.py::test_p": "t.py::test_p"})
    ] * 2
    assert twins.beside is None
