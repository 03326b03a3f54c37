"""`AgentGRPOTrainer`: TRL's GRPO trainer on rewards that come with the rollouts, and with any advantage estimator.

It overrides three things. Rewards come from the rollouts, not from functions of text. While TRL scores a generation
batch with the old policy, the entropies that its fused head computes anyway are kept. Then the advantages become those
of the estimator, which sees the batch of all processes. Rows come from `rollout_func`, with the extra fields of
`DealtRow`. Wherever a row was dealt to, its `place` tells its group; the estimator sees trajectories in the order of
places, each with the tokens of its branches behind its own (`streams.py`).

An estimator that asks for entropies or log-probabilities needs no extra forward pass where TRL scores the batch anyway:
with vLLM's correction, or when `gradient_accumulation_steps` is not a multiple of `steps_per_generation *
num_iterations`. Otherwise one is added.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from math import isclose
from typing import Any

import torch
from accelerate.utils import gather, gather_object, pad_across_processes
from torch import Tensor
from torch.nn.functional import pad
from trl.trainer.grpo_config import GRPOConfig
from trl.trainer.grpo_trainer import GRPOTrainer
from trl.trainer.utils import split_tensor_dict

from swe_aem.advantage.config import NO_IMPORTANCE_SAMPLING, AdvantageConfig, ImportanceSamplingConfig, label_of
from swe_aem.advantage.estimators import estimate, estimator_of
from swe_aem.advantage.importance import importance_weights, log_ratios, mismatch, mismatch_figures
from swe_aem.advantage.inputs import AdvantageInputs
from swe_aem.errors import UserError
from swe_aem.train.checkpointed import CheckpointedTrainer
from swe_aem.train.compiled_layers import Compilations
from swe_aem.train.head_tiles import tile_columns, tiles_of
from swe_aem.train.packing import micro_steps, pack, rows_of, unpack
from swe_aem.train.passes import AS_IT_IS, PassSettings
from swe_aem.train.refusals import one_ratio_per_row, refuse_silent_changes
from swe_aem.train.routing_replay import RoutingReplay
from swe_aem.train.sharding import shard_gradients
from swe_aem.train.step_clock import StepClock
from swe_aem.train.streams import Streams, count_trajectories
from swe_aem.train.training_row import RowFields
from swe_aem.train.trl_config import MEANS_OVER_ROWS
from swe_aem.train.weight_stream import whole_shape


def resolved(completions: Sequence[Any], **fields: Any) -> list[float | None]:
    """Gives the reward its name in TRL's logs; it is never called."""
    raise AssertionError("rewards come with the rollouts")


class AgentGRPOTrainer(CheckpointedTrainer, GRPOTrainer):
    """TRL's `GRPOTrainer` with the rewards of rollouts and an advantage estimator. It takes the same arguments, but no
    `reward_funcs`."""

    def __init__(
        self,
        *,
        args: GRPOConfig,
        advantage: AdvantageConfig,
        importance_sampling: ImportanceSamplingConfig = NO_IMPORTANCE_SAMPLING,
        routing_replay: bool = False,
        clock: StepClock | None = None,
        packed: bool = False,
        passes: PassSettings = AS_IT_IS,
        rollout_func: Callable[..., dict[str, list[Any]]],
        **kwargs: Any,
    ) -> None:
        """`importance_sampling` weighs each token's advantage by the ratio of old policy to sampler; mode none does
        not. `routing_replay` takes the experts of a mixture from the `routes` of `rollout_func`. `clock` counts the
        seconds of scoring and of checkpoints. With `packed`, a batch is a whole minibatch, and the rows of one
        `micro_step` are packed into one forward pass. `passes` says what is kept of a pass and where, and what is
        compiled."""
        refuse_silent_changes(args, advantage, importance_sampling, packed=packed, routing_replay=routing_replay)
        self.advantage = advantage
        self._estimator = estimator_of(advantage)
        self.importance_sampling = importance_sampling
        self._clock = clock or StepClock()
        self._scoring = False
        self._routes: Sequence[Any] | None = None
        self._old: tuple[Tensor, Tensor] | None = None
        self._rewards: Tensor | None = None
        self._order = torch.empty(0, dtype=torch.long)
        """For each place, the number of its row among those of all processes, one process after the other."""
        self._trajectory = torch.empty(0, dtype=torch.long)
        """For each place, that of its trajectory's row."""
        self._packed = packed
        self._rollout_func = rollout_func
        self._rows: dict[str, list[Any]] = {}
        """What `rollout_func` gave for the batch that is scored."""
        self._micro_step: list[int] = []
        """For each row of this process, the number of its micro-step."""
        self._passes = passes
        passes.prepare(kwargs["model"])
        self._compilations = Compilations() if passes.compile != "none" else None
        super().__init__(args=args, reward_funcs=resolved, rollout_func=lambda prompts, trainer: self._rows, **kwargs)
        self._replay = RoutingReplay(self.accelerator.unwrap_model(self.model)) if routing_replay else None

    def create_accelerator_and_postprocess(self) -> None:
        """Override of transformers' method: FSDP2 keeps gradients in shards."""
        super().create_accelerator_and_postprocess()
        shard_gradients(self.accelerator)

    def _fetch(self, inputs: Any) -> Any:
        """Ask `rollout_func` for the rows of a batch, and note which make a micro-step. Returns TRL's inputs, one for
        each row: a batch of packed rows may have more of them than slots."""
        self._rows = self._rollout_func([one["prompt"] for one in inputs], self)
        further = len(self._rows["prompt_ids"]) - len(inputs)
        if self._packed:
            self._micro_step = list(self._rows["micro_step"])
        elif further:
            raise ValueError(f"rollout_func returned {further} rows beyond its slots, and rows are not packed")
        return [*inputs, *({"prompt": inputs[0]["prompt"]} for _ in range(further))]

    def _calculate_rewards(self, inputs: Any, prompts: Any, completions: Any, completion_ids_list: Any) -> Tensor:
        """Rewards of the trajectories of all processes in the order of places, (B, 1); NaN for those that do not count,
        which TRL's own metrics then leave out."""
        missing = [field for field in (*RowFields.__annotations__, "place", "trajectory") if field not in inputs[0]]
        if missing:
            raise ValueError(f"rollout_func returned no {', '.join(missing)}")
        rewards = [row["reward"] if row["counts"] else float("nan") for row in inputs]
        device = self.accelerator.device
        places: Any = gather(torch.tensor([row["place"] for row in inputs], device=device))
        self._order = places.argsort().cpu()
        gathered: Any = gather(torch.tensor(rewards, dtype=torch.float32, device=device))
        trajectories: Any = gather(torch.tensor([row["trajectory"] for row in inputs], device=device))
        self._trajectory = trajectories.cpu()[self._order]
        in_order = gathered[places.argsort()][: count_trajectories(self._trajectory)]
        self._rewards = in_order
        return in_order.unsqueeze(1)

    def _get_per_token_logps_and_entropies(
        self, model: Any, input_ids: Any, attention_mask: Any, logits_to_keep: int, *args: Any, **kwargs: Any
    ) -> Any:
        """Override of TRL's method: passes over a whole generation batch leave padding out, and the first pass, which
        is the old policy's, also yields its entropies."""
        if self._scoring and self.advantage.entropy == "sampler":
            return None, None, None
        if not self._scoring and self._packed:
            return *self._pass_of_packed(model, input_ids, attention_mask, logits_to_keep), None
        if not self._scoring:
            with tiles_of(self._tile_columns):
                return super()._get_per_token_logps_and_entropies(
                    model, input_ids, attention_mask, logits_to_keep, *args, **kwargs
                )
        logps, entropy = self._score(model, input_ids, attention_mask, logits_to_keep, kwargs["batch_size"])
        if self._old is None:
            self._old = (logps, entropy)
        return logps, None, None

    def _score(self, model: Any, ids: Tensor, mask: Tensor, completion: int, size: int) -> tuple[Tensor, Tensor]:
        """(B, T) log-probabilities and entropies of the last `completion` columns, `size` rows at a time; 0 where
        padding was left out."""
        prompt = ids.size(1) - completion
        parts = []
        routes = None if self._replay is None else self._replay.routes_of(self._routes, completion)
        slices = [slice(first, first + size) for first in range(0, ids.size(0), size)]
        for rows in micro_steps(self._micro_step) if self._packed else slices:
            left = trimmed({
                "prompt_ids": ids[rows, :prompt], "prompt_mask": mask[rows, :prompt],
                "completion_ids": ids[rows, prompt:], "completion_mask": mask[rows, prompt:],
            })  # fmt: skip
            width = left["completion_ids"].size(1)
            if self._replay is not None and routes is not None:
                self._replay.use(routes[rows, :width], left["prompt_ids"].size(1))
            rows_ids = torch.cat([left["prompt_ids"], left["completion_ids"]], dim=1)
            rows_mask = torch.cat([left["prompt_mask"], left["completion_mask"]], dim=1)
            if self._packed:
                logps, entropy = self._pass_of_packed(model, rows_ids, rows_mask, width)
            else:
                with tiles_of(self._tile_columns):
                    logps, entropy, _ = super()._get_per_token_logps_and_entropies(
                        model, rows_ids, rows_mask, width, compute_entropy=True
                    )
            parts.append(pad(torch.stack([logps, entropy]), (0, completion - width)))
        logps, entropy = torch.cat(parts, dim=1)
        return logps, entropy

    def _pass_of_packed(self, model: Any, ids: Tensor, mask: Tensor, completion: int) -> tuple[Tensor, Tensor]:
        """(B, T) log-probabilities and entropies of the last `completion` columns, by one pass over all rows."""
        stream = pack(ids, mask, completion)
        with self.accelerator.autocast(), tiles_of(self._tile_columns):
            found = model(**stream._asdict(), fused_lm_head=True)
        logps, entropy = (unpack(one, mask)[:, -completion:] for one in (found.log_probs, found.entropy))
        return logps, entropy

    @cached_property
    def _tile_columns(self) -> int:
        """Words of a tile of the head, whose logits have the format that layers compute in."""
        weight = self.accelerator.unwrap_model(self.model).get_output_embeddings().weight
        args: Any = self.args
        half = self.accelerator.mixed_precision in ("bf16", "fp16")
        size = 4 if args.cast_lm_head_to_fp32 else 2 if half else weight.element_size()
        return tile_columns(self._passes.head_tile_mb, whole_shape(weight)[0], size)

    def _prepare_inputs(self, inputs: Any) -> dict[str, Any]:
        """Override of TRL's method, which shuffles a process's rows: those of several processes stay in the micro-steps
        that they were dealt for."""
        if not self._training or (self.accelerator.num_processes == 1 and not self._packed):
            return super()._prepare_inputs(inputs)
        args: Any = self.args
        micro_steps = args.steps_per_generation
        if self._step % (micro_steps * self.num_iterations) == 0 or self._buffered_inputs is None:
            rows = self._generate_and_score_completions(inputs)
            self._buffered_inputs = split_tensor_dict(rows, micro_steps)
        return self._buffered_inputs[self._step % micro_steps]

    def _generate(self, prompts: Any) -> Any:
        """Override of TRL's method, which shows the extra fields of rows before they are scored."""
        generated = super()._generate(prompts)
        self._routes = generated[5].get("routes")
        return generated

    def _generate_and_score_completions(self, inputs: Any) -> dict[str, Any]:
        with self._clock.phase("scoring"):
            return self._scored(inputs)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Override of TRL's method: a step's line also says what was compiled."""
        if self._compilations is not None and "loss" in logs:
            logs.update(self._compilations.figures())
        super().log(logs, start_time)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        with self._clock.phase("checkpoint"):
            super()._save_checkpoint(model, trial)

    def _scored(self, inputs: Any) -> dict[str, Any]:
        """What TRL makes of the rows that `rollout_func` gives, with the estimator's advantages."""
        self._scoring, self._old = True, None
        inputs = self._fetch(inputs)
        try:
            output = super()._generate_and_score_completions(inputs)
        finally:
            self._scoring = False
        if self.advantage.entropy == "sampler":
            self._old = self._sampled_scores(inputs, output)
            output["old_per_token_logps"] = self._old[0]
        advantages = self._advantages(inputs, output)
        exact = self.advantage.entropy == "exact"
        if self._training and exact and (self._old is not None or self.importance_sampling.mode != "none"):
            advantages = self._corrected(advantages, self._old_policy(output)[0], output)
        output["advantages"] = advantages
        if self._replay is not None:
            output["routes"] = self._replay.routes_of(self._routes, output["completion_ids"].size(1))
            self._replay.use(None)
        if self._packed:
            output["micro_step"] = torch.tensor(self._micro_step)
        self._old = self._routes = None
        self._rows = {}
        return output

    def _sampled_scores(self, inputs: Any, output: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """(B, T) log-probabilities and entropies of this process's rows as the sampler reported them: tokens have the
        mean entropy of their response."""
        logps = output.get("sampling_per_token_logps")
        if logps is None:
            raise ValueError("advantage.entropy=sampler needs the logprobs of rollout_func")
        numbers = self._response_numbers(inputs, output["completion_ids"])
        entropy = torch.zeros_like(logps)
        for row, fields in enumerate(inputs):
            values = entropy.new_tensor([*fields["response_entropies"], 0.0])  # the last one is for -1
            entropy[row] = values[numbers[row]]
        return logps, entropy

    @property
    def _training(self) -> bool:
        model: Any = self.model
        return model.training

    @property
    def _group_size(self) -> int:
        """Rows of a group, over all processes."""
        size: Any = self.num_generations if self._training else self.num_generations_eval
        return size

    def _advantages(self, inputs: Any, output: dict[str, Any]) -> Tensor:
        """(B,) or (B, T): those of this process's rows. Metrics of the step are noted, over all processes."""
        numbers = self._of_everyone(self._response_numbers(inputs, output["completion_ids"]), -1)
        streams = Streams(self._trajectory, numbers)
        everyone = self._inputs(inputs, output, streams, streams.join(numbers, -1))
        label = label_of(self.advantage)
        found = estimate(self._estimator, everyone, self.advantage.estimator)
        _require_same(gather_object([_sums(found.values)]), label)
        if one_ratio_per_row(vars(self.args)):
            _refuse_rows_of_several(found.values, everyone.response_of_token, label)
        if self._training:
            noted = self._metrics["train"]
            noted["positive_share"].append(_positive_share(found.values, everyone.response_of_token))
            for name, value in found.metrics.items():
                noted[f"{label}/{name}"].append(value)
        mine = streams.split(found.values)[[row["place"] for row in inputs]].to(output["completion_ids"].device)
        return mine if mine.dim() == 1 else mine[:, : output["completion_ids"].size(1)]

    def _inputs(self, inputs: Any, output: dict[str, Any], streams: Streams, numbers: Tensor) -> AdvantageInputs:
        """The trajectories of all processes, in the order of places. `numbers` is (B, T) long: the response of each
        token."""
        assert self._rewards is not None  # TRL asks for the rewards in every generation
        reward = self._rewards.cpu()
        weight: Any = gather(torch.tensor([row["weight"] for row in inputs], device=self._rewards.device))
        rewards = gather_object([row["response_rewards"] for row in inputs])
        own = self._order[: streams.trajectories]
        return AdvantageInputs(
            reward=reward,
            group=torch.arange(reward.numel()) // self._group_size,
            response_of_token=numbers,
            weight=weight.cpu()[own],
            scores=lambda: self._scores_of_everyone(output, streams),
            response_rewards=_columns([rewards[number] for number in own.tolist()]),
            step=self.state.global_step,
        )

    def _scores_of_everyone(self, output: dict[str, Any], streams: Streams) -> tuple[Tensor, Tensor]:
        """(B, T) entropies and log-probabilities of all processes' trajectories."""
        logps, entropy = self._old_policy(output)
        return streams.join(self._of_everyone(entropy, 0), 0), streams.join(self._of_everyone(logps, 0), 0)

    def _of_everyone(self, values: Tensor, padding: int) -> Tensor:
        """The rows of all processes on the CPU in the order of places, (B, T) with T that of the widest."""
        padded: Any = pad_across_processes(values, dim=1, pad_index=padding)
        gathered: Any = gather(padded)
        return gathered.cpu()[self._order]

    def _old_policy(self, output: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """(B, T) log-probabilities and entropies of this process's rows, by an extra forward pass where TRL made
        none."""
        if self._old is None:
            self._old = self._score_once_more(output)
        return self._old

    def _corrected(self, advantages: Tensor, logps: Tensor, output: dict[str, Any]) -> Tensor:
        """The advantages, times the importance weights of tokens if there is a mode: (B, T). A factor that is not
        negative commutes with the clipped objective, so this is what TRL does for vLLM. Notes the mismatch anyway."""
        config = self.importance_sampling
        sampler = output.get("sampling_per_token_logps")
        if sampler is None:
            if config.mode != "none":
                raise ValueError(f"importance_sampling.mode={config.mode} needs the logprobs of rollout_func")
            return advantages
        sampled = output["completion_mask"].bool()
        if output.get("tool_mask") is not None:
            sampled = sampled & output["tool_mask"].bool()
        ratios = log_ratios(logps, sampler, sampled)
        everyone: Any = gather(torch.stack(mismatch(ratios, sampled, config)).unsqueeze(0))
        for name, value in mismatch_figures(everyone, config).items():
            self._metrics["train"][name].append(value)
        if config.mode == "none":
            return advantages
        weights = importance_weights(ratios, sampled, config)
        if self.loss_type == "vespo" and config.mode == "truncate":
            output["importance_sampling_ratio"] = weights  # TRL multiplies it into the row's ratio, inside of its gamma
            return advantages
        return (advantages.unsqueeze(1) if advantages.dim() == 1 else advantages) * weights

    def _response_numbers(self, inputs: Any, completion_ids: Tensor) -> Tensor:
        """(B, T) long: the response of each token, -1 beyond the rows' ends."""
        numbers = torch.full_like(completion_ids, -1)
        for row, fields in enumerate(inputs):
            mine = fields["response_of_token"]
            numbers[row, : len(mine)] = torch.tensor(mine, dtype=torch.long)
        return numbers

    def _score_once_more(self, output: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """Log-probabilities and entropies of the old policy by an extra forward pass, where TRL made none."""
        ids = torch.cat([output["prompt_ids"], output["completion_ids"]], dim=1)
        mask = torch.cat([output["prompt_mask"], output["completion_mask"]], dim=1)
        with torch.no_grad():
            size = self.args.per_device_train_batch_size
            return self._score(self.model, ids, mask, output["completion_ids"].size(1), size)

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Tensor:
        """Override of TRL's method: the loss of a minibatch. Of packed rows all micro-steps but the last have had their
        backward pass when it returns."""
        if not (self._packed and self._training):
            return super().compute_loss(model, inputs, *args, **kwargs)
        *others, last = micro_steps(inputs["micro_step"].tolist())
        total = torch.zeros((), device=self.accelerator.device)
        for rows in others:
            with self._unsynced(model):
                loss = self._loss_of_packed(model, inputs, rows)
                self.accelerator.backward(loss)
            total += loss.detach()
        return self._loss_of_packed(model, inputs, last) + total

    def _loss_of_packed(self, model: Any, inputs: dict[str, Any], rows: slice) -> Tensor:
        """What some rows of a minibatch add to its loss. TRL divides means over rows by the micro-steps of an update,
        which have one number of rows there: these count for as many as they have, of the trajectories of a minibatch,
        which are as many whether branches are trained on beside them or not."""
        count, trajectories = rows.stop - rows.start, self.args.per_device_train_batch_size
        before = self.current_gradient_accumulation_steps
        if self.loss_type in MEANS_OVER_ROWS:
            self.current_gradient_accumulation_steps = trajectories / count
        try:
            return self._compute_loss(model, rows_of(inputs, rows))
        finally:
            self.current_gradient_accumulation_steps = before

    def _unsynced(self, model: Any) -> AbstractContextManager[Any]:
        """Plain data parallelism reduces gradients once per update; shards are reduced in every micro-step."""
        sharded = self.accelerator.gradient_state.plugin_kwargs.get("sync_each_batch", False)
        return nullcontext() if sharded else self.accelerator.no_sync(model)

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Tensor:
        inputs = trimmed(inputs)
        routes = inputs.pop("routes", None)
        if self._replay is not None:  # until the next micro-batch: a checkpointed layer is computed again
            self._replay.use(routes, inputs["prompt_ids"].size(1))
        return super()._compute_loss(model, inputs)


def _columns(rewards: Sequence[Sequence[float] | None]) -> Tensor | None:
    """(B, R) rewards of responses, NaN where a row has none; None if no row has any."""
    width = max((len(row) for row in rewards if row is not None), default=0)
    if not width:
        return None
    table = torch.full((len(rewards), width), torch.nan)
    for number, row in enumerate(rewards):
        table[number, : len(row or ())] = torch.tensor(row or [])
    return table


def _positive_share(values: Tensor, response_of_token: Tensor) -> float:
    """Share of positive advantages among those that are not 0; a row's is its mean over trained tokens."""
    if values.dim() == 2:
        trained = response_of_token >= 0
        trained = trained | ~trained.any(1, keepdim=True)
        values = (values.double() * trained).sum(1) / trained.sum(1)
    moved = int((values != 0).sum())
    return float((values > 0).sum()) / moved if moved else 0.0


def _refuse_rows_of_several(values: Tensor, response_of_token: Tensor, label: str) -> None:
    """Raise `UserError` if trained tokens of one row differ in their advantages."""
    if values.dim() == 1:
        return
    trained = response_of_token >= 0
    high = values.masked_fill(~trained, -torch.inf).amax(1)
    low = values.masked_fill(~trained, torch.inf).amin(1)
    if bool((high > low).any()):
        raise UserError(
            f"{label} gave tokens of one trajectory different advantages, and importance_sampling_level sequence has "
            "one ratio per trajectory, so they average out: use importance_sampling_level token, or loss_type cispo"
        )


def _sums(values: Tensor) -> tuple[float, float]:
    """Two sums of advantages, (B,) or (B, T), of which the second one depends on their order."""
    flat = values.double().flatten()
    return float(flat.sum()), float((flat * torch.linspace(0, 1, flat.numel(), dtype=flat.dtype)).sum())


def _require_same(sums: Sequence[tuple[float, float]], label: str) -> None:
    """Raise `UserError` if the processes, whose sums are given, have other advantages than the first. Hosts may round
    in different ways."""
    for number, own in enumerate(sums):
        if any(not isclose(one, first, rel_tol=1e-3, abs_tol=1e-3) for one, first in zip(own, sums[0], strict=True)):
            raise UserError(
                f"{label} gave process {number} other advantages than the first one, from the same inputs: make random "
                "numbers of a seed and inputs.step, and read nothing that differs between processes"
            )


_COMPLETION_SIDE = (
    "completion_ids", "completion_mask", "tool_mask", "advantages", "old_per_token_logps", "ref_per_token_logps",
    "sampling_per_token_logps", "importance_sampling_ratio", "routes",
)  # fmt: skip


def trimmed(inputs: dict[str, Any]) -> dict[str, Any]:
    """A micro-batch without the columns that are padding in all of its rows.

    TRL pads to the longest row of the whole generation batch, and one long trajectory makes every micro-batch as wide.
    """
    prompt = inputs["prompt_mask"].any(0)
    completion = inputs["completion_mask"].any(0)
    width = completion.numel()
    start = int(prompt.int().argmax()) if bool(prompt.any()) else prompt.numel() - 1
    end = max(int(completion.nonzero().max()) + 1 if bool(completion.any()) else 0, 1)
    result = dict(inputs)
    for name in ("prompt_ids", "prompt_mask"):
        result[name] = inputs[name][:, start:]
    for name in _COMPLETION_SIDE:
        value = inputs.get(name)
        if isinstance(value, Tensor) and value.dim() >= 2 and value.size(1) == width:
            result[name] = value[:, :end]
    return result
