"""`GradeSummary`: `summary.json` of a directory of `swe-aem grade`."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from pydantic import ConfigDict

from swe_aem.core.base import Frozen
from swe_aem.evaluate import Estimate, score
from swe_aem.evaluate.rates import mean_pass_at_k
from swe_aem.evaluate.score import Difference, Remark
from swe_aem.store import FORMAT, GradedPrediction, replace

FILE = "summary.json"


class GradeSummary(Frozen):
    """The numbers of all verdicts so far."""

    model_config = ConfigDict(extra="ignore")

    format: int = FORMAT
    predictions: int
    """Predictions that are to be graded."""
    verdicts: int
    """Predictions that have a verdict."""
    failures: tuple[Remark, ...]
    """Predictions without one for infrastructure failures, with the cause. A rerun tries them again."""
    failed_attempts: int = 0
    """Lines of `failures.jsonl`: every attempt to grade that failed."""
    broken_tasks: dict[str, str]
    """Task id to why its tests cannot be run."""
    resolved: int
    pass_at_1: Estimate | None
    """Mean over tasks of the share of their verdicts that are resolved, with its 95 % interval."""
    official_samples: int
    """Verdicts beside which swebench's parser and rule alone say something."""
    official_resolved: int
    differences: tuple[Difference, ...]
    """Verdicts that differ from that."""
    evidence: tuple[Remark, ...]
    """Verdicts with evidence of cheating."""
    odd_once: tuple[Remark, ...]
    """Verdicts on patches that did something odd in one evaluation with twins and not in the next."""
    outcomes: dict[str, int]
    left_out: tuple[str, ...]
    """What was said of the source of the predictions."""
    wall_s: float
    """Seconds that all runs into this directory took."""


def summarise(
    rows: Iterable[GradedPrediction], *, wanted: int, notes: Sequence[str], wall_s: float, failed_attempts: int = 0
) -> GradeSummary:
    """The summary of these verdicts."""
    scores = score(row.trajectory() for row in rows)
    return GradeSummary(
        predictions=wanted,
        verdicts=scores.samples,
        failures=scores.failures,
        failed_attempts=failed_attempts,
        broken_tasks=scores.broken_tasks,
        resolved=scores.resolved,
        pass_at_1=mean_pass_at_k(scores.judged, 1)[0],
        official_samples=scores.official_samples,
        official_resolved=scores.official_resolved,
        differences=scores.differences,
        evidence=scores.evidence,
        odd_once=scores.odd_once,
        outcomes=scores.outcomes,
        left_out=tuple(notes),
        wall_s=wall_s,
    )


def write_grade_summary(directory: Path, summary: GradeSummary) -> None:
    """Replace `summary.json`."""
    replace(directory / FILE, summary.model_dump_json(indent=2) + "\n")


def earlier_wall_s(directory: Path) -> float:
    """Seconds of earlier runs; 0 where no summary says so."""
    try:
        return GradeSummary.model_validate_json((directory / FILE).read_bytes()).wall_s
    except (OSError, ValueError):
        return 0.0
