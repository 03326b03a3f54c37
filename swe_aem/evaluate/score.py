"""What a store says about each of its tasks: samples with a verdict, how many resolved, and what has no verdict."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from swe_aem.core import OUTCOME_TABLE, Outcome, Trajectory, Verdict
from swe_aem.core.base import Frozen
from swe_aem.core.outcomes import is_resolved


class TaskScore(Frozen):
    """The samples of one task."""

    task_id: str
    samples: int
    """Samples with a verdict: those whose outcome says something about the policy."""
    resolved: int
    """Samples with a verdict that resolved the task."""
    faults: int
    """Samples that are infrastructure failures; in no rate, always shown."""

    @property
    def rate(self) -> float:
        """Share of the samples with a verdict that resolved the task; only where there are any."""
        return self.resolved / self.samples


class Difference(Frozen):
    """A sample on which the verdict and swebench's rule alone differ."""

    task_id: str
    sample: int
    resolved: bool
    """What the verdict says."""
    official_resolved: bool
    """What swebench's parser and rule alone say of the same log."""
    why: str
    """Why the verdict differs, as far as it says so."""


class Remark(Frozen):
    """What is to be known of one sample."""

    task_id: str
    sample: int
    text: str


class Scores(Frozen):
    """A whole store, in sums."""

    tasks: tuple[TaskScore, ...]
    """Sorted by task id."""
    outcomes: dict[str, int]
    """Trajectories by outcome."""
    broken_tasks: dict[str, str]
    """Tasks that are broken, by id, each with the reason. They are not among `tasks`: no policy can resolve them."""
    turns: int
    """Responses of the samples with a verdict, summed."""
    sampled_tokens: int
    """Tokens that the policy sampled in them, summed."""
    agent_s: float
    """Seconds of the agent phase in them, summed."""
    official_samples: int = 0
    """Samples of which swebench's parser and rule alone say something."""
    official_resolved: int = 0
    """Those that they call resolved."""
    differences: tuple[Difference, ...] = ()
    """Samples on which the verdict says something else."""
    evidence: tuple[Remark, ...] = ()
    """Samples with evidence of cheating, each with the first line of it."""
    odd_once: tuple[Remark, ...] = ()
    """Samples that did something odd in one evaluation with twins and not in the next, each with the first line of
    it."""
    failures: tuple[Remark, ...] = ()
    """Samples without a verdict, each with the cause."""

    @property
    def judged(self) -> tuple[TaskScore, ...]:
        """The tasks that have at least one sample with a verdict."""
        return tuple(task for task in self.tasks if task.samples)

    @property
    def samples(self) -> int:
        """Samples with a verdict, over all tasks."""
        return sum(task.samples for task in self.tasks)

    @property
    def resolved(self) -> int:
        """Resolved samples, over all tasks."""
        return sum(task.resolved for task in self.tasks)

    @property
    def faults(self) -> int:
        """Samples without a verdict, over all tasks."""
        return sum(task.faults for task in self.tasks)

    def by_id(self) -> Mapping[str, TaskScore]:
        """The judged tasks by id."""
        return {task.task_id: task for task in self.judged}


class Sample(NamedTuple):
    """What a rate, or a remark, needs of one terminal trajectory."""

    task_id: str
    sample: int
    outcome: str
    counts: bool
    """Does its outcome say something about the policy?"""
    error: str
    resolved: bool
    official_resolved: bool | None
    """What swebench's parser and rule alone say; None where they say nothing, or there is no verdict."""
    disputed: bool
    """Does the verdict say something else than they do?"""
    why: str
    """Why it does, as far as it says so."""
    evidence: str
    """The first line of evidence of cheating; empty without any."""
    odd_once: str
    """The first odd thing in one evaluation with twins and not in the next; empty without any."""
    turns: int
    sampled_tokens: int
    agent_s: float


def sample_of(trajectory: Trajectory) -> Sample:
    """What is counted of a terminal trajectory.

    Whether it is resolved its outcome and verdict say, not its reward: one that ran into a limit is graded like any
    other.
    """
    assert trajectory.outcome is not None  # a store takes nothing else
    verdict = trajectory.verdict
    disputed = verdict is not None and verdict.official_resolved not in (None, verdict.resolved)
    return Sample(
        task_id=trajectory.task_id,
        sample=trajectory.sample,
        outcome=trajectory.outcome.value,
        counts=OUTCOME_TABLE[trajectory.outcome].in_baseline,
        error=trajectory.error or "",
        resolved=is_resolved(trajectory),
        official_resolved=verdict.official_resolved if verdict else None,
        disputed=disputed,
        why=_why(verdict) if verdict and disputed else "",
        evidence=next(iter(verdict.integrity), "") if verdict else "",
        odd_once=next(iter(verdict.odd_once), "") if verdict else "",
        turns=len(trajectory.responses),
        sampled_tokens=sum(response.used.completion_tokens for response in trajectory.responses),
        agent_s=trajectory.timings_s.get("agent", 0.0),
    )


def score(trajectories: Iterable[Trajectory]) -> Scores:
    """Count terminal trajectories, one pass, one trajectory in memory at a time."""
    return sums(map(sample_of, trajectories))


def sums(found: Iterable[Sample]) -> Scores:
    """The sums of samples, in one pass."""
    samples: Counter[str] = Counter()
    resolved: Counter[str] = Counter()
    faults: Counter[str] = Counter()
    outcomes: Counter[str] = Counter()
    broken: dict[str, str] = {}
    turns: Counter[str] = Counter()
    sampled_tokens: Counter[str] = Counter()
    agent_s: defaultdict[str, float] = defaultdict(float)
    official: list[bool] = []
    differences: list[Difference] = []
    evidence: list[Remark] = []
    odd_once: list[Remark] = []
    failures: list[Remark] = []
    for one in found:
        outcomes[one.outcome] += 1
        if one.outcome == Outcome.BROKEN_TASK.value:
            broken[one.task_id] = one.error
            continue
        if not one.counts:
            faults[one.task_id] += 1
            failures.append(_remark(one, one.error))
            continue
        if one.official_resolved is not None:
            official.append(one.official_resolved)
            differences += [_difference(one, one.official_resolved)] if one.disputed else []
        evidence += [_remark(one, one.evidence)] if one.evidence else []
        odd_once += [_remark(one, one.odd_once)] if one.odd_once else []
        samples[one.task_id] += 1
        resolved[one.task_id] += one.resolved
        turns[one.task_id] += one.turns
        sampled_tokens[one.task_id] += one.sampled_tokens
        agent_s[one.task_id] += one.agent_s
    ids = sorted((samples.keys() | faults.keys()) - broken.keys())
    return Scores(
        tasks=tuple(TaskScore(task_id=id, samples=samples[id], resolved=resolved[id], faults=faults[id]) for id in ids),
        outcomes=dict(outcomes.most_common()),
        broken_tasks=dict(sorted(broken.items())),
        turns=sum(turns[id] for id in ids),
        sampled_tokens=sum(sampled_tokens[id] for id in ids),
        agent_s=sum(agent_s[id] for id in ids),
        official_samples=len(official),
        official_resolved=sum(official),
        differences=tuple(differences),
        evidence=tuple(evidence),
        odd_once=tuple(odd_once),
        failures=tuple(failures),
    )


def _why(verdict: Verdict) -> str:
    """Why a verdict differs from swebench's rule alone."""
    left_out = [f"left out of the patch: {path}" for path in verdict.stripped_files]
    reasons = (*verdict.integrity, verdict.cause, *left_out)
    return next(iter(reasons), "") or "the runner's own record says otherwise"


def _difference(one: Sample, official_resolved: bool) -> Difference:
    # The verdict is resolved or not, and it says something else.
    return Difference(
        task_id=one.task_id,
        sample=one.sample,
        resolved=not official_resolved,
        official_resolved=official_resolved,
        why=one.why,
    )


def _remark(one: Sample, text: str) -> Remark:
    return Remark(task_id=one.task_id, sample=one.sample, text=text)
