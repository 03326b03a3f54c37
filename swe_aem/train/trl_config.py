"""`TrlConfig`: the fields of TRL's `GRPOConfig` that training honours, and why no other can be set. Importable without
TRL and torch.

Every field that is not in the model is refused, whatever a release of TRL adds; `REFUSED` only says why.
"""

from collections.abc import Mapping
from contextlib import suppress
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, ConfigDict, Field, model_serializer, model_validator

from swe_aem.core.base import Frozen

OWNED = {
    "output_dir": "--out",
    "max_steps": "steps",
    "num_train_epochs": "steps",
    "num_generations": "rollout.group_size",
    "generation_batch_size": "groups_per_step",
    "steps_per_generation": "num_minibatches and micro_batch_size",
    "gradient_accumulation_steps": "num_minibatches and micro_batch_size",
    "per_device_train_batch_size": "micro_batch_size",
    "num_iterations": "num_minibatches",
    "temperature": "rollout.native.temperature",
    "top_p": "rollout.native.top_p",
    "save_steps": "save_every",
    "save_strategy": "save_every",
    "seed": "seed",
    "data_seed": "seed",
    "report_to": "report_to",
    "max_completion_length": "rollout.native.max_context_tokens",
    "max_tool_calling_iterations": "rollout.native.max_turns",
    "use_cpu": "device",
    "ddp_timeout": "collective_timeout_s",
    "activation_checkpointing": "grpo.gradient_checkpointing",
    "activation_checkpointing_kwargs": "grpo.gradient_checkpointing_kwargs",
    "use_vllm": "servers",
    "torch_compile": "compile",
}
"""Fields that follow from other settings, and from which."""

_OTHER_SAMPLER = "the policy samples from its whole distribution, at rollout.native.temperature"
FIXED = {
    "logging_steps": "every step is logged",
    "logging_strategy": "every step is logged",
    "top_k": _OTHER_SAMPLER,
    "min_p": _OTHER_SAMPLER,
    "repetition_penalty": _OTHER_SAMPLER,
    "generation_kwargs": _OTHER_SAMPLER,
    "shuffle_dataset": "seed decides the order of tasks",
    "ignore_data_skip": "a resumed run finds the rows of a step by the step's number",
    "save_total_limit": "the last two checkpoints are kept",
    "disable_tqdm": "every step prints a line",
    "accelerator_config": "batch sizes and how processes share them follow from the settings of a step",
}
"""Fields that are laid over whatever is given, and why."""

_KL = "there is no KL term: a reference model's pass would be taken for the old policy's, whose entropies AEM needs"
_OWN_GENERATION = "TRL generates nothing: rollouts come from servers, or from a copy of the policy"
_OWN_CORRECTION = "it corrects TRL's own vLLM: set importance_sampling instead"
_OWN_EVALUATION = "held-out tasks are evaluated as the section heldout says"
_OWN_ROWS = "rows come from rollouts, in the order of their groups; nothing is loaded from a data set"
_ONE_REWARD = "there is one reward, the verdict"
_OWN_STORE = "OUT/rollouts holds every trajectory: swe-aem report OUT"
_LAUNCH = "accelerate launch decides it: configs/cluster has configurations"
_NO_HUB = "the trained model lies in OUT/policy: upload it with hf upload"
_OWN_CHECKPOINTS = "checkpoints are whole, in --out, and a signal ends a run cleanly"
_NOISE = "log-probabilities of one policy must agree between two passes: nothing random may happen in them"
_MODEL = "model, dtype and attention say what is loaded"
_NO_FREEZE = "a run may be resumed and continues in trackio: freeze its space with trackio.freeze when it has ended"
_NO_EFFECT = "nothing in training reads it"
_COMPILED = "the setting compile has layers compiled, by torch's default backend in its default mode"

_UNUSED: Mapping[str, tuple[str, ...]] = {
    _KL: ("beta", "sync_ref_model", "ref_model_mixup_alpha", "ref_model_sync_steps", "use_bias_correction_kl"),
    "the advantage estimator decides it: group_normalised divides by the deviation": ("scale_rewards",),
    "it looks at the last token only, and masks rows that end with a tool's answer: set compact_filtering": (
        "mask_truncated_completions",
    ),
    _ONE_REWARD: ("reward_weights", "multi_objective_aggregation"),
    _OWN_GENERATION: (
        "ds3_gather_for_generation", "chat_template_kwargs", "cache_implementation", "vllm_mode", "vllm_model_impl",
        "vllm_enable_sleep_mode", "vllm_structured_outputs_regex", "vllm_server_base_url", "vllm_server_host",
        "vllm_server_port", "vllm_server_timeout", "vllm_group_port", "vllm_gpu_memory_utilization",
        "vllm_max_model_length", "vllm_tensor_parallel_size", "use_transformers_continuous_batching",
        "transformers_continuous_batching_config", "use_transformers_paged", "use_cache",
    ),
    _OWN_CORRECTION: (
        "vllm_importance_sampling_correction", "vllm_importance_sampling_mode", "vllm_importance_sampling_clip_max",
        "vllm_importance_sampling_clip_min", "vllm_importance_sampling_cap",
    ),
    _OWN_EVALUATION: (
        "num_generations_eval", "do_eval", "do_predict", "eval_strategy", "eval_steps", "eval_delay", "eval_on_start",
        "per_device_eval_batch_size", "prediction_loss_only", "eval_do_concat_batches", "eval_use_gather_object",
        "eval_accumulation_steps", "include_for_metrics", "batch_eval_metrics", "bf16_full_eval", "fp16_full_eval",
        "load_best_model_at_end", "metric_for_best_model", "greater_is_better", "label_names",
    ),
    _OWN_ROWS: (
        "dataloader_drop_last", "dataloader_num_workers", "dataloader_pin_memory", "dataloader_persistent_workers",
        "dataloader_prefetch_factor", "dataloader_multiprocessing_context", "dataloader_in_order",
        "remove_unused_columns", "train_sampling_strategy", "length_column_name", "pad_to_multiple_of",
        "auto_find_batch_size",
    ),
    _OWN_STORE: (
        "log_completions", "log_multimodal", "num_completions_to_print", "log_unique_prompts",
        "log_completions_hub_repo",
    ),
    _LAUNCH: ("parallelism_config", "fsdp", "fsdp_config", "deepspeed", "ddp_backend", "local_rank"),
    _NO_HUB: (
        "push_to_hub", "hub_token", "hub_private_repo", "hub_model_id", "hub_strategy", "hub_always_push",
        "hub_revision",
    ),
    _OWN_CHECKPOINTS: (
        "save_only_model", "save_on_each_node", "enable_jit_checkpoint", "resume_from_checkpoint",
        "restore_callback_states_from_checkpoint",
    ),
    _NOISE: ("neftune_noise_alpha", "disable_dropout"),
    _MODEL: ("model_init_kwargs", "trust_remote_code", "use_liger_kernel", "liger_kernel_config"),
    _NO_FREEZE: ("trackio_static_space_id",),
    _COMPILED: ("torch_compile_backend", "torch_compile_mode"),
    _NO_EFFECT: (
        "do_train", "label_smoothing_factor", "average_tokens_across_devices", "include_num_input_tokens_seen",
        "skip_memory_metrics", "logging_first_step", "log_on_each_node",
    ),
}  # fmt: skip
"""Why fields without an effect here have none."""

UNUSED = {name: reason for reason, names in _UNUSED.items() for name in names}
"""Fields that would have no effect, or a wrong one, and why."""

Loss = Literal["grpo", "bnpo", "dr_grpo", "dapo", "cispo", "sapo", "luspo", "vespo"]
CLIPPED = ("grpo", "bnpo", "dr_grpo", "dapo", "luspo")
"""Losses with PPO's clipped ratio."""
MEANS_OVER_ROWS = ("grpo", "dr_grpo", "sapo", "luspo")
"""Losses that are a mean over the rows of a micro-batch. bnpo is one over its tokens, the others divide by the tokens
of the step."""
_LOSSES: Mapping[str, tuple[str, ...]] = {
    "epsilon": CLIPPED,
    "epsilon_high": (*CLIPPED, "cispo"),
    "delta": CLIPPED,
    "importance_sampling_level": (*CLIPPED, "cispo", "sapo"),
    **dict.fromkeys(("sapo_temperature_pos", "sapo_temperature_neg"), ("sapo",)),
    **dict.fromkeys(("vespo_k_pos", "vespo_lambda_pos", "vespo_k_neg", "vespo_lambda_neg"), ("vespo",)),
}
"""Fields that only some losses read, and which."""
_SWITCHES: Mapping[str, str] = {
    "gradient_checkpointing_kwargs": "gradient_checkpointing",
    **dict.fromkeys(
        ("entropy_coef_min", "entropy_coef_max", "entropy_coef_delta", "entropy_target"), "use_adaptive_entropy"
    ),
}
"""Fields that are read only where another one is true."""
TRACKERS: Mapping[str, tuple[str, ...]] = {
    "run_name": ("trackio", "wandb"),
    **dict.fromkeys(("project", "trackio_space_id", "trackio_bucket_id"), ("trackio",)),
}
"""Fields that only some trackers read, and which."""

CISPO_CAP = 5.0
"""Cap of CISPO's weights in ScaleRL (arXiv 2510.13786)."""

_Share = Annotated[float, Field(ge=0, le=1)]
_Positive = Annotated[float, Field(gt=0)]
_AtLeast0 = Annotated[float, Field(ge=0)]


def _number(value: Any) -> Any:
    """The number that a text is, for YAML reads 1e-7 as text; anything else as it is."""
    with suppress(ValueError):
        return float(value) if isinstance(value, str) else value
    return value


_Number = Annotated[Any, BeforeValidator(_number)]


class TrlConfig(Frozen):
    """Fields of TRL's `GRPOConfig` on top of GRPO++; what is not given is the preset's, or else TRL's."""

    REFUSED: ClassVar[Mapping[str, str]] = {
        **{name: f"follows from other settings: set {setting}" for name, setting in OWNED.items()},
        **{name: f"cannot be set: {reason}" for name, reason in {**FIXED, **UNUSED}.items()},
    }
    model_config = ConfigDict(use_attribute_docstrings=True)

    learning_rate: _AtLeast0 | None = None
    """Peak learning rate."""
    lr_scheduler_type: str | None = None
    """Schedule of the learning rate over the updates of the run."""
    lr_scheduler_kwargs: dict[str, _Number] | None = None
    """More arguments of the schedule."""
    warmup_steps: _AtLeast0 | None = None
    """Updates in which the learning rate rises; below 1, a share of all."""
    optim: str | None = None
    """Optimiser, by transformers' name."""
    optim_args: str | None = None
    """More arguments of the optimiser, a=1,b=2."""
    optim_target_modules: str | tuple[str, ...] | None = None
    """Modules that a low-rank optimiser such as galore_adamw projects."""
    weight_decay: _AtLeast0 | None = None
    """Weight decay of matrices."""
    adam_beta1: _Share | None = None
    """Adam's decay of the first moment."""
    adam_beta2: _Share | None = None
    """Adam's decay of the second moment."""
    adam_epsilon: _AtLeast0 | None = None
    """Adam's addition to the denominator."""
    max_grad_norm: _AtLeast0 | None = None
    """Norm to which gradients are clipped; 0 clips nothing."""

    bf16: bool | None = None
    """Compute in bfloat16 by autocast."""
    fp16: bool | None = None
    """Compute in float16 by autocast, with a scaled loss."""
    tf32: bool | None = None
    """Multiply float32 matrices in TF32, on GPUs that can."""
    cast_lm_head_to_fp32: bool | None = None
    """Compute logits in float32."""
    gradient_checkpointing: bool | None = None
    """Compute activations again in the backward pass: less memory, more time."""
    gradient_checkpointing_kwargs: dict[str, Any] | None = None
    """More arguments of gradient checkpointing."""
    torch_empty_cache_steps: Annotated[int, Field(ge=1)] | None = None
    """Updates between returns of unused GPU memory."""

    loss_type: Loss | None = None
    """Formulation of the loss."""
    epsilon: Annotated[float, Field(gt=0, lt=1)] | None = None
    """The clipped losses: the ratio is clipped below at 1 - epsilon."""
    epsilon_high: _Positive | None = None
    """The clipped losses: the ratio is clipped above at 1 + epsilon_high, which is below 2. cispo: the ratio is capped
    at epsilon_high itself, which is 1 or more."""
    delta: _Positive | None = None
    """The clipped losses: cap of the ratio where the advantage is negative, above 1 + epsilon_high (dual clip)."""
    sapo_temperature_pos: _Positive | None = None
    """sapo: temperature of tokens with a positive advantage."""
    sapo_temperature_neg: _Positive | None = None
    """sapo: temperature of the other tokens."""
    vespo_k_pos: _AtLeast0 | None = None
    """vespo: power of the weight, positive advantages."""
    vespo_lambda_pos: _AtLeast0 | None = None
    """vespo: decay of the weight, positive advantages."""
    vespo_k_neg: _AtLeast0 | None = None
    """vespo: power of the weight, negative advantages."""
    vespo_lambda_neg: _AtLeast0 | None = None
    """vespo: decay of the weight, negative advantages."""
    importance_sampling_level: Literal["token", "sequence"] | None = None
    """One ratio per token, or one per trajectory (GSPO)."""
    off_policy_mask_threshold: _AtLeast0 | None = None
    """Trajectories with a negative advantage whose mean log-ratio of sampler to policy is above this are left out
    (DeepSeek-V3.2)."""
    top_entropy_quantile: _Share | None = None
    """Only this share of the tokens, those of the highest entropy, is trained."""
    entropy_coef: float | None = None
    """Weight of the mean token entropy, which is added to the objective."""
    use_adaptive_entropy: bool | None = None
    """Change entropy_coef so that the entropy comes to entropy_target (Skywork-OR1)."""
    entropy_coef_min: float | None = None
    """Lowest entropy_coef."""
    entropy_coef_max: float | None = None
    """Highest entropy_coef."""
    entropy_coef_delta: _AtLeast0 | None = None
    """Change of entropy_coef at an update."""
    entropy_target: _AtLeast0 | None = None
    """Entropy in nats per token below which entropy_coef rises."""
    router_aux_loss_coef: _AtLeast0 | None = None
    """Mixtures of experts: weight of the loss that balances the experts; 0 if not given, whatever config.json says."""

    ddp_find_unused_parameters: bool | None = None
    """Argument of DistributedDataParallel."""
    ddp_bucket_cap_mb: Annotated[int, Field(ge=1)] | None = None
    """Argument of DistributedDataParallel."""
    ddp_broadcast_buffers: bool | None = None
    """Argument of DistributedDataParallel."""
    ddp_static_graph: bool | None = None
    """Argument of DistributedDataParallel."""
    full_determinism: bool | None = None
    """Deterministic kernels only, which are slower."""
    debug: Literal["underflow_overflow"] | None = None
    """Stop at the first value that is infinite or not a number."""
    logging_nan_inf_filter: bool | None = None
    """Leave losses that are not finite out of the logged mean."""
    log_level: Literal["debug", "info", "warning", "error", "critical", "passive"] | None = None
    """What transformers prints on the first process."""
    log_level_replica: Literal["debug", "info", "warning", "error", "critical", "passive"] | None = None
    """What transformers prints on the others."""
    run_name: str | None = None
    """Name of the run in trackio or wandb."""
    project: str | None = None
    """Project of the run in trackio."""
    trackio_space_id: str | None = None
    """Space of the run in trackio."""
    trackio_bucket_id: str | None = None
    """Bucket of the run in trackio."""

    @model_serializer(mode="wrap")
    def _given(self, handler: Any) -> dict[str, Any]:
        """What was given; the rest is TRL's."""
        return {name: value for name, value in handler(self).items() if value is not None}

    def given(self) -> dict[str, Any]:
        """The fields that were given, in plain values."""
        return self.model_dump(mode="json")

    @model_validator(mode="after")
    def _every_field_has_an_effect(self) -> "TrlConfig":
        loss = self.loss_type or GRPO_PLUS_PLUS["loss_type"]
        given = self.given()
        for name, losses in _LOSSES.items():
            if name in given and loss not in losses:
                raise ValueError(
                    f"{name} has no effect with loss_type {loss}: leave it out, or set loss_type to "
                    f"{' or '.join(losses)}"
                )
        for name, switch in _SWITCHES.items():
            if name in given and not given.get(switch):
                raise ValueError(f"{name} has no effect without {switch}: set {switch} to true, or leave {name} out")
        if self.bf16 and self.fp16:
            raise ValueError("bf16 and fp16 exclude each other: leave one out")
        if said := changed_meaning(recipe(self)):
            raise ValueError(said)
        return self


GRPO_PLUS_PLUS: dict[str, Any] = {
    "loss_type": "dr_grpo",
    "scale_rewards": "none",
    "epsilon": 0.2,
    "epsilon_high": 0.28,
    "beta": 0.0,
    "router_aux_loss_coef": 0.0,
    "mask_truncated_completions": False,
    "learning_rate": 1e-6,
    "lr_scheduler_type": "constant",
    "bf16": False,
    "gradient_checkpointing": False,
    "log_completions": False,
}
"""GRPO++ (DeepSWE): clip 0.2 / 0.28 (DAPO's clip-higher), no KL and so no reference model, no division by the standard
deviation and a constant length normalisation (Dr. GRPO), no entropy bonus, no loss that balances experts. `grpo` in a
configuration replaces these."""


def recipe(config: TrlConfig) -> dict[str, Any]:
    """GRPO++ with what was given; cispo, which caps a ratio where the others bound its distance from 1, has a cap of
    its own."""
    given = config.given()
    own = {"epsilon_high": CISPO_CAP} if given.get("loss_type") == "cispo" else {}
    return {**GRPO_PLUS_PLUS, **own, **given}


def changed_meaning(fields: Mapping[str, Any]) -> str | None:
    """Why fields of a `GRPOConfig` would mean something else under its loss than under others; None if none does."""
    loss, epsilon, delta = fields["loss_type"], fields["epsilon"], fields.get("delta")
    high = fields.get("epsilon_high")
    high = epsilon if high is None else high
    if loss == "cispo" and high < 1:
        return (
            f"epsilon_high={high:g} caps the ratio itself with loss_type cispo, so that every token would weigh at "
            f"most {high:g}: leave it out for {CISPO_CAP:g}, or set it to 1 or more"
        )
    if loss in CLIPPED and high >= 1:
        return (
            f"epsilon_high={high:g} is added to 1 with loss_type {loss}, which clips ratios at {1 + high:g}: set it "
            "below 1, e.g. 0.28, or loss_type cispo, which caps the ratio at it"
        )
    if loss not in CLIPPED and delta is not None:
        return f"delta={delta:g} bounds the ratio of a clipped loss, and loss_type {loss} is none: leave delta out"
    if delta is not None and delta <= 1 + high:
        return (
            f"delta={delta:g} lies inside of the clip range, which ends at 1 + epsilon_high = {1 + high:g}, and would "
            "bound positive advantages too: set it above, e.g. 3 (dual clip)"
        )
    return None
