"""A whole training run in one directory: evaluate, train, evaluate; and go on where a killed process ended.

    DIR/config.yaml       the resolved configuration
    DIR/metrics.jsonl     one object per step
    DIR/summary.json      held-out rates before and after, steps, seconds
    DIR/heldout.jsonl     held-out rates of each evaluation
    DIR/policy/           the trained model
    DIR/rollouts/         the store of all trajectories, as of `swe-aem rollout`
    DIR/heldout/          stores of the evaluations
    DIR/checkpoints/      what a rerun goes on from

The same code runs in one process and under `accelerate launch`: the first process rolls out, evaluates and writes.
"""

import copy
import json
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path
from typing import Any

from transformers.trainer_callback import PrinterCallback, TrainerCallback, TrainerControl, TrainerState
from transformers.training_args import TrainingArguments

from swe_aem.rollout.files import locked, replace
from swe_aem.rollout.wiring import chosen_tasks
from swe_aem.train import checkpoints
from swe_aem.train.aem_grpo import AEMGRPOTrainer
from swe_aem.train.config import LoraSettings, TrainConfig
from swe_aem.train.directory import POLICY, SUMMARY, RunSummary, hold_fast
from swe_aem.train.feed import SLOT, Feed
from swe_aem.train.heldout import Heldout, heldout_rollout, judge
from swe_aem.train.journal import Journal
from swe_aem.train.models import load_model, load_processing, on_cpu
from swe_aem.train.policies import whole_weights
from swe_aem.train.preset import grpo_arguments
from swe_aem.train.refusals import refuse_sharding
from swe_aem.train.session import Session
from swe_aem.train.steps import StepSource

BEFORE, AFTER = "before", "after"


OpenSource = Callable[[TrainConfig, Path, Any, str], AbstractContextManager[Any]]
"""(configuration, directory, the model or a copy of it, its name) to a `StepSource` as a context manager, which
evaluates too if the configuration asks for it. `Session` is the real one."""


def train(config: TrainConfig, directory: Path, open_source: OpenSource = Session) -> RunSummary | None:
    """Train to the end; returns the summary on the first process. Raises `UserError` for what is wrong with the input,
    `RunAborted` where nothing works any more, `KeyboardInterrupt` after a clean end of what was rolled out."""
    from accelerate import PartialState

    state = PartialState(cpu=on_cpu(config.device))
    directory.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        if state.is_main_process:
            stack.enter_context(locked(directory))
            if (finished := hold_fast(config, directory)) is not None and state.num_processes == 1:
                print(f"{directory} is finished; nothing to do", file=sys.stderr)
                return finished
        return _Run(config, directory, state, open_source).run()


class _Run:
    """One process's part of a run."""

    def __init__(self, config: TrainConfig, directory: Path, state: Any, open_source: OpenSource) -> None:
        self.config = config
        self.open_source = open_source
        self.directory = directory
        self.main = bool(state.is_main_process)
        self.processes = int(state.num_processes)
        self.began = time.monotonic()
        self.earlier_s = _earlier_s(directory)

    def run(self) -> RunSummary | None:
        """Everything, from the model to the summary."""
        config = self.config
        model = _adapted(load_model(config.model, dtype=config.dtype), config.lora)
        processing = load_processing(config.model)
        with self._source(model) as session:
            evaluations = _Evaluations(config, self.directory, session) if session else None
            if evaluations is not None and config.heldout is not None and config.heldout.before:
                evaluations.run(model.state_dict(), 0, BEFORE)
            trainer = self._trainer(model, processing, session, evaluations)
            last = checkpoints.latest(Path(str(trainer.args.output_dir)))
            if last is not None:
                trainer.add_callback(checkpoints.SameDice(lambda: trainer._load_rng_state(str(last))))
                if self.main:
                    done = checkpoints.update_of(last) // config.updates_per_step
                    print(f"goes on after step {done}, the last that has a checkpoint", file=sys.stderr, flush=True)
            trainer.train(resume_from_checkpoint=str(last) if last else None)
            weights = whole_weights(trainer)
            if evaluations is None:
                return None
            # `save_model` writes nothing where checkpoints are of shards; `_save` takes out of its dict what is tied.
            trainer._save(str(self.directory / POLICY), state_dict=dict(weights))
            if config.heldout is not None:
                evaluations.run(weights, config.steps, AFTER)
            return self._summary(evaluations)

    def _source(self, model: Any) -> AbstractContextManager[Any]:
        """Where steps come from, on the first process."""
        if not self.main:
            return nullcontext()
        sampled = copy.deepcopy(model) if self.config.servers is None else model
        return self.open_source(self.config, self.directory, sampled, Path(self.config.model).name)

    def _trainer(
        self, model: Any, processing: Any, session: StepSource | None, evaluations: "_Evaluations | None"
    ) -> AEMGRPOTrainer:
        from datasets import Dataset
        from trl.trainer.grpo_config import GRPOConfig

        config = self.config
        folder = self.directory / "checkpoints"
        if self.main and (torn := checkpoints.remove_torn(folder)):
            print(f"removed {torn[0]}, which a killed process did not finish", file=sys.stderr)
        feed = Feed(session, updates_per_step=config.updates_per_step, train_limits=config.train_limits)
        callbacks: list[TrainerCallback] = [checkpoints.Marker()]
        if evaluations is not None:
            last = checkpoints.latest(folder)
            done = checkpoints.update_of(last) // config.updates_per_step if last else 0
            journal = Journal(
                self.directory, feed, updates_per_step=config.updates_per_step, steps=config.steps, done=done
            )
            callbacks += [journal, evaluations]
        trainer = AEMGRPOTrainer(
            model=model,
            args=GRPOConfig(**grpo_arguments(config, folder, self.processes)),
            train_dataset=Dataset.from_dict({"prompt": [SLOT] * (config.groups_per_step * config.steps)}),
            processing_class=processing,
            rollout_func=feed,
            callbacks=callbacks,
            advantage=config.advantage,
            importance_cap=config.importance_cap,
        )
        refuse_sharding(config, sharded=trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled)
        trainer.remove_callback(PrinterCallback)
        return trainer

    def _summary(self, evaluations: "_Evaluations") -> RunSummary:
        summary = RunSummary(
            model=self.config.model,
            tasks=self.config.rollout.tasks,
            steps=self.config.steps,
            wall_s=self.earlier_s + time.monotonic() - self.began,
            heldout_before=evaluations.found.get(BEFORE),
            heldout_after=evaluations.found.get(AFTER),
        )
        replace(self.directory / SUMMARY, summary.model_dump_json(indent=2) + "\n")
        return summary


class _Evaluations(TrainerCallback):
    """Runs evaluations, writes each to heldout.jsonl, and keeps those that the summary needs."""

    def __init__(self, config: TrainConfig, directory: Path, session: Session) -> None:
        self._config = config
        self._directory = directory
        self._session = session
        self.found: dict[str, Heldout] = {}

    def run(self, weights: Mapping[str, Any], step: int, name: str) -> None:
        """Evaluate the policy as it is after `step` steps."""
        config, heldout = self._config, self._config.heldout
        assert heldout is not None
        rollout = heldout_rollout(config, greedy=False)
        tasks = chosen_tasks(rollout)
        print(f"evaluating the policy of {step} steps on {len(tasks)} tasks", file=sys.stderr, flush=True)
        sampled = self._session.evaluate(rollout, weights, step, f"{name}-sampled")
        greedy = None
        if heldout.greedy and name in (BEFORE, AFTER):
            greedy = self._session.evaluate(heldout_rollout(config, greedy=True), weights, step, f"{name}-greedy")
        result = judge(sampled, greedy, tasks.labels)
        self.found[name] = result
        self._write(step, result)
        shown = f"held out after {step} steps: {result.pass_at_1:.1%} ({result.low:.1%} to {result.high:.1%}) sampled"
        if result.greedy is not None:
            shown += f", {result.greedy:.1%} ({result.greedy_low:.1%} to {result.greedy_high:.1%}) greedy"
        print(f"{shown}, {result.tasks} tasks", file=sys.stderr, flush=True)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any) -> None:
        """Evaluate in the middle, where the configuration asks for it."""
        every = self._config.heldout.every if self._config.heldout else None
        step, update = divmod(state.global_step, self._config.updates_per_step)
        if every and not update and step % every == 0 and step < self._config.steps:
            self.run(given["model"].state_dict(), step, f"step-{step}")

    def _write(self, step: int, result: Heldout) -> None:
        path = self._directory / "heldout.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        kept = [line for line in lines if json.loads(line)["step"] != step]
        kept.append(json.dumps({"step": step, **result.model_dump()}))
        kept.sort(key=lambda line: json.loads(line)["step"])
        replace(path, "".join(f"{line}\n" for line in kept))


def _adapted(model: Any, settings: LoraSettings | None) -> Any:
    """The model, with an adapter of random weights if there are settings for one."""
    if settings is None:
        return model
    from peft import LoraConfig, get_peft_model

    modules = settings.target_modules
    adapter = LoraConfig(
        r=settings.r,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=modules if isinstance(modules, str) else list(modules),
        task_type="CAUSAL_LM",
    )
    return get_peft_model(model, adapter)


def _earlier_s(directory: Path) -> float:
    """Seconds that earlier processes worked on the run, as far as their last step tells."""
    from swe_aem.train.journal import FILE, read_lines

    lines = read_lines(directory / FILE)
    return float(lines[-1]["wall_s"]) if lines else 0.0
