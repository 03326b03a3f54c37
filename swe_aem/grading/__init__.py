"""Grading: history scrub, patch capture and hygiene, graders; see `docs/grading.md`."""

from swe_aem.grading.capture import capture_patch
from swe_aem.grading.grader import Grader, GradeSlot
from swe_aem.grading.layers import StartLayers
from swe_aem.grading.parser import SwebenchParser
from swe_aem.grading.patch import CleanPatch, clean_patch
from swe_aem.grading.prepare import prepare_for_agent, prepare_for_grading
from swe_aem.grading.scrub import scrub_history

__all__ = [
    "CleanPatch",
    "GradeSlot",
    "Grader",
    "StartLayers",
    "SwebenchParser",
    "capture_patch",
    "clean_patch",
    "prepare_for_agent",
    "prepare_for_grading",
    "scrub_history",
]
