"""Refuses settings that would be accepted and not honoured, with the reason: before a run loads anything, once the
model's configuration is known, and when the trainer is made. Importable without torch and TRL."""

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from importlib.util import find_spec
from typing import Any

from swe_aem.advantage.config import (
    ADVANTAGES,
    NO_IMPORTANCE_SAMPLING,
    AdvantageConfig,
    EMPGConfig,
    ImportanceSamplingConfig,
    OwnAdvantageConfig,
)
from swe_aem.errors import UserError
from swe_aem.harness import is_harness, read_harness_spec
from swe_aem.policy import tokenizer_fingerprint
from swe_aem.reward import Rewards
from swe_aem.train.architecture import (
    READ_AS_EXPERTS,
    SERVED_EXPERTS,
    SOFTMAX_ROUTERS,
    config_of,
    experts,
    kind_of,
    left_out,
    noise,
    other_than_attention,
)
from swe_aem.train.compiled_layers import missing_compiler
from swe_aem.train.config import PACKED_HAVE_NO_COLUMNS, TrainConfig
from swe_aem.train.planning.fit import misfits
from swe_aem.train.planning.shapes import shape_of
from swe_aem.train.task_samplers import TASK_SAMPLERS
from swe_aem.train.trl_config import TRACKERS, UNUSED, changed_meaning, recipe

_IN_SHARDS = "SHARDED_STATE_DICT"
_PER_TOKEN_LOSSES = ("cispo", "vespo")
_EACH_ROW_ALIKE = ("grpo", "sapo", "luspo")
"""Losses that are means over rows whatever these are long. A mean over rows of dr_grpo divides by a constant."""


def refuse_at_start(config: TrainConfig) -> None:
    """Raise `UserError` for settings that cannot be honoured on this host, by this launch, or with this model as far as
    its directory tells."""
    for reason in reasons_at_start(config, sharded=launched_sharded()):
        raise UserError(reason)


def reasons_at_start(config: TrainConfig, *, sharded: bool) -> Iterator[str]:
    """What `refuse_at_start` refuses, where the model is or is not `sharded`."""
    yield from _losses(recipe(config.grpo), config.advantage, config.importance_sampling)
    if config.token_budget is not None:
        yield from _packing(recipe(config.grpo))
    if config.branches_per_trajectory:
        yield from _branches(config)
    yield from _trackers(config)
    yield from _extensions(config)
    yield from _sharding(config, sharded=sharded)
    yield from _asynchronous_checkpoints(config)
    yield from _attention(config, sharded=sharded)
    if config.compile != "none" and (missing := missing_compiler(config.device)) is not None:
        yield f"compile={config.compile} needs {missing}, or leave compile out"
    yield from misfits(config)
    yield from _cluster(config)
    if (values := config_of(config.model)) is not None:
        yield from _model(config, values)
    with suppress(UserError):  # a tokenizer that is not on this host
        yield from _tokenizer(config, config.model)


def refuse_launch() -> None:
    """Raise `UserError` where `accelerate launch` asked for shards that nothing here trains."""
    for reason in _launch():
        raise UserError(reason)


def refuse_model(config: TrainConfig, values: Mapping[str, Any]) -> None:
    """Raise `UserError` for settings that cannot be honoured with a model whose config.json has these values."""
    for reason in _model(config, values):
        raise UserError(reason)


def refuse_other_tokenizer(config: TrainConfig, path: str) -> None:
    """Raise `UserError` where prompts would be encoded by another tokenizer than the model's, which is at `path`."""
    for reason in _tokenizer(config, path):
        raise UserError(reason)


def untrained(config: TrainConfig, values: Mapping[str, Any]) -> Iterator[str]:
    """What training leaves alone in a model whose config.json has these values, a sentence for each."""
    if config.lora is not None and not config.lora.experts and experts(values):
        yield (
            f"{config.model} is a mixture of experts: the adapter is on {_listed(config.lora.target_modules)}, and no "
            "weight of a routed expert is trained"
        )
    if config.lora is None and (names := left_out(config.model)):
        yield (
            f"{len(names)} tensors of {config.model}, such as {names[0]}, are not trained: servers keep them as they "
            "are, and policy/ is the model without them"
        )


def launched_sharded() -> bool:
    """Did `accelerate launch` ask for FSDP or DeepSpeed? These are the variables that accelerate reads."""
    return _asked("ACCELERATE_USE_FSDP") or _asked("ACCELERATE_USE_DEEPSPEED")


def _asked(variable: str) -> bool:
    return os.environ.get(variable, "").lower() == "true"


def refuse_silent_changes(
    grpo: Any,
    advantage: AdvantageConfig,
    importance: ImportanceSamplingConfig = NO_IMPORTANCE_SAMPLING,
    *,
    packed: bool = False,
    routing_replay: bool = False,
) -> None:
    """Raise `UserError` for fields of a `GRPOConfig` that would not do what they say with these advantages, or with
    packed rows, and for packed rows with routing replay."""
    for reason in _silent_changes(grpo, advantage, importance):
        raise UserError(reason)
    if packed and routing_replay:
        raise UserError(f"routing_replay {PACKED_HAVE_NO_COLUMNS}")
    for reason in _packing(vars(grpo)) if packed else ():
        raise UserError(reason)


def _silent_changes(grpo: Any, advantage: AdvantageConfig, importance: ImportanceSamplingConfig) -> Iterator[str]:
    yield from _losses(vars(grpo), advantage, importance)
    for name in ("beta", "reward_weights", "neftune_noise_alpha"):
        if getattr(grpo, name):
            yield f"{name}={getattr(grpo, name)} cannot be set: {UNUSED[name]}"
    if grpo.scale_rewards != "none":
        yield f"scale_rewards={grpo.scale_rewards} would not be honoured: set it to none; {UNUSED['scale_rewards']}"
    if grpo.mask_truncated_completions:
        yield f"mask_truncated_completions would not be honoured: {UNUSED['mask_truncated_completions']}"
    if grpo.multi_objective_aggregation != "sum_then_normalize":
        yield f"multi_objective_aggregation cannot be set: {UNUSED['multi_objective_aggregation']}"
    mode = grpo.vllm_importance_sampling_mode
    if grpo.use_vllm and grpo.vllm_importance_sampling_correction and mode.startswith("sequence"):
        yield (
            f"vllm_importance_sampling_mode={mode} sums over thousands of tokens and drops or keeps whole trajectories "
            "at random: use token_truncate or token_mask"
        )
    if importance.mode != "none" and grpo.use_vllm and grpo.vllm_importance_sampling_correction:
        yield (
            "importance_sampling and vllm_importance_sampling_correction would correct the same thing twice: leave one "
            "out"
        )


def _losses(
    fields: Mapping[str, Any], advantage: AdvantageConfig, importance: ImportanceSamplingConfig
) -> Iterator[str]:
    """Why the loss of a `GRPOConfig` with these fields does not go with the advantages and their correction."""
    if importance.mode == "mask" and fields["loss_type"] == "vespo":
        yield (
            "importance_sampling.mode mask gives tokens the weight 0, and loss_type vespo multiplies the weights of a "
            "row: one masked token would silence its trajectory. Use truncate or sequence_geometric_mask"
        )
    if importance.mode != "none" and advantage.entropy == "sampler":
        yield (
            f"importance_sampling.mode {importance.mode} weighs the old policy against the sampler, and "
            "advantage.entropy=sampler takes the one for the other: leave one out. Rollouts of older weights need "
            "advantage.entropy=exact"
        )
    if (changed := changed_meaning(fields)) is not None:
        yield changed
    yield from _one_ratio_per_row(fields, advantage)


def _packing(fields: Mapping[str, Any]) -> Iterator[str]:
    """Which figures of a micro-batch would be others with packed rows: none of the loss itself but bnpo's."""
    if fields["loss_type"] == "bnpo":
        yield (
            "loss_type bnpo is a mean over the tokens of a micro-batch, so token_budget would change it: use dapo, "
            "whose mean is over the step's, or leave token_budget out"
        )
    changed = [name for name in ("entropy_coef", "use_adaptive_entropy", "router_aux_loss_coef") if fields.get(name)]
    if (fields.get("top_entropy_quantile") or 1.0) < 1.0:
        changed.append("top_entropy_quantile")
    for name in changed:
        yield f"{name} looks at the tokens of a micro-batch, which token_budget would change: leave one of the two out"


def _branches(config: TrainConfig) -> Iterator[str]:
    """Why branches cannot be trained on with these settings."""
    loss = recipe(config.grpo)["loss_type"]
    if loss in _EACH_ROW_ALIKE:
        yield (
            f"loss_type {loss} is a mean over rows in which each weighs alike, so a trajectory would weigh more with "
            "each of its branches: use dr_grpo, dapo or cispo, in which tokens do, or leave branches_per_trajectory out"
        )
    if isinstance(config.advantage, EMPGConfig):
        yield (
            "advantage empg pays a response for the one that follows it, and no response of a branch follows the last "
            "one of another stream: use another estimator, or leave branches_per_trajectory out"
        )
    agent, rollout = config.rollout.agent_name, config.rollout
    with suppress(UserError):  # a file that is not there is refused with all other settings of rollouts
        if is_harness(agent) and read_harness_spec(agent).inside:
            yield (
                f"the harness {agent} runs inside of the sandbox, where the policy's own commands can ask for branches "
                "that look like its own, so none of them is trained on: leave branches_per_trajectory out"
            )
    if agent == "native" and rollout.renderer.thinking == "keep":
        yield (
            "the native agent makes branches only with rollout.renderer.thinking as_template: leave "
            "branches_per_trajectory out"
        )


def one_ratio_per_row(fields: Mapping[str, Any]) -> bool:
    """Does the loss of a `GRPOConfig` with these fields take one ratio for all tokens of a row?"""
    return fields.get("importance_sampling_level") == "sequence" and fields["loss_type"] not in _PER_TOKEN_LOSSES


def _one_ratio_per_row(fields: Mapping[str, Any], advantage: AdvantageConfig) -> Iterator[str]:
    if advantage.varies_within_rows and one_ratio_per_row(fields):
        yield (
            f"importance_sampling_level sequence with loss_type {fields['loss_type']} has one ratio per sequence, so "
            f"what {advantage.estimator} makes of single responses averages out within a row: use "
            "importance_sampling_level token, or loss_type cispo, which weights the log-probability of each token"
        )


def _tokenizer(config: TrainConfig, path: str) -> Iterator[str]:
    given = config.rollout.tokenizer_path
    if given == config.model:
        return
    theirs, ours = tokenizer_fingerprint(given), tokenizer_fingerprint(path)
    if theirs != ours:
        yield (
            f"rollout.tokenizer {config.rollout.tokenizer} is the tokenizer {theirs}, and that of the model "
            f"{config.model} is {ours}: leave rollout.tokenizer out"
        )


def _extensions(config: TrainConfig) -> Iterator[str]:
    """What the settings name of the user's own, and what cannot be found or made. Errors of that code are raised."""
    try:
        TASK_SAMPLERS.function(config.task_sampler, "inputs")
        Rewards(config.rollout.reward)
        if isinstance(config.advantage, OwnAdvantageConfig):  # the others need torch
            ADVANTAGES.function(config.advantage.of_estimator(), "inputs")
    except UserError as error:
        yield str(error)


def _trackers(config: TrainConfig) -> Iterator[str]:
    chosen, given = config.report_to or (), config.grpo.given()
    for tracker in chosen:
        if not find_spec(tracker):
            yield (
                f"report_to has {tracker}, and {tracker} is not installed: uv pip install {tracker}, or leave it out; "
                "metrics.jsonl has every metric"
            )
    for name, readers in TRACKERS.items():
        if name in given and not set(readers) & set(chosen):
            yield f"grpo.{name} is read by {' and '.join(readers)} only: add one to report_to, or leave {name} out"


_MOST_LENT = 2 * 10**9
"""Parameters of the largest model with which this process samples for the hosts of a cluster."""


def _cluster(config: TrainConfig) -> Iterator[str]:
    if config.rollout.cluster is None or config.servers is not None:
        return
    with suppress(UserError):  # a model whose size is not known
        count = shape_of(config.model).parameters
        if count > _MOST_LENT:
            yield (
                f"{config.model} has {count / 1e9:.1f} billion parameters: without servers one process would sample "
                "for all hosts of the cluster, which is for models up to 2 billion. Set servers (swe-aem serve)"
            )


_PACKAGES = {"flash_attention_2": "flash_attn", "flash_attention_3": "flash_attn_interface"}
"""What has an implementation of attention where the package kernels does not fetch it."""


def _attention(config: TrainConfig, *, sharded: bool) -> Iterator[str]:
    name = config.attention
    if name not in _PACKAGES:
        return
    if config.device == "cpu":
        yield f"attention={name} needs a GPU, and device is cpu: use auto, sdpa or eager"
    if not find_spec("kernels") and not find_spec(_PACKAGES[name]):
        yield f"attention={name} is in none of the installed packages: uv pip install kernels, or use auto"
    if config.dtype == "float32" and not (config.grpo.bf16 or config.grpo.fp16 or sharded):
        yield (
            f"attention={name} takes 16-bit numbers, and layers compute in float32: set dtype=bfloat16 or grpo.bf16, "
            "or use auto, sdpa or eager"
        )


def _launch() -> Iterator[str]:
    if _asked("ACCELERATE_USE_FSDP") and os.environ.get("FSDP_VERSION", "1") != "2":
        yield (
            "version 1 of FSDP would keep the gradient of the whole model on every GPU: launch with --fsdp_version 2, "
            "or --config_file configs/cluster/fsdp2.yaml"
        )


def _sharding(config: TrainConfig, *, sharded: bool) -> Iterator[str]:
    yield from _launch()
    if config.token_budget is not None and _asked("ACCELERATE_USE_DEEPSPEED"):
        yield "DeepSpeed takes an optimiser step after each backward pass, and token_budget makes several: use FSDP2"
    if sharded and config.servers is None:
        yield (
            "the policy samples in this process with whole weights, and FSDP or DeepSpeed would shard them: name "
            "servers, or launch with plain data parallelism"
        )
    if sharded and config.lora is not None:
        yield "lora with FSDP or DeepSpeed is not supported: launch with plain data parallelism"


def _asynchronous_checkpoints(config: TrainConfig) -> Iterator[str]:
    if not config.asynchronous_checkpoints:
        return
    planned = config.hardware.sharding if config.hardware else "none"
    if planned == "zero3" or _asked("ACCELERATE_USE_DEEPSPEED"):
        yield (
            "asynchronous_checkpoints is not for DeepSpeed, which writes its checkpoints itself while training waits: "
            "leave it out, or use FSDP2"
        )
    kind = os.environ.get("FSDP_STATE_DICT_TYPE", _IN_SHARDS)
    if _asked("ACCELERATE_USE_FSDP") and kind.upper() != _IN_SHARDS:
        yield (
            f"asynchronous_checkpoints writes the shards of each process, and fsdp_state_dict_type is {kind}: make it "
            f"{_IN_SHARDS}, or leave one of the two out"
        )


def _model(config: TrainConfig, values: Mapping[str, Any]) -> Iterator[str]:
    count = experts(values)
    yield from _adapters(config, values, count)
    if config.compile != "none":
        yield from _compiled(config, values, count)
    if config.token_budget is not None and (other := other_than_attention(values)):
        yield (
            f"{config.model} has layers of the kind {other[0]}, in which packed rows would see each other: leave "
            "token_budget out"
        )
    if config.routing_replay and not count:
        yield f"routing_replay has no effect: {config.model} has no experts. Leave it out"
    elif config.routing_replay and kind_of(values) not in SOFTMAX_ROUTERS:
        yield (
            f"{config.model} is of the kind {kind_of(values)}, whose routers routing_replay does not know: leave it "
            f"out, or train {' or '.join(sorted(SOFTMAX_ROUTERS))}"
        )
    if not count and config.grpo.router_aux_loss_coef:
        yield f"grpo.router_aux_loss_coef has no effect: {config.model} has no experts. Leave it out"
    for name, value in noise(values).items():
        yield (
            f"{config.model} has {name}={value:g} in its config.json: training would compare log-probabilities of two "
            f"passes that differ at random. Set {name} to 0 there"
        )


def _compiled(config: TrainConfig, values: Mapping[str, Any], count: int) -> Iterator[str]:
    """Why the layers of a model of so many experts, 0 if it is dense, cannot be compiled."""
    if other := other_than_attention(values):
        yield (
            f"{config.model} has layers of the kind {other[0]}, which loop over the parts of a row, so that compile="
            f"{config.compile} would compile them for each length: leave compile out"
        )
    lora = config.lora
    if count and lora is not None and (lora.experts or lora.target_modules == "all-linear"):
        yield (
            f"{config.model} is a mixture of experts, and compile={config.compile} cannot compile how peft adds "
            "adapters to tensors of experts: leave compile out, or list modules beside the experts in "
            "lora.target_modules, e.g. [q_proj,k_proj,v_proj,o_proj], and set lora.experts to false"
        )


def _adapters(config: TrainConfig, values: Mapping[str, Any], count: int) -> Iterator[str]:
    """Why an adapter with these settings does not go with a model of so many experts, 0 if it is dense."""
    lora = config.lora
    if lora is None:
        return
    if not count:
        if lora.experts:
            yield f"lora.experts has no effect: {config.model} has no experts. Leave it out"
        return
    model, modules = f"{config.model} is a mixture of {count} experts", lora.target_modules
    if modules == "all-linear" and lora.experts is None:
        yield (
            f"{model}, and lora.target_modules=all-linear does not say whether they have adapters: set lora.experts to "
            "true, or to false for the linear layers beside them"
        )
    if isinstance(modules, str) and modules != "all-linear":
        yield (
            f"{model}, and peft may read lora.target_modules={modules} as a pattern that names experts too: list the "
            "names of modules, e.g. [q_proj,k_proj,v_proj,o_proj], and set lora.experts"
        )
    elif named := sorted(READ_AS_EXPERTS & {one.rpartition(".")[2] for one in modules}):
        yield (
            f"{model}, and peft would read {named[0]} in lora.target_modules as a part of them or of their router: "
            "leave it out, and set lora.experts to true for adapters on experts"
        )
    kind = str(values.get("model_type"))
    if lora.experts and config.servers is not None and kind not in SERVED_EXPERTS:
        yield (
            f"{model} of the kind {kind}, of which no server is known to take adapters on experts: set lora.experts to "
            f"false, or train {' or '.join(sorted(SERVED_EXPERTS))}"
        )


def _listed(modules: str | tuple[str, ...]) -> str:
    return modules if isinstance(modules, str) else ", ".join(modules)
