"""The configuration of `swe-aem train` that a run of the study has. Imports no torch."""

from collections.abc import Mapping
from pathlib import Path

from study.hunts import MAX_TOKENS
from study.settings import Run
from swe_aem.core.settings import check
from swe_aem.train.config import TrainConfig


def configuration(run: Run, policy: Path) -> TrainConfig:
    """What is not named here is the default: GRPO++, on-policy, one update per step."""
    advantage = run.changes["advantage"]
    if isinstance(advantage, Mapping) and advantage.get("shuffle"):
        advantage = {**advantage, "seed": run.sampling_seed}
    values = {
        "model": str(policy),
        "steps": run.steps,
        "groups_per_step": run.groups_per_step,
        "oversampled_groups": run.oversampled_groups,
        "micro_batch_size": run.groups_per_step * run.group_size,
        "save_every": run.steps,
        "rollout": {"group_size": run.group_size, "native": {"max_context_tokens": MAX_TOKENS}},
        "advantage": advantage,
        "grpo": {"learning_rate": run.learning_rate, "adam_beta2": 0.95, **run.changes.get("grpo", {})},
        "heldout": None,
        "device": "cpu",
        "seed": run.sampling_seed,
    }
    return check(TrainConfig, values)
