"""What a selection chose and what that reached, as data and as a table."""

from collections.abc import Iterator, Sequence

from swe_aem.core.base import Frozen
from swe_aem.evaluate import TaskScore, mean_pass_at_k, percent
from swe_aem.selection.best import BestAtK, Way, best_at_k, choose
from swe_aem.selection.candidates import Candidate, Candidates
from swe_aem.table import table


class Choice(Frozen):
    """What a way chose of one task."""

    task_id: str
    sample: int
    scores: dict[int, float]
    """By sample."""
    resolved: bool | None
    """Did the chosen sample resolve the task? None without a verdict."""


class WayReport(Frozen):
    """One way."""

    way: str
    best_at: tuple[BestAtK, ...]
    choices: tuple[Choice, ...]
    unknown: tuple[str, ...]
    """Tasks of which it could choose nothing, for answers are missing."""
    all_equal: int
    """Tasks whose samples all have one score, so that the rule for equal scores chose."""


class SelectionReport(Frozen):
    """A whole selection."""

    store: str
    tasks: int
    candidates: int
    with_tests: int
    """Candidates that wrote tests."""
    pass_at: tuple[BestAtK, ...]
    """pass@k of the same samples: what the best possible choice reaches. pass@1 is what a blind choice reaches."""
    ways: tuple[WayReport, ...]
    notes: tuple[str, ...]


def selection_report(store: str, candidates: Candidates, ways: Sequence[Way], ks: Sequence[int]) -> SelectionReport:
    """The report of a finished selection; `ks` that no task has samples for are left out."""
    many = [*candidates.tasks.values()]
    scores = [_score(one) for one in many]
    most = max(score.samples for score in scores)
    ks = [k for k in ks if k <= most]
    return SelectionReport(
        store=store,
        tasks=len(many),
        candidates=sum(map(len, many)),
        with_tests=sum(bool(one.patch.test_files) for task in many for one in task),
        pass_at=tuple(_pass_at(scores, k) for k in ks),
        ways=tuple(_of_way(way, candidates, ks) for way in ways),
        notes=candidates.notes,
    )


def report_lines(report: SelectionReport) -> Iterator[str]:
    """The report as text: a row for each way, a column for each k."""
    yield (
        f"{report.store}: {report.candidates} samples of {report.tasks} tasks, {report.with_tests} of them with tests "
        "of their own"
    )
    rows = [("pass@k (any of k resolves)", *map(_cell, report.pass_at))]
    rows += [(f"best@k by {one.way}", *map(_cell, one.best_at)) for one in report.ways]
    yield from table(rows, head=("", *(f"k={one.k}" for one in report.pass_at)), align="<", indent=2)
    for one in report.ways:
        if one.all_equal:
            yield f"  {one.way}: all scores are equal in {one.all_equal} tasks: the rule for equal scores chose"
        if one.unknown:
            yield f"  {one.way} chose nothing of {len(one.unknown)} tasks, for answers are missing: repeat the command"
    yield "  in brackets: 95 % intervals, of which tasks are the unit"


def _cell(one: BestAtK) -> str:
    return "-" if one.estimate is None else percent(one.estimate)


def _score(task: Sequence[Candidate]) -> TaskScore:
    judged = [one for one in task if one.resolved is not None]
    return TaskScore(
        task_id=task[0].task_id,
        samples=len(judged),
        resolved=sum(bool(one.resolved) for one in judged),
        faults=len(task) - len(judged),
    )


def _pass_at(scores: Sequence[TaskScore], k: int) -> BestAtK:
    estimate, left_out = mean_pass_at_k(scores, k)
    return BestAtK(k=k, estimate=estimate, tasks=len(scores) - left_out)


def _of_way(way: Way, candidates: Candidates, ks: Sequence[int]) -> WayReport:
    many = [*candidates.tasks.values()]
    return WayReport(
        way=way.name,
        best_at=tuple(best_at_k(way, many, k) for k in ks),
        choices=tuple(_choice(way, task) for task in many if way.knows(task)),
        unknown=tuple(task[0].task_id for task in many if not way.knows(task)),
        all_equal=sum(_all_equal(way, task) for task in many if way.knows(task)),
    )


def _all_equal(way: Way, task: Sequence[Candidate]) -> bool:
    """Does a way tell the patches of a task from each other? Those that change nothing do not count."""
    patches = [one for one in task if not one.patch.empty]
    scores = way.scores(task)
    return len({one.patch.key for one in patches}) > 1 and len({scores[one.sample] for one in patches}) == 1


def _choice(way: Way, task: Sequence[Candidate]) -> Choice:
    one = choose(way, task)
    return Choice(task_id=one.task_id, sample=one.sample, scores=dict(way.scores(task)), resolved=one.resolved)
