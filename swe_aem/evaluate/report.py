"""`RunReport`: everything that `swe-aem eval` says about one run, as data; `render.py` makes text of it."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from swe_aem.core.base import Frozen
from swe_aem.errors import UserError
from swe_aem.evaluate.rates import Estimate, bounds, mean_pass_at_k
from swe_aem.evaluate.score import Difference, Remark, Scores, TaskScore, score
from swe_aem.rollout import Manifest, RolloutConfig, read_manifest
from swe_aem.store import Store, is_graded_directory, read_graded

DEFAULT_KS = (1, 2, 4, 8, 16)


class PassAtK(Frozen):
    """pass@k of a run."""

    k: int
    estimate: Estimate
    tasks: int
    """Tasks with at least k samples, over which it is the mean."""
    left_out: int
    """Tasks with fewer."""


class RepoScore(Frozen):
    """One repository's share."""

    repo: str
    tasks: int
    samples: int
    resolved: int
    pass_at_1: float


class WeakTasks(Frozen):
    """Which tasks of a run have weak tests, and pass@1 with and without these."""

    lock: str
    """The lock that says how many mutants each task's tests let pass."""
    bound: float
    """Tests that let a larger share of mutants pass are weak, 0..1."""
    weak: tuple[str, ...]
    """Tasks with weak tests."""
    strong: int
    """Tasks with other tests."""
    unmeasured: int
    """Tasks of which the lock does not say it; in neither rate."""
    pass_at_1_strong: Estimate | None
    """None without such tasks."""
    pass_at_1_weak: Estimate | None


class RunReport(Frozen):
    """One run."""

    directory: str
    config: RolloutConfig | None
    """Settings of the run; None for a store without `config.json`."""
    wanted: int | None
    """Trajectories that the store will hold when its run is done; None if that is not known."""
    trajectories: int
    tasks: int
    """Tasks with at least one verdict."""
    tasks_without_verdict: int
    """Tasks whose every sample is an infrastructure failure or missing."""
    samples: int
    resolved: int
    faults: int
    """Trajectories that are infrastructure failures; in no rate."""
    outcomes: dict[str, int]
    broken_tasks: dict[str, str]
    """Tasks that are broken, by id, each with the reason; in no rate and in no bound."""
    pass_at: tuple[PassAtK, ...]
    if_all_missing_failed: float
    """pass@1 over all tasks if every sample without a verdict counted as a failure."""
    if_all_missing_resolved: float
    mean_turns: float | None
    mean_sampled_tokens: float | None
    mean_agent_s: float | None
    sampled_tokens_per_resolved: float | None
    """Tokens sampled in all, failures included, for each resolved trajectory."""
    repos: tuple[RepoScore, ...]
    """Empty if the task set cannot be read any more."""
    official_samples: int
    """Samples of which swebench's parser and rule alone say something."""
    official_resolved: int
    """Those that they call resolved."""
    differences: tuple[Difference, ...]
    """Samples on which the verdict says something else."""
    evidence: tuple[Remark, ...]
    """Samples with evidence of cheating."""
    odd_once: tuple[Remark, ...]
    """Samples that did something odd in one evaluation with twins and not in the next."""
    failures: tuple[Remark, ...]
    """Samples without a verdict, with the cause."""
    weak_tasks: WeakTasks | None = None
    """None where no lock says how strong tests are."""

    @property
    def complete(self) -> bool:
        """Is every trajectory that the run asks for in the store? False where that is not known."""
        return self.wanted is not None and self.trajectories >= self.wanted


def read_run(directory: Path) -> tuple[Manifest | None, Scores]:
    """Settings and sums of a store or a directory of `swe-aem grade`; raises `UserError` if there is none or it is
    empty."""
    if is_graded_directory(directory):
        graded = score(row.trajectory() for row in read_graded(directory))
        if not graded.outcomes:
            raise UserError(f"{directory} holds no verdicts yet; repeat its `swe-aem grade`")
        return read_manifest(directory), graded
    if not (directory / "trajectories").is_dir():
        raise UserError(f"{directory} is not a store: it has no folder `trajectories`; name the --out of a rollout")
    scores = score(Store(directory).trajectories())
    if not scores.outcomes:
        raise UserError(f"{directory} holds no trajectories yet; run `swe-aem rollout --out {directory}` first")
    return read_manifest(directory), scores


def report(
    directory: Path,
    manifest: Manifest | None,
    scores: Scores,
    *,
    ks: Sequence[int] = DEFAULT_KS,
    repos: Mapping[str, str] | None = None,
    weak: WeakTasks | None = None,
) -> RunReport:
    """Put a run's numbers together. `ks` that no task has samples for are left out; `repos` maps task ids to
    repositories."""
    config = manifest.config if manifest else None
    every = _every_task(scores, manifest)
    low, high = bounds(every, config.group_size if config and not config.early_completion else None)
    judged, samples = scores.judged, scores.samples
    return RunReport(
        directory=str(directory),
        config=config,
        wanted=manifest.wanted if manifest else None,
        trajectories=sum(scores.outcomes.values()),
        tasks=len(judged),
        tasks_without_verdict=len(every) - len(judged),
        samples=samples,
        resolved=scores.resolved,
        faults=scores.faults,
        outcomes=scores.outcomes,
        broken_tasks=scores.broken_tasks,
        pass_at=tuple(_pass_at(judged, ks)),
        if_all_missing_failed=low,
        if_all_missing_resolved=high,
        mean_turns=scores.turns / samples if samples else None,
        mean_sampled_tokens=scores.sampled_tokens / samples if samples else None,
        mean_agent_s=scores.agent_s / samples if samples else None,
        sampled_tokens_per_resolved=scores.sampled_tokens / scores.resolved if scores.resolved else None,
        repos=tuple(_by_repo(judged, repos or {})),
        official_samples=scores.official_samples,
        official_resolved=scores.official_resolved,
        differences=scores.differences,
        evidence=scores.evidence,
        odd_once=scores.odd_once,
        failures=scores.failures,
        weak_tasks=weak,
    )


def weak_tasks(scores: Scores, shares: Mapping[str, float], *, lock: Path, bound: float) -> WeakTasks:
    """A run's tasks by the strength of their tests; `shares` maps task ids to the share of mutants that pass."""
    measured = [task for task in scores.judged if task.task_id in shares]
    weak = [task for task in measured if shares[task.task_id] > bound]
    strong = [task for task in measured if shares[task.task_id] <= bound]
    return WeakTasks(
        lock=str(lock),
        bound=bound,
        weak=tuple(task.task_id for task in weak),
        strong=len(strong),
        unmeasured=len(scores.judged) - len(measured),
        pass_at_1_strong=mean_pass_at_k(strong, 1)[0],
        pass_at_1_weak=mean_pass_at_k(weak, 1)[0],
    )


def caveats(first: RunReport, second: RunReport) -> list[str]:
    """What makes two runs less comparable than they look, one sentence each."""
    found = [f"{run.directory} is not complete" for run in (first, second) if not run.complete]
    if first.config is None or second.config is None:
        return [*found, "a run has no config.json, so settings cannot be compared"]
    for name in ("tasks", "split", "group_size", "time_limit_s", "sandbox", "limits", "native", "agent", "harness"):
        a, b = getattr(first.config, name), getattr(second.config, name)
        if a != b:
            found.append(f"{name} differs: {_brief(a)} and {_brief(b)}")
    scripted = first.config.scripted or second.config.scripted  # models are what is compared, scripts are not
    if scripted and first.config.policy != second.config.policy:
        found.append(f"policy differs: {first.config.policy} and {second.config.policy}")
    return found


def _brief(value: object) -> str:
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _every_task(scores: Scores, manifest: Manifest | None) -> list[TaskScore]:
    """The store's tasks, and those of the run that have no trajectory yet."""
    seen = {task.task_id for task in scores.tasks} | scores.broken_tasks.keys()
    unseen = sorted(manifest.tasks.keys() - seen) if manifest else []
    return [*scores.tasks, *(TaskScore(task_id=id, samples=0, resolved=0, faults=1) for id in unseen)]


def _pass_at(judged: Sequence[TaskScore], ks: Iterable[int]) -> Iterable[PassAtK]:
    for k in ks:
        estimate, left_out = mean_pass_at_k(judged, k)
        if estimate is not None:
            yield PassAtK(k=k, estimate=estimate, tasks=len(judged) - left_out, left_out=left_out)


def _by_repo(judged: Sequence[TaskScore], repos: Mapping[str, str]) -> Iterable[RepoScore]:
    members: dict[str, list[TaskScore]] = {}
    for task in judged:
        if task.task_id in repos:
            members.setdefault(repos[task.task_id], []).append(task)
    for repo, tasks in sorted(members.items()):
        yield RepoScore(
            repo=repo,
            tasks=len(tasks),
            samples=sum(task.samples for task in tasks),
            resolved=sum(task.resolved for task in tasks),
            pass_at_1=sum(task.rate for task in tasks) / len(tasks),
        )
