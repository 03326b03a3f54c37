"""The rollout room: from tasks to stored, graded trajectories. `docs/rollouts.md` tells how it works."""

from swe_aem.rollout.config import RolloutConfig, SchedulingConfig
from swe_aem.rollout.crew import Crew
from swe_aem.rollout.orchestrator import Orchestrator
from swe_aem.store import Store, StoreWriter, Summary, read_summary

__all__ = [
    "Crew",
    "Orchestrator",
    "RolloutConfig",
    "SchedulingConfig",
    "Store",
    "StoreWriter",
    "Summary",
    "read_summary",
]
