"""`TrainConfig`: every setting of a training run. Importable without torch.

    swe-aem train configs/quickstart.yaml --set steps=10

Paths in a file that begin with `./` or `../` are relative to that file; all others are read like those on the command
line of `swe-aem rollout`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field, field_validator, model_validator

from swe_aem.advantage.config import AdvantageConfig, AEMConfig, ImportanceSamplingConfig
from swe_aem.core.base import Frozen
from swe_aem.core.explain import Renamed
from swe_aem.core.outcome import LimitsReward
from swe_aem.core.settings import changed, load
from swe_aem.errors import UserError
from swe_aem.policy import names_chat_api
from swe_aem.rollout import BudgetConfig, RolloutConfig
from swe_aem.serve import ServersConfig
from swe_aem.tasks import FAMILIES
from swe_aem.train.compiled_layers import Compile
from swe_aem.train.group_queue import QueueRules, Stale
from swe_aem.train.passes import PassSettings, TileMb
from swe_aem.train.task_samplers import TaskSamplerSetting
from swe_aem.train.trl_config import TrlConfig

_Count = Annotated[int, Field(ge=1)]
PACKED_HAVE_NO_COLUMNS = (
    "finds the experts of a token by its row and column, and packed rows (token_budget) have no columns: leave one of "
    "the two out"
)
Attention = Literal["auto", "eager", "sdpa", "flash_attention_2", "flash_attention_3"]


class HeldoutConfig(Frozen):
    """Evaluation on tasks that are never trained on."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    tasks: str | None = None
    """Task set of the evaluation; rollout.tasks if not given."""
    family: str | dict[str, Any] | None = None
    """What reads the rows of another set than rollout.tasks; if not given, they are recognised by their columns."""
    split: str | None = "heldout"
    """Split of the task set."""
    limit: _Count | None = None
    """Evaluate on the first N tasks only."""
    samples: _Count = 1
    """Sampled trajectories per task, at the training temperature."""
    greedy: bool = True
    """Evaluate one greedy trajectory per task too: a gain of sampling alone may be mere sharpening."""
    before: bool = True
    """Evaluate before training too; false saves the time where another run of the same policy has measured that."""
    every: _Count | None = None
    """Evaluate after every N steps too, sampled only."""

    @model_validator(mode="after")
    def _family_is_of_a_set(self) -> "HeldoutConfig":
        if self.family is not None and self.tasks is None:
            raise ValueError("heldout.family is what reads heldout.tasks: give both, or leave it out")
        if self.family is not None:
            FAMILIES.check(FAMILIES.name_of(self.family))
        return self


class LoraConfig(Frozen):
    """A low-rank adapter in place of full fine-tuning (peft)."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    r: _Count = 16
    """Rank of the adapter."""
    alpha: _Count = 32
    """Scale of the adapter: its output is multiplied by alpha / r."""
    dropout: float = 0.0
    """Always 0: with dropout on its input, an adapter would make the old policy's log-probabilities and entropies
    random, and the ratio of an unchanged policy other than 1."""
    target_modules: str | tuple[str, ...] = "all-linear"
    """Modules with an adapter, by peft's rules; all-linear: every linear layer but the head. In a mixture of experts: a
    list of names, or all-linear, and neither reaches the router or the routed experts."""
    experts: bool | None = None
    """Mixtures of experts: an adapter of rank r on each routed expert too. With all-linear it has to be said; false
    where modules are named."""

    @field_validator("dropout")
    @classmethod
    def _one_policy(cls, value: float) -> float:
        if value:
            raise ValueError(
                f"{value:g} would make the old policy's log-probabilities and entropies random: leave it out"
            )
        return value


class HardwareConfig(Frozen):
    """The hardware that a run is meant for. `--dry-run` and `--launch` read it."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    gpu: str
    """Name of the GPU model, shown in the plan."""
    gpu_memory_gb: Annotated[float, Field(gt=0)]
    """Memory of one GPU in GB (10^9 bytes)."""
    gpus_per_host: _Count
    """GPUs of one host."""
    trainer_gpus: _Count
    """GPUs that train; one process each. With `device` cpu, processes."""
    sharding: Literal["none", "fsdp2", "zero3"] = "none"
    """How the trained model is spread over the training processes; none: each holds all of it."""
    servers: _Count
    """Number of vLLM servers."""
    gpus_per_server: _Count = 1
    """GPUs that one server's model is spread over (tensor parallelism)."""
    server_share: Annotated[float, Field(gt=0, le=1)] = 0.9
    """Share of a GPU's memory that vLLM takes (its --gpu-memory-utilization); below 0.5 where the trainer runs on the
    same GPU."""


class LaunchConfig(Frozen):
    """How `--launch` starts servers."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    vllm: str = "vllm"
    """The vllm command; by its path if it is that of another Python environment. `vllm` is the one on the PATH, or else
    that of serving/vllm-gpu."""
    vllm_arguments: tuple[str, ...] = ()
    """Further arguments of `vllm serve`."""
    server_start_s: _Count = 1800
    """Seconds that a server may take until it answers. One that does not ends the run."""


class TrainConfig(Frozen):
    """Every setting of a training run."""

    RENAMED: ClassVar[Mapping[str, Renamed]] = {
        "ahead": Renamed("max_staleness"),
        "candidates_per_step": Renamed("oversampled_groups"),
        "importance_cap": Renamed("importance_sampling", example="{mode: truncate, high: 2}"),
        "updates_per_step": Renamed("num_minibatches"),
        "train_limits": Renamed("compact_filtering", inverted=True),
    }
    model_config = ConfigDict(use_attribute_docstrings=True)

    model: str
    """Directory of the policy that training starts from."""
    steps: _Count
    """Training steps, each on a batch of fresh rollouts. A rerun may raise it."""
    groups_per_step: _Count
    """Groups that a step trains on."""
    oversampled_groups: _Count | None = None
    """Dynamic sampling (DAPO): groups that are rolled out for a step in all, at least groups_per_step, which it is if
    not given. Groups whose rewards differ are trained on first; zero-variance groups only fill up."""
    task_sampler: TaskSamplerSetting = {"type": "epochs"}
    """Which tasks a step rolls out: `epochs`, all in a random order, then all again; `difficulty`, those whose solve
    rate so far is near a half; or your own (swe-aem docs extend/sampler)."""
    num_minibatches: _Count = 1
    """Optimiser updates per step: the step's rows are split into so many minibatches."""
    micro_batch_size: _Count = 1
    """Rows (trajectories) in one forward pass of one process."""
    token_budget: _Count | None = None
    """Tokens in one forward pass of one process: rows are packed into it without padding, and each attends to itself
    only. A longer row goes alone. If not given, micro_batch_size decides."""
    max_staleness: Annotated[int, Field(ge=0)] = 0
    """Policy updates that a trained sample may be old. 0 is on-policy; above, rollouts never wait for a step, a step
    takes the groups that are complete first, and importance_sampling must be set."""
    stale: Stale = "wait"
    """With max_staleness above 0: wait, a step waits for groups that would get older; drop, it does not, and drops
    those that got older, which are the long ones."""
    importance_sampling: ImportanceSamplingConfig = ImportanceSamplingConfig()
    """Correction for samples of older or differing weights, token by token unless the mode says sequence."""
    routing_replay: bool = False
    """Mixtures of experts: train each sampled token with the experts that the server chose for it (R3), so that the
    trainer's ratio to the sampler is not that of two routings. Servers have to return them."""
    compact_filtering: bool = True
    """Trajectories that ended at a limit of turns, context or time count in the baseline, and their tokens are not
    trained (DeepSWE); false trains them too."""
    limits_reward: LimitsReward = "graded"
    """Reward of those trajectories in the baseline: graded, what the tests say of their patch; zero, 0 whatever they
    say (DeepSWE, which does not grade them)."""
    branches_per_trajectory: Annotated[int, Field(ge=0)] = 0
    """Branches of a trajectory that are trained on beside its own stream, at most so many, the first ones: what a
    harness samples in a sub-agent, or had sampled before it condensed its history. Each is a row with the advantage of
    the trajectory. 0: none."""
    rollout: RolloutConfig
    """Settings of the rollouts, the same ones that `swe-aem rollout` takes: tasks, group size, limits, sandboxes,
    scheduling."""
    advantage: AdvantageConfig = AEMConfig()
    """How rewards become advantages: `estimator`, aem if not given, or another one or your own
    (swe-aem docs extend/advantage), and its settings."""
    grpo: TrlConfig = TrlConfig()
    """Fields of TRL's GRPOConfig that replace those of the preset (GRPO++ of DeepSWE, swe_aem/train/trl_config.py)."""
    servers: ServersConfig | None = None
    """vLLM servers that sample the rollouts; if not given, a copy of the policy in this process does."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Data type of the trained weights, the gradients and the optimiser's state."""
    attention: Attention = "auto"
    """Implementation of attention in the trainer; auto: the one that transformers chooses, sdpa where the model has it.
    The two of flash attention need a GPU, 16-bit layers, and the package kernels, which fetches them from the hub, or
    the one that they come from (flash_attn, flash_attn_interface)."""
    selective_checkpointing: bool = False
    """With grpo.gradient_checkpointing: layers keep the outputs of attention too, which is then not computed again."""
    activation_offloading: bool = False
    """With grpo.gradient_checkpointing: the inputs of layers wait in the host's memory for the backward pass."""
    head_tile_mb: TileMb = 256
    """Most that the logits of the head take at a time, in MiB: log-probabilities and entropies are computed in tiles of
    up to 4,096 tokens, and as many words of the vocabulary as fit."""
    compile: Compile = "none"
    """What torch compiles in the trainer: layers, each kind of layer once, at its first pass; none, nothing. It changes
    results by rounding, and needs a C++ compiler on a CPU, a C compiler on a GPU."""
    lora: LoraConfig | None = None
    """Train a low-rank adapter; all weights are trained if not given."""
    hardware: HardwareConfig | None = None
    """The hardware that --dry-run plans with and --launch uses."""
    launch: LaunchConfig = LaunchConfig()
    """How --launch starts servers."""
    heldout: HeldoutConfig | None = HeldoutConfig()
    """Evaluation before and after training; null skips it."""
    save_every: _Count = 5
    """Steps between checkpoints. A rerun resumes from the last one."""
    asynchronous_checkpoints: bool = False
    """Write checkpoints while training continues, from a copy of trained weights and optimiser in the host's memory: 12
    bytes per trained parameter with AdamW in float32, 6 in bfloat16. Not with DeepSpeed."""
    report_to: tuple[Literal["tensorboard", "trackio", "wandb"], ...] | None = None
    """Trackers that get the metrics in addition to metrics.jsonl; none if not given."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device that trains the policy and, without servers, samples from it; auto: an accelerator if there is one."""
    collective_timeout_s: _Count = 600
    """Limit of one collective between processes, in seconds, after which a hang ends the run. No process waits in a
    collective for rollouts or evaluations, however long they take."""
    seed: int = 0
    """Seed of the order of tasks, of sampling and of training."""

    @model_validator(mode="before")
    @classmethod
    def _policy_and_seed_of_rollouts(cls, values: Any) -> Any:
        """Fill in the policy that is trained, and the seed, where the rollout section leaves them out."""
        if not isinstance(values, Mapping) or not isinstance(values.get("rollout"), Mapping):
            return values
        rollout = {"agent": "native", "policy": values.get("model"), **values["rollout"]}
        native = rollout.get("native")
        if native is None or isinstance(native, Mapping):
            native = {"seed": values.get("seed", 0), **(native or {})}
        return {**values, "rollout": {**rollout, "native": native}}

    @model_validator(mode="after")
    def _settings_are_honoured(self) -> "TrainConfig":
        if self.rollout.scripted or names_chat_api(self.rollout.policy_name):
            raise ValueError(f"rollout.policy is {self.rollout.policy}: only what a model samples can be trained on")
        if self.rollout.policy != self.model:
            raise ValueError("rollout.policy is the model that is trained: leave it out")
        if self.rollout.group_size < 2:
            raise ValueError("rollout.group_size must be 2 or more: a group is its own baseline")
        if self.rollout.budget != BudgetConfig():
            raise ValueError("rollout.budget is for rollouts: training ends after its steps, so leave it out")
        if self.rollout.native.top_p != 1 or self.rollout.native.temperature == 0:
            raise ValueError("train with rollout.native.top_p 1 and a temperature above 0: others change the sampler")
        if self.oversampled_groups is not None and self.oversampled_groups < self.groups_per_step:
            raise ValueError(
                f"oversampled_groups is {self.oversampled_groups}, below groups_per_step {self.groups_per_step}: it "
                "counts all groups that are rolled out for a step"
            )
        if self.servers is not None and self.lora is None and self.servers.sync == "lora":
            raise ValueError("servers.sync lora sends adapters: set lora, or servers.sync file")
        if self.servers is not None and self.lora is not None and self.servers.sync != "lora":
            raise ValueError(
                f"servers.sync {self.servers.sync} sends all weights, and lora trains an adapter: set servers.sync lora"
            )
        if self.servers is not None and self.servers.in_flight == "interrupt" and not self.max_staleness:
            raise ValueError(
                "servers.in_flight interrupt: with max_staleness 0 nothing is in flight when the weights change; leave "
                "it out"
            )
        if self.max_staleness and self.importance_sampling.mode == "none":
            raise ValueError(
                "max_staleness makes rollouts stale: set importance_sampling too, e.g. {mode: truncate, high: 2}, on "
                "the command line --set importance_sampling.mode=truncate --set importance_sampling.high=2"
            )
        if self.routing_replay and self.servers is None:
            raise ValueError(
                "routing_replay takes the experts that vLLM servers report, and the policy samples in this process: "
                "set servers, or leave it out"
            )
        if self.routing_replay and self.token_budget is not None:
            raise ValueError(f"routing_replay {PACKED_HAVE_NO_COLUMNS}")
        if self.token_budget is not None and self.micro_batch_size > 1:
            raise ValueError("token_budget decides how many rows a forward pass has: leave micro_batch_size out")
        rows = self.groups_per_step * self.rollout.group_size
        if rows % (self.num_minibatches * self.micro_batch_size):
            raise ValueError(
                f"groups_per_step * rollout.group_size = {rows} rows cannot be split into {self.num_minibatches} "
                f"num_minibatches of whole micro batches of {self.micro_batch_size}: make num_minibatches * "
                "micro_batch_size a divisor of the rows"
            )
        return self

    @model_validator(mode="after")
    def _branches_have_rows(self) -> "TrainConfig":
        """Where branches are asked for, their rows have a place in a step."""
        if self.branches_per_trajectory and self.token_budget is None:
            raise ValueError(
                "branches_per_trajectory gives each step another number of rows, which only a token_budget can split: "
                "set token_budget, to rollout.native.max_context_tokens or more"
            )
        return self

    @model_validator(mode="after")
    def _layers_are_checkpointed(self) -> "TrainConfig":
        """What says how layers are checkpointed has an effect."""
        for name in ("selective_checkpointing", "activation_offloading"):
            if getattr(self, name) and not self.grpo.gradient_checkpointing:
                raise ValueError(
                    f"{name} has no effect without checkpointing: set grpo.gradient_checkpointing to true, or leave it "
                    "out"
                )
        if self.selective_checkpointing and self.attention == "eager":
            raise ValueError("selective_checkpointing has nothing to keep with attention eager: leave one of them out")
        if self.selective_checkpointing and (self.grpo.gradient_checkpointing_kwargs or {}).get("use_reentrant"):
            raise ValueError("selective_checkpointing excludes use_reentrant in grpo.gradient_checkpointing_kwargs")
        if self.selective_checkpointing and self.compile != "none":
            raise ValueError(
                "selective_checkpointing decides for each operation of a layer, and several are one in the code that "
                f"compile={self.compile} makes: leave one of them out"
            )
        if self.routing_replay and self.compile != "none":
            raise ValueError(
                f"routing_replay changes what routers give from outside of the layers, which compile={self.compile} "
                "makes one function of: leave one of them out"
            )
        return self

    @property
    def model_name(self) -> str:
        """What trajectories call the model that is trained."""
        return Path(self.model).name

    @property
    def rolled_out_groups(self) -> int:
        """Groups that are rolled out for a step."""
        return self.oversampled_groups or self.groups_per_step

    @property
    def queue(self) -> QueueRules:
        """The settings that decide which groups begin and which a step takes."""
        return QueueRules(**{name: getattr(self, name) for name in QueueRules.model_fields})

    @property
    def passes(self) -> PassSettings:
        """The settings of passes over the model."""
        return PassSettings(**{name: getattr(self, name) for name in PassSettings.model_fields})


_FREE = (
    "steps",
    "save_every",
    "asynchronous_checkpoints",
    "report_to",
    "heldout",
    "device",
    "collective_timeout_s",
    "selective_checkpointing",
    "activation_offloading",
    "compile",
    "servers",
    "hardware",
    "launch",
    "rollout.scheduling",
    "rollout.cluster",
)


_PACKAGE = Path(__file__).resolve().parents[1]
_SHIPPED = (_PACKAGE.parent, _PACKAGE / "bundled")
"""Directories that hold `configs/`: of a checkout, and of an installed wheel."""


def read_config(path: Path, assignments: Sequence[str] = (), options: Mapping[str, Any] | None = None) -> TrainConfig:
    """The configuration of a YAML file, of options by dotted name, and of `a.b=c` assignments; `configs/NAME.yaml` is
    found from anywhere. Raises `UserError` that names the setting."""
    if not path.exists() and path.parent == Path("configs"):
        path = shipped(path)
    if not path.exists():
        raise UserError(f"{path}: no such file; configs/quickstart.yaml is one to begin with")
    return load(TrainConfig, path, options, assignments)


def shipped(path: Path) -> Path:
    """Where a file below `configs/` lies, in a checkout or in an installed package; `path` itself if there is none."""
    return next((root / path for root in _SHIPPED if (root / path).is_file()), path)


def differences(stored: TrainConfig, wanted: TrainConfig) -> list[str]:
    """What keeps `wanted` from resuming a run that was made under `stored`, one sentence per setting."""
    return changed(stored, wanted, free=_FREE)
