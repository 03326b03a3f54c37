"""What a store says about each of its tasks: samples with a verdict, how many resolved, and what has no verdict."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

from swe_aem.core import OUTCOME_TABLE, Outcome, Trajectory
from swe_aem.core.base import Frozen


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

    A trajectory counts as resolved if its reward is 1: one that ran into a limit is graded like any other.
    """
    samples: Counter[str] = Counter()
    resolved: Counter[str] = Counter()
    faults: Counter[str] = Counter()
    outcomes: Counter[str] = Counter()
    broken: dict[str, str] = {}
    turns: Counter[str] = Counter()
    sampled_tokens: Counter[str] = Counter()
    agent_s: defaultdict[str, float] = defaultdict(float)
    for trajectory in trajectories:
        assert trajectory.outcome is not None  # a store takes nothing else
        outcomes[trajectory.outcome.value] += 1
        if trajectory.outcome is Outcome.BROKEN_TASK:
            broken[trajectory.task_id] = trajectory.error or ""
            continue
        if not OUTCOME_TABLE[trajectory.outcome].in_baseline:
            faults[trajectory.task_id] += 1
            continue
        samples[trajectory.task_id] += 1
        resolved[trajectory.task_id] += trajectory.reward == 1.0
        turns[trajectory.task_id] += len(trajectory.responses)
        sampled_tokens[trajectory.task_id] += sum(response.end - response.start for response in trajectory.responses)
        agent_s[trajectory.task_id] += trajectory.timings_s.get("agent", 0.0)
    ids = sorted((samples.keys() | faults.keys()) - broken.keys())
    return Scores(
        tasks=tuple(TaskScore(task_id=id, samples=samples[id], resolved=resolved[id], faults=faults[id]) for id in ids),
        outcomes=dict(outcomes.most_common()),
        broken_tasks=dict(sorted(broken.items())),
        turns=sum(turns[id] for id in ids),
        sampled_tokens=sum(sampled_tokens[id] for id in ids),
        agent_s=sum(agent_s[id] for id in ids),
    )
