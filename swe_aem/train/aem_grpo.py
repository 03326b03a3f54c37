"""`AEMGRPOTrainer`: TRL's GRPO trainer, with baselines of groups that lost members, and AEM.

It overrides three things. Rewards come from the rollouts, not from functions of text. While TRL scores a generation
batch with the old policy, the entropies that its fused head computes anyway are kept. Then the advantages, (B,), become
(B, T): the base advantage of the row times the factor of the response. Rows come from `rollout_func`, with
the extra fields of `RowFields`; `num_generations` consecutive rows are one group, over all processes.

AEM needs no extra forward pass where TRL scores the batch anyway: with vLLM's correction, or when
`gradient_accumulation_steps` is not a multiple of `steps_per_generation * num_iterations`. Otherwise one is added.
"""

from collections.abc import Sequence
from typing import Any

import torch
from accelerate.utils import gather, gather_object
from torch import Tensor
from torch.nn.functional import pad
from trl.trainer.grpo_config import GRPOConfig
from trl.trainer.grpo_trainer import GRPOTrainer

from swe_aem.advantage.aem import Responses, metrics, responses, token_advantages
from swe_aem.advantage.config import NO_IMPORTANCE_SAMPLING, AdvantageConfig, ImportanceSamplingConfig
from swe_aem.advantage.estimators import base_advantages, factors
from swe_aem.advantage.importance import importance_weights, log_ratios, mismatch, mismatch_figures
from swe_aem.train.refusals import refuse_silent_changes
from swe_aem.train.sharding import shard_gradients
from swe_aem.train.training_row import RowFields


def resolved(completions: Sequence[Any], **fields: Any) -> list[float | None]:
    """Gives the reward its name in TRL's logs; it is never called."""
    raise AssertionError("rewards come with the rollouts")


class AEMGRPOTrainer(GRPOTrainer):
    """TRL's `GRPOTrainer` with the rewards of rollouts, and AEM. It takes the same arguments, but no `reward_funcs`."""

    def __init__(
        self,
        *,
        args: GRPOConfig,
        advantage: AdvantageConfig,
        importance_sampling: ImportanceSamplingConfig = NO_IMPORTANCE_SAMPLING,
        **kwargs: Any,
    ) -> None:
        """`importance_sampling` weighs each token's advantage by the ratio of old policy to sampler; mode none does
        not."""
        refuse_silent_changes(args, advantage, importance_sampling)
        self.advantage = advantage
        self.importance_sampling = importance_sampling
        self._scoring = False
        self._old: tuple[Tensor, Tensor] | None = None
        self._rewards: Tensor | None = None
        super().__init__(args=args, reward_funcs=resolved, **kwargs)

    def create_accelerator_and_postprocess(self) -> None:
        """Override of transformers' method: FSDP2 keeps gradients in shards."""
        super().create_accelerator_and_postprocess()
        shard_gradients(self.accelerator)

    def _calculate_rewards(self, inputs: Any, prompts: Any, completions: Any, completion_ids_list: Any) -> Tensor:
        """Rewards of all processes, (N, 1); NaN for rows that do not count, which TRL's own metrics then leave out."""
        missing = [field for field in RowFields.__annotations__ if field not in inputs[0]]
        if missing:
            raise ValueError(f"rollout_func returned no {', '.join(missing)}")
        rewards = [row["reward"] if row["counts"] else float("nan") for row in inputs]
        gathered: Any = gather(torch.tensor(rewards, dtype=torch.float32, device=self.accelerator.device))
        self._rewards = gathered
        return gathered.unsqueeze(1)

    def _get_per_token_logps_and_entropies(
        self, model: Any, input_ids: Any, attention_mask: Any, logits_to_keep: int, *args: Any, **kwargs: Any
    ) -> Any:
        """Override of TRL's method: passes over a whole generation batch leave padding out, and the first pass, which
        is the old policy's, also yields its entropies."""
        if not self._scoring:
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
        for first in range(0, ids.size(0), size):
            rows = slice(first, first + size)
            left = trimmed({
                "prompt_ids": ids[rows, :prompt], "prompt_mask": mask[rows, :prompt],
                "completion_ids": ids[rows, prompt:], "completion_mask": mask[rows, prompt:],
            })  # fmt: skip
            width = left["completion_ids"].size(1)
            logps, entropy, _ = super()._get_per_token_logps_and_entropies(
                model,
                torch.cat([left["prompt_ids"], left["completion_ids"]], dim=1),
                torch.cat([left["prompt_mask"], left["completion_mask"]], dim=1),
                width,
                compute_entropy=True,
            )
            parts.append(pad(torch.stack([logps, entropy]), (0, completion - width)))
        logps, entropy = torch.cat(parts, dim=1)
        return logps, entropy

    def _generate_and_score_completions(self, inputs: Any) -> dict[str, Any]:
        self._scoring, self._old = True, None
        try:
            output = super()._generate_and_score_completions(inputs)
        finally:
            self._scoring = False
        advantages = self._base_advantages(inputs)
        if self._training:
            self._metrics["train"]["positive_share"].append(self._positive_share(advantages))
        if self._scored:
            logps, entropy = self._old if self._old is not None else self._score_once_more(output)
            if self._modulated:
                advantages = self._modulate(advantages, entropy, inputs, output)
            if self._training:
                advantages = self._corrected(advantages, logps, output)
        output["advantages"] = advantages
        self._old = None
        return output

    @property
    def _scored(self) -> bool:
        """Is the old policy's pass over a generation batch needed?"""
        return self._modulated or (self.importance_sampling.mode != "none" and self._training)

    @property
    def _modulated(self) -> bool:
        return self.advantage.aem and self._training

    @property
    def _training(self) -> bool:
        model: Any = self.model
        return model.training

    @property
    def _group_size(self) -> int:
        """Rows of a group, over all processes."""
        size: Any = self.num_generations if self._training else self.num_generations_eval
        return size

    def _base_advantages(self, inputs: Any) -> Tensor:
        """(B,): this process's rows against their groups over all processes."""
        assert self._rewards is not None  # TRL asks for the rewards in every generation
        rewards = self._rewards
        group = torch.arange(rewards.numel(), device=rewards.device) // self._group_size
        everyone = base_advantages(rewards, group, self.advantage)
        first = self.accelerator.process_index * len(inputs)
        weight = torch.tensor([row["weight"] for row in inputs], dtype=torch.float32, device=rewards.device)
        return everyone[first : first + len(inputs)] * weight

    def _positive_share(self, advantage: Tensor) -> float:
        """Share of positive advantages among those that are not 0, over all processes."""
        everyone: Any = gather(advantage)
        moved = int((everyone != 0).sum())
        return float((everyone > 0).sum()) / moved if moved else 0.0

    def _modulate(self, base: Tensor, entropy: Tensor, inputs: Any, output: dict[str, Any]) -> Tensor:
        """(B, T): base advantages times AEM's factors, normalised over all processes."""
        own = responses(entropy, self._response_numbers(inputs, output["completion_ids"]))
        alpha = self._factors(own, len(inputs))
        return token_advantages(base, alpha.to(base.device), own.of_token)

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

    def _factors(self, own: Responses, rows: int) -> Tensor:
        """Factors of this process's responses; the metrics of the step are recorded, over all processes."""
        first = self.accelerator.process_index * rows
        sizes = gather_object([own.row.numel()])
        entropies = torch.tensor(gather_object(own.mean_entropy.tolist()), dtype=torch.float64)
        tokens = torch.tensor(gather_object(own.tokens.tolist()), dtype=torch.float64)
        row = torch.tensor(gather_object((own.row + first).tolist()), dtype=torch.long)
        group = row // self._group_size
        everyone = factors(entropies, row, group, self.advantage, step=self.state.global_step)
        for name, value in metrics(everyone, entropies, tokens, group).items():
            self._metrics["train"][f"aem/{name}"].append(value)
        before = sum(sizes[: self.accelerator.process_index])
        return everyone[before : before + own.row.numel()]

    def _score_once_more(self, output: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """Log-probabilities and entropies of the old policy by an extra forward pass, where TRL made none."""
        ids = torch.cat([output["prompt_ids"], output["completion_ids"]], dim=1)
        mask = torch.cat([output["prompt_mask"], output["completion_mask"]], dim=1)
        with torch.no_grad():
            size = self.args.per_device_train_batch_size
            return self._score(self.model, ids, mask, output["completion_ids"].size(1), size)

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Tensor:
        return super()._compute_loss(model, trimmed(inputs))


_COMPLETION_SIDE = (
    "completion_ids", "completion_mask", "tool_mask", "advantages", "old_per_token_logps", "ref_per_token_logps",
    "sampling_per_token_logps", "importance_sampling_ratio",
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
        if isinstance(value, Tensor) and value.dim() == 2 and value.size(1) == width:
            result[name] = value[:, :end]
    return result
