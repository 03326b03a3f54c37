"""Grading: history scrub, capture of an agent's work, hygiene, graders; see `docs/grading.md`."""

from swe_aem.grading.capture import CapturedWork, GivenTree, capture_work, record_given
from swe_aem.grading.configuration_files import CONFIGURATION_FILES, matches
from swe_aem.grading.delta import LINK, Blob, Change, Delta, printable
from swe_aem.grading.diff import DiffError, FileDiff, split_diff
from swe_aem.grading.diff_text import render_delta
from swe_aem.grading.eval_types import results_from
from swe_aem.grading.foreign import NotApplied, apply_text
from swe_aem.grading.grader import CONTROL_EXTRA_S, Grader, GradeSlot
from swe_aem.grading.hygiene import CleanDelta, clean_delta
from swe_aem.grading.integrity import PASSING
from swe_aem.grading.kept_log import NotReadable, read_kept_log
from swe_aem.grading.layers import StartLayers
from swe_aem.grading.parser import SwebenchParser
from swe_aem.grading.prepare import prepare_for_agent, prepare_for_grading
from swe_aem.grading.rules import RUNNER_MODULES, is_test_name, paths_of
from swe_aem.grading.scrub import scrub_history
from swe_aem.grading.twins.making import Twins

__all__ = [
    "CONFIGURATION_FILES",
    "CONTROL_EXTRA_S",
    "LINK",
    "PASSING",
    "RUNNER_MODULES",
    "Blob",
    "CapturedWork",
    "Change",
    "CleanDelta",
    "Delta",
    "DiffError",
    "FileDiff",
    "GivenTree",
    "GradeSlot",
    "Grader",
    "NotApplied",
    "NotReadable",
    "StartLayers",
    "SwebenchParser",
    "Twins",
    "apply_text",
    "capture_work",
    "clean_delta",
    "is_test_name",
    "matches",
    "paths_of",
    "prepare_for_agent",
    "prepare_for_grading",
    "printable",
    "read_kept_log",
    "record_given",
    "render_delta",
    "results_from",
    "scrub_history",
    "split_diff",
]
