"""Which sample is chosen, and what that reaches."""

import pytest

from swe_aem.core import TrajectoryKey
from swe_aem.evaluate import TaskScore, mean_pass_at_k
from swe_aem.selection import Candidate, best_at_k, choose, read_patch
from swe_aem.selection.agent_tests import ByTests, Trial, trial
from swe_aem.selection.best import ByMajority, ByScore


def candidate(sample: int, line: str, resolved: bool | None = False, tests: str = "") -> Candidate:
    """A sample that adds one line to the program, or none, and one to a test file, or none."""
    text = diff("pkg/a.py", line) + diff(f"tests/test_{tests}.py", tests)
    return Candidate(task_id="t", sample=sample, model="m", patch=read_patch(text), resolved=resolved)


def diff(path: str, line: str) -> str:
    head = f"diff --git a/{path} b/{path}\nnew file mode 100644\n--- /dev/null\n+++ b/{path}\n@@ -0,0 +1 @@\n"
    return f"{head}+{line}\n" if line else ""


def scored(*scores: float) -> ByScore:
    return ByScore("verifier", {TrajectoryKey("t", sample): score for sample, score in enumerate(scores)})


def test_the_best_score_wins_then_the_majority_then_the_lowest_number() -> None:
    among = [candidate(0, "x"), candidate(1, "y"), candidate(2, "y"), candidate(3, "z")]
    assert choose(scored(0, 0, 0, 1), among).sample == 3
    assert choose(scored(1, 1, 1, 1), among).sample == 1
    assert choose(scored(1, 0, 0, 1), among).sample == 0
    assert choose(ByMajority(), among).sample == 1


def test_what_changes_nothing_is_chosen_only_where_nothing_else_is_there() -> None:
    among = [candidate(0, ""), candidate(1, ""), candidate(2, "x")]
    assert choose(ByMajority(), among).sample == 2
    assert choose(scored(1, 1, 0), among).sample == 2
    assert choose(ByMajority(), among[:2]).sample == 0


def test_best_at_k_of_a_perfect_way_is_pass_at_k_and_that_of_one_sample_pass_at_1() -> None:
    tasks = [
        [candidate(n, str(n), resolved=n in good) for n in range(6)] for good in ({1}, {0, 4, 5}, set(), set(range(6)))
    ]
    scores = [
        TaskScore(task_id="t", samples=6, resolved=sum(bool(c.resolved) for c in many), faults=0) for many in tasks
    ]
    for k in (1, 2, 4, 6):
        values = []
        for many in tasks:
            perfect = scored(*(float(bool(c.resolved)) for c in many))
            found = best_at_k(perfect, [many], k)
            assert found.estimate is not None
            values.append(found.estimate.value)
        expected, _ = mean_pass_at_k(scores, k)
        assert expected is not None
        assert sum(values) / 4 == pytest.approx(expected.value)
    blind = best_at_k(scored(*range(6)), tasks, 1)
    assert blind.estimate is not None
    assert blind.estimate.value == pytest.approx((1 + 3 + 0 + 6) / 24)


def test_samples_without_a_verdict_are_in_no_rate() -> None:
    tasks = [[candidate(0, "x", None), candidate(1, "y", True)], [candidate(0, "x", True), candidate(1, "y", True)]]
    found = best_at_k(ByMajority(), tasks, 2)
    assert (found.tasks, found.estimate is not None and found.estimate.value) == (1, 1.0)
    assert best_at_k(ByMajority(), tasks, 3).estimate is None


def test_tests_of_others_decide_and_only_those_that_pass_on_their_authors_program() -> None:
    right, wrong, empty = candidate(0, "right", tests="a"), candidate(1, "wrong", tests="b"), candidate(2, "other")
    among = [wrong, right, empty]
    passed: dict[Trial, frozenset[str]] = {}
    for author, program, files in (
        (right, right, {"tests/test_a.py"}),
        (right, wrong, set[str]()),
        (right, empty, set[str]()),
        (wrong, wrong, set[str]()),  # its own test fails on its own program: it counts for nobody
        (wrong, right, {"tests/test_b.py"}),
    ):
        made = trial(author, program)
        assert made is not None
        passed[made] = frozenset(files)
    way = ByTests(passed)
    assert not way.knows(among)
    made = trial(wrong, empty)
    assert made is not None
    way = ByTests({**passed, made: frozenset({"tests/test_b.py"})})
    assert way.knows(among)
    assert way.scores(among) == {0: 0.0, 1: 0.0, 2: 0.0}
    valid = trial(wrong, wrong)
    assert valid is not None
    way = ByTests({**way.passed, valid: frozenset({"tests/test_b.py"})})
    assert way.scores(among) == {0: 1.0, 1: 0.0, 2: 0.5}
    assert choose(way, among).sample == 0
