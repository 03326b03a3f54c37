"""`evaluate`: the rates of a finished run, with their uncertainty."""

from collections.abc import Sequence
from pathlib import Path

from swe_aem.evaluate import RunReport, evaluate_directory
from swe_aem.evaluate.report import DEFAULT_KS
from swe_aem.rollout import RolloutResult
from swe_aem.runlog import tell


def evaluate(
    run: RolloutResult | Path | str,
    *,
    ks: Sequence[int] = DEFAULT_KS,
    lock: Path | str | None = None,
    weak: float | None = None,
) -> RunReport:
    """The report of `swe-aem eval` on one run: pass@1 and pass@k with 95 % intervals, outcomes, what has no verdict.

    Args:
        run: what `rollout` returned, or the directory of a store or of `swe-aem grade`.
        ks: the k of pass@k; those that no task has k samples for are left out.
        lock: lock of `swe-aem tasks check --strength`, for rates without weak tasks; by default the run's own.
        weak: the share of mutants, 0 to 1, above which tests that let them pass are weak; by default the run's bound.

    Returns:
        A report whose rates are shares from 0 to 1; `.pass_at[i].estimate` is one with the bounds of its interval.
        Infrastructure failures are in no rate. What the report lacks, and why, is told on stderr.

    Raises:
        errors.UserError: the directory is no store, is empty, or holds a damaged record.
    """
    directory = run.directory if isinstance(run, RolloutResult) else Path(run)
    found, _ = evaluate_directory(
        directory,
        ks=ks,
        lock=None if lock is None else Path(lock),
        weak=weak,
        tell=tell,
    )
    return found
