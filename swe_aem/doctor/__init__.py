"""`swe-aem doctor`: one check for each thing that a host needs, and the command that fixes what is wrong."""

from swe_aem.core.finding import Finding, Level
from swe_aem.doctor.examine import CHECKS, examine
from swe_aem.doctor.finding import Purpose
from swe_aem.doctor.node import node_problem

__all__ = ["CHECKS", "Finding", "Level", "Purpose", "examine", "node_problem"]
