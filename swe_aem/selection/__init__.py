"""Test-time scaling: of several samples of a task, choose one to submit, without its hidden tests. `docs/select.md`.

`Selection` asks what the chosen ways need (`SelectConfig`), and `selection_report` says what each would have reached.
"""

from swe_aem.selection.best import BestAtK, best_at_k, choose
from swe_aem.selection.candidates import Candidate, Candidates, read_candidates
from swe_aem.selection.config import WAYS, SelectConfig
from swe_aem.selection.patches import Patch, read_patch
from swe_aem.selection.report import SelectionReport, report_lines, selection_report
from swe_aem.selection.run import Selection, Unanswered

__all__ = [
    "WAYS",
    "BestAtK",
    "Candidate",
    "Candidates",
    "Patch",
    "SelectConfig",
    "Selection",
    "SelectionReport",
    "Unanswered",
    "best_at_k",
    "choose",
    "read_candidates",
    "read_patch",
    "report_lines",
    "selection_report",
]
