"""What twins make of a verdict, whatever their evaluations say."""

import pytest

from swe_aem.core import AnswerKey, TestStatus, Verdict
from swe_aem.grading.twins.judging import judged_by_twins, measured
from swe_aem.grading.twins.making import Twins, why_no_twins

KEY = AnswerKey(
    task_id="t", repo="o/r", version="1", gold_patch="g", test_patch="", eval_script="original", log_parser="p",
    eval_type="pass_and_fail", fail_to_pass=("a", "b"), pass_to_pass=(),
)  # fmt: skip
TWIN = KEY.model_copy(update={"eval_script": "twin", "fail_to_pass": ("a", "b2")})
TWINS = Twins(key=TWIN, names={"a": "a", "b": "b2"})
RESOLVED = Verdict(resolved=True, patch_applied=True)


def verdict(**statuses: str) -> Verdict:
    """A verdict with these statuses."""
    return Verdict(
        resolved=False, patch_applied=True, fail_to_pass={test: TestStatus(text) for test, text in statuses.items()}
    )


async def judged(originals: list[Verdict], twins: list[Verdict]) -> tuple[Verdict, list[str]]:
    """The verdict, and the order of the evaluations, for what these say in turn."""
    said = {"original": list(originals), "twin": list(twins)}
    order: list[str] = []

    async def run(key: AnswerKey) -> Verdict:
        order.append(key.eval_script)
        return said[key.eval_script].pop(0)

    return await judged_by_twins(RESOLVED, KEY, TWINS, run), order


async def test_twins_that_fail_cost_one_evaluation() -> None:
    got, order = await judged([], [verdict(a="FAILED", b2="ERROR")])
    assert (got.resolved, got.integrity, got.twinned, order) == (True, (), ("a", "b"), ["twin"])


async def test_a_test_that_passes_twice_with_its_twin_is_evidence() -> None:
    orders = set()
    for _ in range(30):
        got, order = await judged(
            [verdict(a="FAILED", b="PASSED")], [verdict(a="FAILED", b2="PASSED"), verdict(a="FAILED", b2="PASSED")]
        )
        assert not got.resolved
        assert got.integrity == ("passed both the test and its contradiction, twice: b",)
        orders.add(tuple(order))
    assert orders == {("twin", "original", "twin"), ("twin", "twin", "original")}


@pytest.mark.parametrize("status", ["FAILED", "ERROR", "SKIPPED", "MISSING", "XFAIL"])
async def test_nothing_less_convicts(status: str) -> None:
    passed = verdict(a="FAILED", b2="PASSED")
    flaky, _ = await judged([verdict(a="PASSED", b=status)], [passed, passed])
    once, _ = await judged([verdict(a="PASSED", b="PASSED")], [passed, verdict(a="FAILED", b2=status)])
    never, _ = await judged([], [verdict(a=status, b2=status)])
    another, _ = await judged(
        [verdict(a="PASSED", b="PASSED")], [passed, verdict(a="PASSED", b2=status)]
    )  # not the same test twice
    for got in (flaky, once, never, another):
        assert (got.resolved, got.integrity) == (True, ())


async def test_a_twin_that_did_not_run_is_not_listed() -> None:
    assert (await judged([], [verdict(a="MISSING", b2="FAILED")]))[0].twinned == ("b",)
    assert (await judged([], [verdict()]))[0].twinned == ()


def test_only_twins_that_fail_with_the_gold_patch_are_used() -> None:
    got = measured(TWINS, verdict(a="ERROR", b2="PASSED"))
    assert got.names == {"a": "a"}
    assert "PASSED" in got.why_not["b"]
    assert not measured(TWINS, verdict(a="MISSING")).usable


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
