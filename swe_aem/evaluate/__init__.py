"""Evaluation: rates and comparisons of finished runs, with their uncertainty (`docs/evaluation.md`)."""

from swe_aem.evaluate.compare import FEW_TASKS, Comparison, compare
from swe_aem.evaluate.directory import evaluate_directory
from swe_aem.evaluate.rates import Estimate, clustered, mean_pass_at_k, wilson
from swe_aem.evaluate.render import comparison_lines, lines, percent
from swe_aem.evaluate.report import RunReport, WeakTasks, caveats, read_run, report, weak_tasks
from swe_aem.evaluate.score import Sample, Scores, TaskScore, sample_of, score, sums

__all__ = [
    "FEW_TASKS",
    "Comparison",
    "Estimate",
    "RunReport",
    "Sample",
    "Scores",
    "TaskScore",
    "WeakTasks",
    "caveats",
    "clustered",
    "compare",
    "comparison_lines",
    "evaluate_directory",
    "lines",
    "mean_pass_at_k",
    "percent",
    "read_run",
    "report",
    "sample_of",
    "score",
    "sums",
    "weak_tasks",
    "wilson",
]
