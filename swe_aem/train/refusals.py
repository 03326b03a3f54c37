"""Refuses settings that TRL would accept and silently not honour, when the trainer is made, with the reason."""

from typing import Any

from swe_aem.advantage.config import NO_IMPORTANCE_SAMPLING, AdvantageConfig, ImportanceSamplingConfig
from swe_aem.errors import UserError
from swe_aem.train.config import TrainConfig

_PER_TOKEN_LOSSES = ("cispo", "vespo")
_CLIPPED_LOSSES = ("grpo", "bnpo", "dr_grpo", "dapo", "luspo")


def refuse_silent_changes(
    grpo: Any, advantage: AdvantageConfig, importance: ImportanceSamplingConfig = NO_IMPORTANCE_SAMPLING
) -> None:
    """Raise `UserError` for fields of a `GRPOConfig` that would not do what they say with these advantages."""
    modulated = advantage.aem and advantage.lam > 0
    if modulated and grpo.importance_sampling_level == "sequence" and grpo.loss_type not in _PER_TOKEN_LOSSES:
        raise UserError(
            f"importance_sampling_level=sequence with loss_type={grpo.loss_type} has one ratio per sequence, so the "
            "factors of AEM average out within a row: use importance_sampling_level=token, or loss_type=cispo or vespo"
        )
    if grpo.beta:
        raise UserError(
            f"beta={grpo.beta} is not supported: the reference model's pass over a batch would be taken for the old "
            "policy's, whose entropies AEM needs. Leave beta at 0 (GRPO++ has no KL term)"
        )
    if grpo.scale_rewards != "none":
        raise UserError(
            f"scale_rewards={grpo.scale_rewards} would not be honoured: advantages come from advantage.baseline. Set "
            "scale_rewards=none, and advantage.baseline=group_normalised for a division by the deviation"
        )
    if grpo.mask_truncated_completions:
        raise UserError(
            "mask_truncated_completions looks at the last token only, so it masks rows that end with a tool's answer: "
            "set it to false; outcomes decide which rows are trained"
        )
    mode = grpo.vllm_importance_sampling_mode
    if grpo.use_vllm and grpo.vllm_importance_sampling_correction and mode.startswith("sequence"):
        raise UserError(
            f"vllm_importance_sampling_mode={mode} sums over thousands of tokens and drops or keeps whole trajectories "
            "at random: use token_truncate or token_mask"
        )
    if importance.mode != "none" and grpo.use_vllm and grpo.vllm_importance_sampling_correction:
        raise UserError(
            "importance_sampling and vllm_importance_sampling_correction would correct the same thing twice: leave one "
            "out"
        )
    if importance.mode == "mask" and grpo.loss_type == "vespo":
        raise UserError(
            "importance_sampling.mode=mask gives tokens the weight 0, and loss_type=vespo multiplies the weights of a "
            "row: one masked token would silence its trajectory. Use truncate or sequence_geometric_mask"
        )
    _refuse_dual_clip(grpo)
    if grpo.multi_objective_aggregation != "sum_then_normalize":
        raise UserError("multi_objective_aggregation has no meaning here: there is one reward; leave it out")


def _refuse_dual_clip(grpo: Any) -> None:
    """Raise `UserError` where `delta` would clip nothing, or more than it should."""
    if grpo.delta is None:
        return
    if grpo.loss_type not in _CLIPPED_LOSSES:
        raise UserError(
            f"delta={grpo.delta} bounds the ratio of a clipped loss, and loss_type={grpo.loss_type} has none: leave "
            f"delta out, or use one of {', '.join(_CLIPPED_LOSSES)}"
        )
    end = 1 + (grpo.epsilon if grpo.epsilon_high is None else grpo.epsilon_high)
    if grpo.delta <= end:
        raise UserError(
            f"delta={grpo.delta} lies inside of the clip range, which ends at 1 + epsilon_high = {end:g}, and would "
            "bound positive advantages too: set it above, e.g. 3 (dual clip)"
        )


def refuse_sharding(config: TrainConfig, *, sharded: bool) -> None:
    """Raise `UserError` for settings that FSDP or DeepSpeed cannot honour."""
    if sharded and config.servers is None:
        raise UserError(
            "the policy samples in this process with whole weights, and FSDP or DeepSpeed would shard them: name "
            "servers, launch with plain data parallelism, or train an adapter with lora"
        )
    if sharded and config.heldout is not None and config.heldout.every is not None:
        raise UserError(
            "heldout.every needs whole weights in the middle of training, and they are sharded: leave it out"
        )
    if sharded and config.lora is not None:
        raise UserError("lora with FSDP or DeepSpeed is not supported: launch with plain data parallelism")
