"""Everything that a run keeps on disk: trajectories in append-only segments, their summary, their export.

`Store(DIR)` reads a directory of trajectories, `Store(DIR).writer()` appends to it. Formats: `swe_aem.store.upgrade`.
"""

from swe_aem.store.export import predictions
from swe_aem.store.failures import (
    Blame,
    FailedAttempt,
    FailureLog,
    LeftOut,
    failed_attempt,
    failures_of,
    read_failures,
    read_left_out,
)
from swe_aem.store.files import is_locked, locked, replace
from swe_aem.store.graded import (
    Before,
    GradedPrediction,
    GradedWriter,
    graded_prediction,
    graded_writer,
    is_graded_directory,
    read_graded,
    write_graded,
)
from swe_aem.store.logs import keep_log, log_path
from swe_aem.store.phases import EndedPhase, PhaseLog, read_phases
from swe_aem.store.sealed_line import check_line, seal_trajectory
from swe_aem.store.store import Store, StoredRow, StoreWriter, existing_store
from swe_aem.store.summary import (
    Summary,
    Totals,
    TrajectoryCounters,
    broken_task_lines,
    count_trajectory,
    read_summary,
    write_summary,
)
from swe_aem.store.upgrade import FORMAT

__all__ = [
    "FORMAT",
    "Before",
    "Blame",
    "EndedPhase",
    "FailedAttempt",
    "FailureLog",
    "GradedPrediction",
    "GradedWriter",
    "LeftOut",
    "PhaseLog",
    "Store",
    "StoreWriter",
    "StoredRow",
    "Summary",
    "Totals",
    "TrajectoryCounters",
    "broken_task_lines",
    "check_line",
    "count_trajectory",
    "existing_store",
    "failed_attempt",
    "failures_of",
    "graded_prediction",
    "graded_writer",
    "is_graded_directory",
    "is_locked",
    "keep_log",
    "locked",
    "log_path",
    "predictions",
    "read_failures",
    "read_graded",
    "read_left_out",
    "read_phases",
    "read_summary",
    "replace",
    "seal_trajectory",
    "write_graded",
    "write_summary",
]
