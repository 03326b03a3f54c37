"""`TrainConfig`: every setting of a training run. Importable without torch.

    swe-aem train configs/quickstart.yaml --set steps=10

Paths in a file that begin with `./` or `../` are relative to that file; all others mean what they mean on the command
line of `swe-aem rollout`.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field, field_validator, model_validator

from swe_aem.advantage.config import AdvantageConfig
from swe_aem.core.base import Frozen
from swe_aem.core.explain import Renamed
from swe_aem.core.settings import changed, load, read_mapping
from swe_aem.errors import UserError
from swe_aem.rollout.config import RolloutConfig
from swe_aem.serve.config import ServersConfig

_Count = Annotated[int, Field(ge=1)]

_NOT_SAMPLED = "rollout.native.temperature: others change the sampler"
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
    "logging_steps": "nothing: every step is logged",
    "seed": "seed",
    "report_to": "report_to",
    "max_completion_length": "rollout.native.max_context_tokens",
    "top_k": _NOT_SAMPLED,
    "min_p": _NOT_SAMPLED,
    "repetition_penalty": _NOT_SAMPLED,
    "generation_kwargs": _NOT_SAMPLED,
    "use_cpu": "device",
    "shuffle_dataset": "seed, which decides the order of tasks",
    "ignore_data_skip": "nothing: a step knows its rows by its number",
    "save_total_limit": "nothing: the last two checkpoints are kept",
    "ddp_timeout": "nothing: processes wait a day for the first one's rollouts",
    "disable_tqdm": "nothing: there is a line for every step",
}
"""Fields of `GRPOConfig` that follow from other settings, and from which."""
_YAML_MISSES = re.compile(r"[+-]?\d+[eE][+-]?\d+")
"""Numbers that YAML 1.1 takes for text, as 1e-6: it wants a point in them."""


class HeldoutConfig(Frozen):
    """What is measured before and after, on tasks that are never trained on."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    tasks: str | None = None
    """A task set; that of the rollouts if not given."""
    split: str | None = "heldout"
    """Its split."""
    limit: _Count | None = None
    """Only the first N tasks."""
    samples: _Count = 1
    """Sampled trajectories per task, at the training temperature."""
    greedy: bool = True
    """Also one greedy trajectory per task: what sampling alone gains may be mere sharpening."""
    before: bool = True
    """Also before training; false where another run of the same policy has measured that."""
    every: _Count | None = None
    """Also after every N steps, sampled only."""


class LoraConfig(Frozen):
    """A low-rank adapter in place of full fine-tuning (peft)."""

    r: _Count = 16
    alpha: _Count = 32
    dropout: float = Field(default=0.0, ge=0, lt=1)
    target_modules: str | tuple[str, ...] = "all-linear"


class HardwareConfig(Frozen):
    """What the run is meant for: `--dry-run` plans with it, nothing else reads it."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    gpu: str
    """Its name, for people."""
    gpu_memory_gb: Annotated[float, Field(gt=0)]
    """Of one, in 10^9 bytes."""
    gpus_per_host: _Count
    trainer_gpus: _Count
    """Processes that train."""
    sharding: Literal["none", "fsdp2", "zero3"] = "none"
    """Does each hold a share of the model, or all of it?"""
    servers: _Count
    gpus_per_server: _Count = 1
    """GPUs that a server's model is spread over (tensor parallel)."""
    server_share: Annotated[float, Field(gt=0, le=1)] = 0.9
    """Of a GPU's memory, for vLLM (its --gpu-memory-utilization); below a half where the trainer has the same GPU."""


class TrainConfig(Frozen):
    """What is trained, on what, and how."""

    RENAMED: ClassVar[Mapping[str, Renamed]] = {
        "candidates_per_step": Renamed("oversampled_groups"),
        "updates_per_step": Renamed("num_minibatches"),
        "train_limits": Renamed("compact_filtering", inverted=True),
    }
    model_config = ConfigDict(use_attribute_docstrings=True)

    model: str
    """Directory of the policy to begin with."""
    steps: _Count
    """Batches of fresh rollouts; a rerun may raise it."""
    groups_per_step: _Count
    """Groups that a step trains on."""
    oversampled_groups: _Count | None = None
    """Dynamic sampling (DAPO): groups that are rolled out for a step in all, at least groups_per_step, which it is if
    not given. Groups whose rewards differ are trained on first; zero-variance groups only fill up."""
    num_minibatches: _Count = 1
    """Optimiser updates that a step's rows are dealt to."""
    micro_batch_size: _Count = 1
    """Rows of one forward pass of one process."""
    ahead: Annotated[int, Field(ge=0)] = 0
    """Steps that generation may run ahead of training. 0 is on-policy; above, set importance_cap."""
    importance_cap: Annotated[float, Field(gt=0)] | None = None
    """Truncated importance sampling: a token's advantage is multiplied with its probability under the old policy over
    that at which it was sampled, at most this. Not corrected if not given."""
    compact_filtering: bool = True
    """Trajectories that ended at a limit of turns, context or time count in the baseline, and their tokens are not
    trained (DeepSWE); false trains them too."""
    rollout: RolloutConfig
    """As of `swe-aem rollout`: task set and split, group size, limits, sandboxes, scheduling."""
    advantage: AdvantageConfig = AdvantageConfig()
    """Baseline and AEM."""
    grpo: dict[str, Any] = {}
    """Fields of TRL's `GRPOConfig` on top of the preset (`swe_aem/train/preset.py`: GRPO++ of DeepSWE)."""
    servers: ServersConfig | None = None
    """vLLM servers that sample; if not given, a copy of the policy does in this process."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """What weights, gradients and the optimiser are held in."""
    lora: LoraConfig | None = None
    """Train an adapter; all weights if not given."""
    hardware: HardwareConfig | None = None
    """What `--dry-run` plans with."""
    heldout: HeldoutConfig | None = HeldoutConfig()
    """Evaluation; none if null."""
    save_every: _Count = 5
    """Steps between checkpoints, from which a rerun goes on."""
    report_to: tuple[Literal["tensorboard", "trackio", "wandb"], ...] | None = None
    """Where figures go beside metrics.jsonl; trackio if it is installed, if not given."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the policy is trained and, in this process, sampled."""
    seed: int = 0
    """Decides the order of tasks, sampling and training."""

    @field_validator("grpo")
    @classmethod
    def _numbers_are_numbers(cls, values: dict[str, Any]) -> dict[str, Any]:
        return {
            name: float(value) if isinstance(value, str) and _YAML_MISSES.fullmatch(value) else value
            for name, value in values.items()
        }

    @model_validator(mode="before")
    @classmethod
    def _rollouts_are_the_policys(cls, values: Any) -> Any:
        """The rollout section need not say who acts: the policy that is trained."""
        if not isinstance(values, Mapping) or not isinstance(values.get("rollout"), Mapping):
            return values
        rollout = {"agent": "native", "policy": values.get("model"), **values["rollout"]}
        native = rollout.get("native")
        if native is None or isinstance(native, Mapping):
            native = {"seed": values.get("seed", 0), **(native or {})}
        return {**values, "rollout": {**rollout, "native": native}}

    @model_validator(mode="after")
    def _settings_are_honoured(self) -> "TrainConfig":
        for name in self.grpo.keys() & OWNED.keys():
            raise ValueError(f"grpo.{name} follows from other settings: set {OWNED[name]}")
        if self.rollout.scripted:
            raise ValueError(f"rollout.policy is {self.rollout.policy}: only what a model samples can be trained on")
        if self.rollout.policy != self.model:
            raise ValueError("rollout.policy is the model that is trained: leave it out")
        if self.rollout.group_size < 2:
            raise ValueError("rollout.group_size must be 2 or more: a group is its own baseline")
        if self.rollout.native.top_p != 1 or self.rollout.native.temperature == 0:
            raise ValueError("train with rollout.native.top_p 1 and a temperature above 0: others change the sampler")
        if self.oversampled_groups is not None and self.oversampled_groups < self.groups_per_step:
            raise ValueError("oversampled_groups is below groups_per_step")
        if self.servers is not None and self.lora is None and self.servers.sync == "lora":
            raise ValueError("servers.sync lora sends adapters: set lora, or servers.sync file")
        if self.servers is not None and self.lora is not None and self.servers.sync != "lora":
            raise ValueError(
                f"servers.sync {self.servers.sync} sends all weights, and lora trains an adapter: set lora"
            )
        if self.ahead and self.importance_cap is None:
            raise ValueError("ahead makes rollouts stale: set importance_cap too, e.g. 2")
        rows = self.groups_per_step * self.rollout.group_size
        if rows % (self.num_minibatches * self.micro_batch_size):
            raise ValueError(
                f"groups_per_step * rollout.group_size = {rows} rows cannot be dealt to num_minibatches "
                f"{self.num_minibatches} of micro batches of {self.micro_batch_size}"
            )
        return self

    @property
    def rolled_out_groups(self) -> int:
        """Groups that are rolled out for a step."""
        return self.oversampled_groups or self.groups_per_step


_FREE = ("steps", "save_every", "report_to", "heldout", "device", "servers", "hardware", "rollout.scheduling")


_PACKAGE = Path(__file__).resolve().parents[1]
_SHIPPED = (_PACKAGE.parent, _PACKAGE / "bundled")
"""Where `configs/` lies: in a checkout, and in an installed wheel."""


def read_config(path: Path, assignments: Sequence[str] = ()) -> TrainConfig:
    """The configuration of a YAML file and `a.b=c` assignments; `configs/NAME.yaml` is found from anywhere. Raises
    `UserError` that names the setting."""
    if not path.exists() and path.parent == Path("configs"):
        path = next((root / path for root in _SHIPPED if (root / path).is_file()), path)
    if not path.exists():
        raise UserError(f"{path}: no such file; configs/quickstart.yaml is one to begin with")
    return load(TrainConfig, _beside(read_mapping(path), path.parent), assignments=assignments)


def differences(stored: TrainConfig, wanted: TrainConfig) -> list[str]:
    """What keeps `wanted` from resuming a run that was made under `stored`, one sentence per setting."""
    return changed(stored, wanted, free=_FREE)


def _beside(value: Any, directory: Path) -> Any:
    """The value with every path that begins with ./ or ../ made relative to where we are."""
    if isinstance(value, dict):
        return {name: _beside(inner, directory) for name, inner in value.items()}
    if isinstance(value, str) and value.startswith(("./", "../")):
        return str(directory / value)
    return value
