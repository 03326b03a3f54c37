"""A whole training run in one directory: evaluate, train, evaluate; and resume where a killed process ended.

    DIR/config.yaml       the resolved configuration
    DIR/extensions.json   version and hash of what is not built in
    DIR/metrics.jsonl     one object per step
    DIR/sampler.jsonl     the tasks that were chosen for each step
    DIR/consumed.jsonl    the groups that each step consumed, where max_staleness is above 0
    DIR/summary.json      held-out rates before and after, steps, seconds
    DIR/heldout.jsonl     held-out rates of each evaluation
    DIR/trackers.json     what the trackers of the run got
    DIR/phases.jsonl      when each phase of the process that trains began, and its seconds
    DIR/policy/           the trained model
    DIR/rollouts/         the store of all trajectories, like that of `swe-aem rollout`
    DIR/heldout/          stores of the evaluations
    DIR/checkpoints/      what a rerun resumes from

The same code runs in one process and under `accelerate launch`: the first process rolls out, evaluates and writes, and
the others wait for it as `Processes` says.
"""

import copy
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

from transformers.trainer_callback import PrinterCallback, TrainerCallback, TrainerControl, TrainerState
from transformers.training_args import TrainingArguments
from trl.trainer.grpo_config import GRPOConfig

from swe_aem.advantage.config import ADVANTAGES, label_of
from swe_aem.core.used import changed_extensions, identities
from swe_aem.errors import UserError
from swe_aem.rollout import chosen_tasks
from swe_aem.runlog import tell
from swe_aem.store import PhaseLog
from swe_aem.train import checkpoints
from swe_aem.train.checkpoint_writer import CheckpointWriter
from swe_aem.train.config import TrainConfig
from swe_aem.train.dealing import Dealing, row_cost
from swe_aem.train.directory import POLICY, claimed_run, steps_behind
from swe_aem.train.feed import SLOT, Feed
from swe_aem.train.grpo import AgentGRPOTrainer
from swe_aem.train.heldout import evaluations, judge
from swe_aem.train.journal import Journal
from swe_aem.train.lost import unless_lost
from swe_aem.train.model_directory import ModelDirectory
from swe_aem.train.models import load_processing, load_trained, model_values, on_cpu, tokenizer_of
from swe_aem.train.preset import grpo_arguments
from swe_aem.train.processes import Processes
from swe_aem.train.records import (
    HeldoutResult,
    HeldoutScore,
    RunSummary,
    read_metrics,
    write_heldout,
    write_run_summary,
)
from swe_aem.train.refusals import (
    refuse_at_start,
    refuse_model,
    refuse_other_tokenizer,
    refuse_silent_changes,
    untrained,
)
from swe_aem.train.rollout_process import RolloutProcess, open_rollouts, share_cores
from swe_aem.train.rollout_worker import RolloutWorker
from swe_aem.train.step_clock import StepClock
from swe_aem.train.steps import StepSource
from swe_aem.train.trackers import Trackers
from swe_aem.train.weight_updates import WeightUpdates

OpenSource = Callable[[TrainConfig, Path, Callable[[], Any]], AbstractContextManager[Any]]
"""Makes a `StepSource` from the configuration, the directory, and what copies the model before training. It is a
context manager that also evaluates if the configuration asks for it. `open_rollouts` gives the real ones."""


def train(
    config: TrainConfig,
    directory: Path,
    open_source: OpenSource = open_rollouts,
    *,
    claim: Callable[[], RunSummary | None] | None = None,
) -> RunSummary | None:
    """Train to the end; returns the summary on the first process. `claim` gives what `claimed_run` gave to the caller,
    who is inside of it. Raises `UserError` for wrong input, `RunAborted` where every attempt fails, `ProcessFailed`
    where another process does, `KeyboardInterrupt` once running trajectories have ended."""
    refuse_at_start(config)
    estimator = identities("advantage", ADVANTAGES, config.advantage)
    joined = Processes(cpu=on_cpu(config.device), collective_timeout_s=config.collective_timeout_s)
    with joined as processes, ExitStack() as stack:
        claim = claim or (lambda: stack.enter_context(claimed_run(config, directory)))
        claimed = processes.first_does("claiming the directory", claim)
        finished, of_first = processes.share((claimed, estimator))
        if changed := changed_extensions(of_first, estimator):
            raise UserError(
                f"process {processes.index} has other code than the first one: {'; '.join(changed)}. Each process "
                "computes advantages, so give all hosts the same files"
            )
        if finished is None:
            return _Run(config, directory, processes, open_source).run(stack)
        if not processes.first:
            return None
        tell(f"{directory} is finished; nothing to do")
        return finished


class _Run:
    """The part of a run that one process does."""

    def __init__(self, config: TrainConfig, directory: Path, processes: Processes, open_source: OpenSource) -> None:
        self.config = config
        self.open_source = open_source
        self.directory = directory
        self.checkpoints = directory / checkpoints.DIRECTORY
        self.processes = processes
        self.phases = PhaseLog(directory) if processes.first else None
        self.clock = StepClock(tell=self._keep)
        self.trackers: Trackers | None = None
        self.began = time.monotonic()
        self.earlier_s = _earlier_s(directory)

    def run(self, stack: ExitStack) -> RunSummary | None:
        """Load the model, train and evaluate it, and write the results; what is opened closes with `stack`."""
        config = self.config
        if self.phases is not None:
            stack.callback(self.phases.close)
        arguments = self._arguments()
        last = checkpoints.latest(self.checkpoints)
        done = steps_behind(config, last)
        first_does = self.processes.first_does
        writer = self._writer(arguments)
        stack.callback(writer.close)
        self.trackers = first_does(
            "opening the trackers", lambda: stack.enter_context(Trackers(config, self.directory, done=done))
        )
        values = model_values(config.model)
        refuse_model(config, values)
        if config.rollout.tokenizer_path != config.model:
            refuse_other_tokenizer(config, tokenizer_of(config.model))
        for note in untrained(config, values) if self.processes.first else ():
            tell(note)
        share_cores(config)
        model = load_trained(config)
        processing = load_processing(config.model)
        files = ModelDirectory(model, processing, config.model) if config.lora is None else None
        worker = first_does("opening the rollouts", lambda: stack.enter_context(self._source(model)))
        updates = WeightUpdates(config, self.processes, worker)
        updates.open(stack, self.directory / "weights", model)
        measured = _Evaluations(config, self.directory, worker, self.processes, updates, self.clock, self.trackers)
        first_does("removing what a killed process left", self._remove_torn)
        trainer = self._trainer(arguments, model, values, processing, worker, updates, measured, done)
        trainer.checkpoint_writer = writer
        updates.trainer = trainer
        if config.heldout is not None and config.heldout.before:
            measured.run(0, greedy=config.heldout.greedy)
        if last is not None and self.processes.first:
            tell(f"resuming from the checkpoint of step {done}")
        trainer.train_from(last)
        self._write_policy(trainer, files)
        with self.clock.phase("checkpoint"):
            writer.wait()
        if config.heldout is not None:
            measured.run(config.steps, greedy=config.heldout.greedy)
        return first_does("the summary", lambda: self._summary(measured))

    def _write_policy(self, trainer: AgentGRPOTrainer, files: ModelDirectory | None) -> None:
        """Write the trained model with all processes, tensor by tensor; of an adapter, which is small, its own
        files."""
        policy = self.directory / POLICY
        if files is None:
            self.processes.first_does("writing the policy", lambda: trainer._save(str(policy)))
        else:
            limit_s = self.config.collective_timeout_s
            files.write_trained(policy, trainer, self.processes, collective_timeout_s=limit_s)

    def _keep(self, phase: str, began_s: float, seconds: float, step: int) -> None:
        if self.phases is not None:
            self.phases.append(phase, began_s, seconds, step=step)

    def _arguments(self) -> GRPOConfig:
        """The configuration of TRL's trainer. Raises `UserError` for wrong settings before anything is rolled out."""
        with _refused_by_trl():
            arguments = GRPOConfig(**grpo_arguments(self.config, self.checkpoints, self.processes.count))
        refuse_silent_changes(arguments, self.config.advantage, self.config.importance_sampling)
        return arguments

    def _writer(self, arguments: GRPOConfig) -> CheckpointWriter:
        return CheckpointWriter(
            self.checkpoints,
            self.processes,
            asynchronous=self.config.asynchronous_checkpoints,
            keep=arguments.save_total_limit or 1,
            collective_timeout_s=self.config.collective_timeout_s,
        )

    def _source(self, model: Any) -> AbstractContextManager[Any]:
        """The source of steps."""
        return self.open_source(self.config, self.directory, lambda: copy.deepcopy(model))

    def _trainer(
        self,
        arguments: GRPOConfig,
        model: Any,
        values: Mapping[str, Any],
        processing: Any,
        worker: StepSource | None,
        updates: WeightUpdates,
        evaluations: "_Evaluations",
        done: int,
    ) -> AgentGRPOTrainer:
        """The trainer of a run that has `done` steps behind it. `values` are those of the model's configuration."""
        from datasets import Dataset

        config = self.config
        dealing = Dealing(
            cost=row_cost(values),
            num_minibatches=config.num_minibatches,
            micro_batch_size=config.micro_batch_size,
            token_budget=config.token_budget,
            seed=config.seed,
        )
        feed = Feed(
            worker,
            self.processes,
            updates,
            dealing=dealing,
            clock=self.clock,
            compact_filtering=config.compact_filtering,
            routing_replay=config.routing_replay,
            branches_per_trajectory=config.branches_per_trajectory,
        )
        callbacks: list[TrainerCallback] = []
        if self.processes.first:
            callbacks.append(
                Journal(
                    self.directory,
                    feed,
                    num_minibatches=config.num_minibatches,
                    steps=config.steps,
                    done=done,
                    clock=self.clock,
                    trackers=self.trackers,
                    estimator=label_of(config.advantage),
                    entropy=config.advantage.entropy,
                )
            )
        callbacks.append(evaluations)
        with _refused_by_trl():
            trainer = AgentGRPOTrainer(
                model=model,
                args=arguments,
                train_dataset=Dataset.from_dict({"prompt": [SLOT] * (config.groups_per_step * config.steps)}),
                processing_class=processing,
                rollout_func=feed,
                callbacks=callbacks,
                advantage=config.advantage,
                importance_sampling=config.importance_sampling,
                routing_replay=config.routing_replay,
                clock=self.clock,
                packed=config.token_budget is not None,
                passes=config.passes,
            )
            _try_optimiser(trainer, model)
        trainer.remove_callback(PrinterCallback)
        return trainer

    def _remove_torn(self) -> None:
        if torn := checkpoints.remove_torn(self.checkpoints):
            tell(f"removed {torn[0]}, which a killed process did not finish")

    def _summary(self, evaluations: "_Evaluations") -> RunSummary:
        summary = RunSummary(
            model=self.config.model,
            tasks=self.config.rollout.tasks,
            steps=self.config.steps,
            wall_s=self.earlier_s + time.monotonic() - self.began,
            heldout_before=evaluations.found.get(0),
            heldout_after=evaluations.found.get(self.config.steps),
        )
        write_run_summary(self.directory, summary)
        return summary


class _Evaluations(TrainerCallback):
    """Evaluates the policy on the first process, writes each result to heldout.jsonl, and keeps it for the summary by
    the step before it."""

    def __init__(
        self,
        config: TrainConfig,
        directory: Path,
        worker: RolloutProcess | RolloutWorker | None,
        processes: Processes,
        updates: WeightUpdates,
        clock: StepClock,
        trackers: Trackers | None,
    ) -> None:
        """`worker` and `trackers` are None on all processes but the first."""
        self._config = config
        self._directory = directory
        self._worker = worker
        self._processes = processes
        self._updates = updates
        self._clock = clock
        self._trackers = trackers
        self.found: dict[int, HeldoutScore] = {}

    def run(self, step: int, *, greedy: bool) -> None:
        """Evaluate the policy after `step` steps: sampled, and with `greedy` also at temperature 0. All processes call
        this."""
        with self._clock.phase("evaluation"):
            while not self._processes.share(self._brought_and_evaluated(step, greedy=greedy)):
                """The rollouts were lost meanwhile."""

    def _brought_and_evaluated(self, step: int, *, greedy: bool) -> bool | None:
        """On the first process: true, unless the rollouts were lost meanwhile."""

        def evaluated() -> bool:
            self._evaluate(step, greedy=greedy)
            return True

        self._updates.bring(step, lambda: self._wants_weights(step, greedy=greedy))
        return self._processes.first_does(f"the evaluation after {step} steps", lambda: unless_lost(evaluated))

    def _wants_weights(self, step: int, *, greedy: bool) -> bool:
        assert self._worker is not None
        return self._worker.evaluation_wants_weights(evaluations(self._config, step, greedy=greedy), step)

    def _evaluate(self, step: int, *, greedy: bool) -> None:
        assert self._worker is not None
        rollouts = evaluations(self._config, step, greedy=greedy)
        tasks = chosen_tasks(next(iter(rollouts.values())))
        for note in tasks.notes:
            tell(note)
        tell(f"evaluating the policy of {step} steps on {len(tasks)} tasks")
        sampled, *best = [self._worker.evaluate(rollout, step, name) for name, rollout in rollouts.items()]
        result = judge(sampled, best[0] if best else None, tasks.labels)
        self.found[step] = result
        line = HeldoutResult.after(step, result)
        write_heldout(self._directory, line)
        if self._trackers is not None:
            self._trackers.log_heldout(line)
        shown = f"held out after {step} steps: {result.pass_at_1:.1%} ({result.low:.1%} to {result.high:.1%}) sampled"
        if result.greedy is not None:
            shown += f", {result.greedy:.1%} ({result.greedy_low:.1%} to {result.greedy_high:.1%}) greedy"
        tell(f"{shown}, {result.tasks} tasks")

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Evaluate during training, after every `heldout.every` steps."""
        every = self._config.heldout.every if self._config.heldout else None
        step, update = divmod(state.global_step, self._config.num_minibatches)
        if every and not update and step % every == 0 and step < self._config.steps:
            self.run(step, greedy=False)


@contextmanager
def _refused_by_trl() -> Iterator[None]:
    """Raise `UserError` for what TRL and transformers refuse, or lack a package for."""
    try:
        yield
    except (ValueError, ImportError) as error:
        raise UserError(f"TRL refuses these settings: {error}") from error


def _try_optimiser(trainer: AgentGRPOTrainer, model: Any) -> None:
    """Make the optimiser's class and a schedule as the trainer will when it begins, after the first evaluation. Raises
    what transformers does."""
    import torch
    from transformers import get_scheduler

    arguments: Any = trainer.args
    trainer.get_optimizer_cls_and_kwargs(arguments, model)
    get_scheduler(
        arguments.lr_scheduler_type,
        torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=arguments.learning_rate),
        num_warmup_steps=arguments.get_warmup_steps(arguments.max_steps),
        num_training_steps=arguments.max_steps,
        scheduler_specific_kwargs=arguments.lr_scheduler_kwargs,
    )


def _earlier_s(directory: Path) -> float:
    """Seconds that earlier processes worked on the run, as far as their last step tells."""
    lines = read_metrics(directory)
    return (lines[-1].wall_s or 0.0) if lines else 0.0
