"""What a store says about each of its tasks: samples with a verdict, how many resolved, and what has no verdict."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

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


def score(trajectories: Iterable[Trajectory]) -> Scores:
    """Count terminal trajectories, one pass, one trajectory in memory at a time.

    Whether one is resolved its outcome and verdict say, not its reward: one that ran into a limit is graded like any
    other.
    """
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
    for trajectory in trajectories:
        assert trajectory.outcome is not None  # a store takes nothing else
        outcomes[trajectory.outcome.value] += 1
        if trajectory.outcome is Outcome.BROKEN_TASK:
            broken[trajectory.task_id] = trajectory.error or ""
            continue
        if not OUTCOME_TABLE[trajectory.outcome].in_baseline:
            faults[trajectory.task_id] += 1
            failures.append(_remark(trajectory, trajectory.error or ""))
            continue
        if (verdict := trajectory.verdict) is not None:
            official += [verdict.official_resolved] if verdict.official_resolved is not None else []
            differences += _difference(trajectory, verdict)
            evidence += [_remark(trajectory, line) for line in verdict.integrity[:1]]
            odd_once += [_remark(trajectory, line) for line in verdict.odd_once[:1]]
        samples[trajectory.task_id] += 1
        resolved[trajectory.task_id] += is_resolved(trajectory)
        turns[trajectory.task_id] += len(trajectory.responses)
        sampled_tokens[trajectory.task_id] += sum(response.used.completion_tokens for response in trajectory.responses)
        agent_s[trajectory.task_id] += trajectory.timings_s.get("agent", 0.0)
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


def _difference(trajectory: Trajectory, verdict: Verdict) -> list[Difference]:
    """The difference between a verdict and swebench's rule alone, if there is one."""
    if verdict.official_resolved in (None, verdict.resolved):
        return []
    left_out = [f"left out of the patch: {path}" for path in verdict.stripped_files]
    why = next(iter((*verdict.integrity, verdict.cause, *left_out)), "") or "the runner's own record says otherwise"
    return [
        Difference(
            task_id=trajectory.task_id,
            sample=trajectory.sample,
            resolved=verdict.resolved,
            official_resolved=verdict.official_resolved,
            why=why,
        )
    ]


def _remark(trajectory: Trajectory, text: str) -> Remark:
    return Remark(task_id=trajectory.task_id, sample=trajectory.sample, text=text)
