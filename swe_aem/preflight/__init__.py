"""Preflight: is a task set fit for training? `docs/preflight.md` says what is checked."""

from swe_aem.preflight.checking import CheckConfig, TaskCheck
from swe_aem.preflight.probe import NotChecked, RunCounts
from swe_aem.preflight.run import CheckResult, check
from swe_aem.preflight.strength import StrengthConfig

__all__ = ["CheckConfig", "CheckResult", "NotChecked", "RunCounts", "StrengthConfig", "TaskCheck", "check"]
