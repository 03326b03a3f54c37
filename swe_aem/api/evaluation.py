"""`evaluate`: the rates of a finished run, with their uncertainty."""

from collections.abc import Sequence
from pathlib import Path

from swe_aem.evaluate import RunReport, read_run, report
from swe_aem.evaluate.report import DEFAULT_KS
from swe_aem.rollout import RolloutResult


def evaluate(run: RolloutResult | Path | str, *, ks: Sequence[int] = DEFAULT_KS) -> RunReport:
    """The report of `swe-aem eval` on one run: pass@1 and pass@k with 95 % intervals, outcomes, what has no verdict.

    Args:
        run: what `rollout` returned, or the directory of a store.
        ks: the k of pass@k; those that no task has k samples for are left out.

    Returns:
        A report whose rates are shares from 0 to 1; `.pass_at[i].estimate` is one with the bounds of its interval.
        Infrastructure failures are in no rate.

    Raises:
        errors.UserError: the directory is no store, is empty, or holds a damaged record.
    """
    directory = run.directory if isinstance(run, RolloutResult) else Path(run)
    return report(directory, *read_run(directory), ks=ks)
