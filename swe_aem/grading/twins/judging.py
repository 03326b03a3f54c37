"""What twins say of a patch that passes the tests: nothing against code that works, whatever it does."""

import secrets
import time
from collections.abc import Awaitable, Callable, Collection

from swe_aem.core import AnswerKey, TestStatus, Verdict
from swe_aem.grading.twins.making import Twins

_RAN = (TestStatus.PASSED, TestStatus.FAILED, TestStatus.ERROR)
_FAILS = (TestStatus.FAILED, TestStatus.ERROR)


def measured(twins: Twins, gold: Verdict) -> Twins:
    """Those of the twins that fail with the gold patch, by the verdict on it."""
    names = {test: name for test, name in twins.names.items() if gold.fail_to_pass.get(name) in _FAILS}
    lost = {
        test: f"its twin does not fail with the gold patch but is {gold.fail_to_pass.get(name, TestStatus.MISSING)}"
        for test, name in twins.names.items()
        if test not in names
    }
    key = twins.key if names else None
    return Twins(key=key, names=names, why_not={**twins.why_not, **lost}, eval_s=gold.eval_s)


async def judged_by_twins(
    verdict: Verdict, key: AnswerKey, twins: Twins, run: Callable[[AnswerKey], Awaitable[Verdict]]
) -> Verdict:
    """The verdict on a patch that passes the tests of `key`, once their twins have run too.

    `run` evaluates the patch with a key, each time in a fresh sandbox. A test is evidence only if the patch passes it
    twice and its twin twice. A twin that is skipped, missing or never ends says nothing. Raises what `run` raises.
    """
    assert twins.key is not None
    began_s = time.monotonic()
    first = await run(twins.key)
    ran = tuple(test for test, name in twins.names.items() if first.fail_to_pass.get(name) in _RAN)
    suspects = _passed(twins, first, ran)
    if suspects:
        order = [key, twins.key]
        secrets.SystemRandom().shuffle(order)
        again = {id(one): await run(one) for one in order}
        originals = again[id(key)].fail_to_pass
        suspects = [test for test in suspects if originals.get(test) is TestStatus.PASSED]
        suspects = _passed(twins, again[id(twins.key)], suspects)
    evidence = tuple(f"passed both the test and its contradiction, twice: {test}" for test in suspects[:1])
    return verdict.model_copy(
        update={
            "resolved": verdict.resolved and not evidence,
            "integrity": (*verdict.integrity, *evidence),
            "twinned": ran,
            "twin_s": time.monotonic() - began_s,
        }
    )


def _passed(twins: Twins, verdict: Verdict, tests: Collection[str]) -> list[str]:
    return [test for test in tests if verdict.fail_to_pass.get(twins.names[test]) is TestStatus.PASSED]
