"""Audit: labels of what trajectories did on the way, counted over stores and training steps (`docs/audit.md`)."""

from swe_aem.audit.counts import AuditReport, Labelled, Tally, audited, labelled, store_of
from swe_aem.audit.labels import BY_NAME, LABELS, Evidence, Label
from swe_aem.audit.render import evidence_lines, report_lines, step_lines

__all__ = [
    "BY_NAME",
    "LABELS",
    "AuditReport",
    "Evidence",
    "Label",
    "Labelled",
    "Tally",
    "audited",
    "evidence_lines",
    "labelled",
    "report_lines",
    "step_lines",
    "store_of",
]
