"""Rejection fine-tuning: a policy learns from resolved trajectories, before or between reinforcement learning.

TRL's `SFTTrainer` on the stored token streams: the same ids as in reinforcement learning, loss on responses only.
Nothing is tokenised here, and only the verdict decides which trajectories are learned from.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, Field

from swe_aem.core import Outcome, Trajectory
from swe_aem.core.base import Frozen
from swe_aem.core.settings import changed
from swe_aem.errors import UserError
from swe_aem.rollout import require_token_ids, require_tokenizer
from swe_aem.runlog import tell
from swe_aem.store import existing_store, locked, replace

_IGNORED = -100
"""Label of a token without loss."""
_ORIGIN = "sft.json"
"""File beside the checkpoints: the model, rows and settings that they were trained with."""
_MODEL = "model"
"""Directory beside the checkpoints: the trained model until all of it is written."""
_COLLECTIVE_TIMEOUT_S = 1800.0
"""Limit of one collective between processes, and of the first one's silence."""


class SFTConfig(Frozen):
    """Settings of supervised fine-tuning."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    epochs: float = Field(default=2.0, gt=0)
    """Passes over the trajectories."""
    learning_rate: float = Field(default=1e-5, gt=0)
    """Peak learning rate; after the warmup it falls along a cosine."""
    batch_size: int = Field(default=16, ge=1)
    """Trajectories per optimiser step and process."""
    micro_batch_size: int | None = Field(default=None, ge=1)
    """Trajectories per forward pass, a divisor of batch_size; batch_size if not given."""
    warmup_share: float = Field(default=0.05, ge=0, le=1)
    """Share of the steps in which the learning rate rises to its peak."""
    everything: bool = False
    """Compute the loss on all tokens, also those of the environment: a first pass for a policy of random weights."""
    per_task: int | None = Field(default=None, ge=1)
    """Most trajectories of one task; all if not given."""
    max_tokens: int | None = Field(default=None, ge=2)
    """Trajectories with more tokens are left out, and counted; none if not given."""
    bf16: bool = False
    """Train in bfloat16."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, more time."""
    save_every: int = Field(default=200, ge=1)
    """Steps between checkpoints. A rerun resumes from the last one."""
    seed: int = 0
    """Seed of the order of the trajectories."""


class Collected(Frozen):
    """Training rows from some stores, and how many trajectories were left out for which reason."""

    rows: list[dict[str, list[int]]]
    """`input_ids` and `labels` of a trajectory, equally long."""
    resolved: int
    """Resolved trajectories in all."""
    repeated: int
    """Trajectories left out because another one has the same tokens."""
    surplus: int
    """Trajectories left out because their task had enough."""
    too_long: int
    """Trajectories left out because they have too many tokens."""


def collect(stores: Sequence[Path], model: Path, config: SFTConfig) -> Collected:
    """Rows of every resolved trajectory of the stores; raises `UserError` if there is none, or where a store has token
    ids of another tokenizer than the model's."""
    for directory in stores:
        require_tokenizer(directory, str(model))
    seen: set[tuple[int, ...]] = set()
    per_task: dict[str, int] = {}
    rows: list[dict[str, list[int]]] = []
    left = {"resolved": 0, "repeated": 0, "surplus": 0, "too_long": 0}
    for trajectory in _resolved(stores):
        left["resolved"] += 1
        if trajectory.token_ids in seen:
            left["repeated"] += 1
        elif config.max_tokens is not None and len(trajectory.token_ids) > config.max_tokens:
            left["too_long"] += 1
        elif config.per_task is not None and per_task.get(trajectory.task_id, 0) >= config.per_task:
            left["surplus"] += 1
        else:
            seen.add(trajectory.token_ids)
            per_task[trajectory.task_id] = per_task.get(trajectory.task_id, 0) + 1
            rows.append(row(trajectory, everything=config.everything))
    if not rows:
        raise UserError(
            "no resolved trajectory to learn from: roll out with --agent demo, or a policy that resolves some tasks"
        )
    return Collected(rows=rows, **left)


def row(trajectory: Trajectory, *, everything: bool = False) -> dict[str, list[int]]:
    """The stored ids, and labels: the ids of the responses, or of all tokens with `everything`; -100 elsewhere."""
    if everything:
        return {"input_ids": list(trajectory.token_ids), "labels": list(trajectory.token_ids)}
    labels = [_IGNORED] * len(trajectory.token_ids)
    for response in trajectory.responses:
        labels[response.start : response.end] = trajectory.token_ids[response.start : response.end]
    return {"input_ids": list(trajectory.token_ids), "labels": labels}


def fine_tune(model: Path, rows: Sequence[dict[str, list[int]]], out: Path, config: SFTConfig) -> dict[str, Any]:
    """Train and write the model to `out`, its tensors in the types of the first model's; returns TRL's metrics. A rerun
    resumes from the last whole checkpoint in `out/checkpoints`. Raises `UserError` for a model that cannot be loaded or
    has too few token ids, and where the checkpoints are of another model, other rows or other settings."""
    from swe_aem.train import checkpoints
    from swe_aem.train.checkpoint_writer import CheckpointWriter
    from swe_aem.train.model_directory import ModelDirectory
    from swe_aem.train.models import load_model, load_processing, on_cpu
    from swe_aem.train.processes import Processes
    from swe_aem.train.refusals import refuse_launch
    from swe_aem.train.sft_trainer import supervised_trainer

    folder = out / checkpoints.DIRECTORY
    origin = _origin(model, rows, config)
    _refuse_others(folder, origin)
    refuse_launch()
    if config.batch_size % (config.micro_batch_size or 1):
        raise UserError(f"micro_batch_size {config.micro_batch_size} does not divide batch_size {config.batch_size}")
    cpu = on_cpu("auto")
    with Processes(cpu=cpu, collective_timeout_s=_COLLECTIVE_TIMEOUT_S) as processes, ExitStack() as stack:
        policy = load_model(model)
        _refuse_unknown_ids(model, policy.config.vocab_size, rows)
        processing = load_processing(model)
        files = ModelDirectory(policy, processing, str(model))
        trainer = supervised_trainer(policy, processing, rows, folder, config, cpu=cpu)
        processes.first_does("claiming the directory", lambda: stack.enter_context(_held(folder, origin)))
        trainer.checkpoint_writer = CheckpointWriter(folder, processes)
        result = trainer.train_from(checkpoints.latest(folder))
        made = folder / _MODEL
        files.write_trained(made, trainer, processes, collective_timeout_s=_COLLECTIVE_TIMEOUT_S)
        processes.first_does("moving the model", lambda: _move(made, out))
    return dict(result.metrics)


def _refuse_unknown_ids(model: Path, vocabulary: int, rows: Iterable[dict[str, list[int]]]) -> None:
    highest = max(max(one["input_ids"]) for one in rows)
    if highest >= vocabulary:
        raise UserError(f"{model}: has {vocabulary} ids, but the trajectories have {highest}: they were "
                        "sampled with another tokenizer; roll out again with --tokenizer of this model")  # fmt: skip


def _move(made: Path, to: Path) -> None:
    """Move the files of a model directory to where others are, in place of those of a model that was there."""
    for old in to.glob("model*.safetensors*"):
        old.unlink()
    for one in made.iterdir():
        one.replace(to / one.name)
    made.rmdir()


def _origin(model: Path, rows: Sequence[dict[str, list[int]]], config: SFTConfig) -> dict[str, Any]:
    """What determines a trained model, by name: the first model, a digest of the rows, the settings."""
    digest = hashlib.sha256()
    for one in rows:
        digest.update(json.dumps(one, sort_keys=True).encode())
    trajectories = f"{len(rows)}, digest {digest.hexdigest()[:16]}"
    return {"model": str(model), "trajectories": trajectories, **config.model_dump(mode="json")}


@contextmanager
def _held(folder: Path, origin: Mapping[str, Any]) -> Iterator[None]:
    """Lock the folder, remove unfinished checkpoints, and record what the next ones are trained with."""
    from swe_aem.train.checkpoints import remove_torn

    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        _refuse_others(folder, origin)
        if torn := remove_torn(folder):
            tell(f"removed {torn[0]}, which a killed process did not finish")
        replace(folder / _ORIGIN, json.dumps(origin, indent=2) + "\n")
        yield


def _refuse_others(folder: Path, origin: Mapping[str, Any]) -> None:
    """Raise `UserError` if the folder has checkpoints of another origin."""
    if not any(folder.glob("checkpoint-*")):
        return
    path = folder / _ORIGIN
    if not path.exists():
        raise UserError(
            f"{folder} holds checkpoints but no {_ORIGIN}, which says what they were trained with: choose another --out"
        )
    before = json.loads(path.read_text(encoding="utf-8"))
    if found := changed(before, origin):
        raise UserError(f"{folder} holds another run: {'; '.join(found)}. Choose another --out")


def _resolved(stores: Iterable[Path]) -> Iterator[Trajectory]:
    for directory in stores:
        for trajectory in existing_store(directory).trajectories():
            if trajectory.outcome is Outcome.RESOLVED and trajectory.responses:
                require_token_ids(directory, trajectory)
                yield trajectory
