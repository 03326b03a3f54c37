"""Rollouts: from tasks to stored, graded trajectories. `docs/rollouts.md` says how they work.

`RolloutRun` is the way in.
"""

from swe_aem.errors import RunAborted
from swe_aem.rollout.at_once import AtOnce, Host, this_host
from swe_aem.rollout.attribution import ROUNDS_THAT_DECIDE
from swe_aem.rollout.budget import grade_attempt_s, sandbox_spec
from swe_aem.rollout.components import (
    RolloutComponents,
    components_of,
    open_agents,
    open_components,
    require_fitting_model,
    script_tools,
    turn_renderer,
)
from swe_aem.rollout.config import NATIVE, BudgetConfig, RolloutConfig, SchedulingConfig, default_directory
from swe_aem.rollout.group import RolloutGroup, block_size
from swe_aem.rollout.group_source import GroupSource
from swe_aem.rollout.human import HumanSession, human_session, judge_human
from swe_aem.rollout.manifest import Manifest, claim, read_manifest
from swe_aem.rollout.places import Places
from swe_aem.rollout.run import RolloutResult, RolloutRun, roll_out, wanted_trajectories
from swe_aem.rollout.single_patch import grade_patch
from swe_aem.rollout.store_tokenizer import name_tokenizer, require_token_ids, require_tokenizer
from swe_aem.rollout.supply import TaskSupply
from swe_aem.rollout.task_choice import chosen_tasks
from swe_aem.rollout.used import grading_extensions, used_extensions
from swe_aem.rollout.verdict_rewards import by_verdict_alone, verdict_rewards

__all__ = [
    "NATIVE",
    "ROUNDS_THAT_DECIDE",
    "AtOnce",
    "BudgetConfig",
    "GroupSource",
    "Host",
    "HumanSession",
    "Manifest",
    "Places",
    "RolloutComponents",
    "RolloutConfig",
    "RolloutGroup",
    "RolloutResult",
    "RolloutRun",
    "RunAborted",
    "SchedulingConfig",
    "TaskSupply",
    "block_size",
    "by_verdict_alone",
    "chosen_tasks",
    "claim",
    "components_of",
    "default_directory",
    "grade_attempt_s",
    "grade_patch",
    "grading_extensions",
    "human_session",
    "judge_human",
    "name_tokenizer",
    "open_agents",
    "open_components",
    "read_manifest",
    "require_fitting_model",
    "require_token_ids",
    "require_tokenizer",
    "roll_out",
    "sandbox_spec",
    "script_tools",
    "this_host",
    "turn_renderer",
    "used_extensions",
    "verdict_rewards",
    "wanted_trajectories",
]
