"""`evaluate_directory`: the report of one finished run, from its directory alone, as far as its tasks can be read."""

from collections.abc import Callable, Sequence
from pathlib import Path

from swe_aem.core import TaskRecord
from swe_aem.errors import UserError
from swe_aem.evaluate.report import DEFAULT_KS, RunReport, WeakTasks, read_run, report, weak_tasks
from swe_aem.evaluate.score import Scores
from swe_aem.rollout import Manifest, read_manifest
from swe_aem.tasks import WEAK_SHARE, load_tasks, passing_shares


def evaluate_directory(
    directory: Path,
    *,
    ks: Sequence[int] = DEFAULT_KS,
    lock: Path | None = None,
    weak: float | None = None,
    tell: Callable[[str], None],
    scores: Scores | None = None,
) -> tuple[RunReport, Scores]:
    """The report of a store or of a directory of `swe-aem grade`, and the scores that it is made from.

    `lock` says how strong the tests of the tasks are, by default the run's own lock; tests that let a larger share of
    mutants pass than `weak` are weak, by default the run's bound. `tell` is told what the report lacks, and why.
    `scores` are those of the store where they are known already. Raises `UserError` for a directory that is none of
    both, or is empty.
    """
    if scores is None:
        manifest, scores = read_run(directory)
    else:
        manifest = read_manifest(directory)
    records = _records(manifest, tell)
    repos = {record.task.id: record.task.repo for record in records}
    found = _weak_tasks(manifest, scores, records, lock, weak, tell)
    return report(directory, manifest, scores, ks=ks, repos=repos, weak=found), scores


def _records(manifest: Manifest | None, tell: Callable[[str], None]) -> Sequence[TaskRecord]:
    """The tasks of the run, as far as its task set can still be read."""
    if manifest is None:
        return ()
    try:
        tasks = load_tasks(manifest.config.tasks, split=manifest.config.split, family=manifest.config.family)
    except UserError as error:
        tell(f"no table by repository: {error}")
        return ()
    for note in tasks.notes:
        tell(note)
    return tasks.records


def _weak_tasks(
    manifest: Manifest | None,
    scores: Scores,
    records: Sequence[TaskRecord],
    lock: Path | None,
    weak: float | None,
    tell: Callable[[str], None],
) -> WeakTasks | None:
    """Rates by the strength of tests, where `lock` or else the run's own says what that is."""
    if manifest is None or (path := lock or manifest.config.lock) is None:
        return None
    if lock is None and not path.exists():
        tell(f"no rates without weak tasks: the run's lock {path} is not there; give --lock FILE")
        return None
    shares = passing_shares(path, manifest.config.sandbox.type, records)
    if not shares:
        if lock is not None or weak is not None:
            tell(
                f"no rates without weak tasks: {path} does not say how strong tests are; run `swe-aem tasks check "
                f"--tasks {manifest.config.tasks} --sandbox {manifest.config.sandbox.type} --lock {path} --strength 10`"
            )
        return None
    bound = next(one for one in (weak, manifest.config.max_passing_mutants, WEAK_SHARE) if one is not None)
    return weak_tasks(scores, shares, lock=path, bound=bound)
