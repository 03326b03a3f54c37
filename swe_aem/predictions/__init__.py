"""Predictions: patches that somebody else made, or that lie in a store, graded as a rollout's patches are.

`read_predictions` reads them, `GradeRun` grades them, `grade_from_logs` reads kept logs again. `docs/grade.md`.
"""

from swe_aem.predictions.from_logs import Rereading, grade_from_logs
from swe_aem.predictions.reading import Prediction, Predictions, of_tasks, read_predictions
from swe_aem.predictions.run import GradeResult, GradeRun
from swe_aem.predictions.summary import GradeSummary

__all__ = [
    "GradeResult",
    "GradeRun",
    "GradeSummary",
    "Prediction",
    "Predictions",
    "Rereading",
    "grade_from_logs",
    "of_tasks",
    "read_predictions",
]
