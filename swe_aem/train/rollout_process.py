"""`RolloutProcess`: the rollouts of a run in a process of their own, so that they never wait for the trainer's
interpreter, nor it for them. Importable without torch.

    with RolloutProcess(config, directory, model) as rollouts:    # as `RolloutWorker`, which runs in there

A process that is killed costs its running trajectories: the next one resumes from the store. It does not have the
trained weights, so what was asked of the one before it raises `RolloutsLost`, and whoever asked brings the weights and
asks again.
"""

import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swe_aem.errors import RunAborted, UserError
from swe_aem.extensions import only_here
from swe_aem.rollout import RolloutConfig
from swe_aem.runlog import note, tell
from swe_aem.serve.planes import ControlPlane, Parcel
from swe_aem.train.config import TrainConfig
from swe_aem.train.directory import HELDOUT, ROLLOUTS, rollouts_claimed
from swe_aem.train.lost import RolloutsLost
from swe_aem.train.models import on_cpu
from swe_aem.train.rollout_child import ChildGone, RolloutChild
from swe_aem.train.rollout_messages import Opening

if TYPE_CHECKING:
    from swe_aem.train.rollout_worker import RolloutWorker
    from swe_aem.train.steps import Step

MOST_LOSSES = 3
"""Processes in a row that may be lost before one has stored a trajectory."""


@contextmanager
def early_child(
    config: TrainConfig, directory: Path, first: Mapping[str, RolloutConfig]
) -> Iterator[RolloutChild | None]:
    """A process that opens all it needs, and begins with the evaluations `first`, while the caller does other things;
    None where the rollouts cannot have one. It is gone afterwards. The caller has claimed the directory."""
    if objects_here(config):
        yield None
        return
    child = RolloutChild()
    try:
        threads = _torch_threads(config) if sys.modules.get("torch") else None
        child.begin_to_open(Opening(config, directory, tuple(sys.path), threads, first=first))
        yield child
    except BaseException:
        try:
            child.close()
        except Exception as closing:  # the reason for closing is what has to be said
            note(f"closing the rollouts: {closing}", level=logging.ERROR)
        raise
    child.close()


@contextmanager
def open_rollouts(
    config: TrainConfig, directory: Path, model: Callable[[], Any], *, child: RolloutChild | None = None
) -> "Iterator[RolloutProcess | RolloutWorker]":
    """The rollouts in a process of their own; in a thread of this one where they call an object that no other process
    can import, which is said. `child` is a process that opens them already."""
    if not (here := objects_here(config)):
        with RolloutProcess(config, directory, model, child=child) as process:
            yield process
        return
    if config.rollout.cluster is not None:
        raise UserError(
            f"no process on another host can import {', '.join(here)}: put it into a module or file of its own, or "
            "leave cluster out"
        )
    from swe_aem.train.rollout_worker import RolloutWorker

    tell(
        f"rollouts run in a thread beside the trainer, and both slow each other: no other process can import "
        f"{', '.join(here)}; put it into a module or file of its own"
    )
    with rollouts_claimed(directory), RolloutWorker(config, directory, model) as worker:
        yield worker


def objects_here(config: TrainConfig) -> tuple[str, ...]:
    """Names of what the rollouts call and this process alone has."""
    return only_here([config.rollout.model_dump(mode="json"), config.task_sampler])


def share_cores(config: TrainConfig) -> None:
    """Give torch half of the cores of a CPU host, in this process and in that of the rollouts, where one samples while
    the other trains. A thread of torch that waits for another one spins, so with a thread per core in both, each takes
    the cores that the other one waits for."""
    import torch

    if config.servers is None and config.max_staleness and on_cpu(config.device):
        torch.set_num_threads(min(torch.get_num_threads(), max(1, len(os.sched_getaffinity(0)) // 2)))


class RolloutProcess:
    """The interface of a `RolloutWorker`, which runs in another process. Use as a context manager, on the first process
    of a run only. All but `wants_weights` and `evaluation_wants_weights` raise `RolloutsLost` if the process has ended
    since one of these was asked."""

    def __init__(
        self,
        config: TrainConfig,
        directory: Path,
        model: Callable[[], Any],
        *,
        child: RolloutChild | None = None,
    ) -> None:
        """Takes what a `RolloutWorker` does, but the process loads the model by itself. `child` is one that has begun
        to open all."""
        self._config = config
        self._directory = directory
        self._child = child
        self._losses = 0
        """Processes lost since a trajectory was stored."""
        self._stored_bytes = _stored_bytes(directory)
        self.control: ControlPlane = _Control(self._ask)
        """The control plane of the servers that sample."""

    def __enter__(self) -> "RolloutProcess":
        try:
            if self._child is None:
                self._child = self._opening_child()
                self._child.opened()
            else:
                with suppress(ChildGone):
                    self._child.opened()
                self._replace_if_gone()
        except ChildGone as gone:
            raise RunAborted(f"the process of the rollouts {gone}") from None
        except BaseException:
            if self._child is not None:
                self._child.close()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self._running.close()

    @property
    def pid(self) -> int:
        """The process id."""
        return self._running.pid

    def wants_weights(self, number: int) -> bool:
        """Ask `RolloutWorker.wants_weights` there; a process that has ended is replaced first."""
        self._replace_if_gone()
        return self._ask("wants_weights", number)

    def evaluation_wants_weights(self, rollouts: Mapping[str, RolloutConfig], version: int) -> bool:
        """Ask `RolloutWorker.evaluation_wants_weights` there; a process that has ended is replaced first."""
        self._replace_if_gone()
        return self._ask("evaluation_wants_weights", dict(rollouts), version)

    def step(self, number: int) -> "Step":
        """The result of `RolloutWorker.step` there."""
        return self._ask("step", number)

    def evaluate(self, config: RolloutConfig, version: int, name: str) -> Path:
        """The result of `RolloutWorker.evaluate` there."""
        return self._ask("evaluate", config, version, name)

    def load(self, weights: Mapping[str, Any], version: int) -> None:
        """Have `RolloutWorker.load` done there; the tensors go through a file in memory."""
        import torch

        fd = self._running.weights_fd
        with os.fdopen(fd, "wb", closefd=False) as file:
            torch.save(dict(weights), file)
        try:
            self._ask("load", version)
        finally:
            os.ftruncate(fd, 0)
            os.lseek(fd, 0, os.SEEK_SET)

    @property
    def _running(self) -> RolloutChild:
        if self._child is None:
            raise RuntimeError("a RolloutProcess works only inside `with RolloutProcess(...) as rollouts`")
        return self._child

    def _ask(self, method: str, *arguments: Any) -> Any:
        try:
            return self._running.ask(method, *arguments)
        except ChildGone as gone:
            raise RolloutsLost(f"the process of the rollouts {gone}") from None

    def _opening_child(self, *, replaces: bool = False) -> RolloutChild:
        """A process that has begun to open all it needs."""
        threads = _torch_threads(self._config)
        opening = Opening(self._config, self._directory, tuple(sys.path), threads, replaces=replaces)
        child = RolloutChild()
        child.begin_to_open(opening)
        return child

    def _replace_if_gone(self) -> None:
        while (why := self._running.how_it_ended) is not None:
            self._count_loss(why)
            tell(f"the process of the rollouts {why}\nanother one resumes them from the store")
            self._running.close()
            self._child = self._opening_child(replaces=True)
            with suppress(ChildGone):
                self._child.opened()

    def _count_loss(self, why: str) -> None:
        stored_bytes = _stored_bytes(self._directory)
        self._losses = 1 if stored_bytes > self._stored_bytes else self._losses + 1
        self._stored_bytes = stored_bytes
        if self._losses == MOST_LOSSES:
            raise RunAborted(
                f"{MOST_LOSSES} processes of rollouts ended one after the other, and no trajectory was stored "
                f"meanwhile; the last one {why}"
            )


class _Control:
    """The `ControlPlane` in the other process."""

    def __init__(self, ask: Callable[..., Any]) -> None:
        self._ask = ask

    def world_sizes(self) -> tuple[int, ...]:
        return self._ask("world_sizes")

    def join(self, init_infos: Sequence[dict[str, Any]]) -> None:
        self._ask("join", list(init_infos))

    def begin(self, parcel: Parcel) -> None:
        self._ask("begin", parcel)

    def end(self, failure: str | None) -> None:
        self._ask("end", failure)


def _torch_threads(config: TrainConfig) -> int:
    """Threads of an operation of torch in this process; 0 where nothing is sampled with torch."""
    if config.servers is not None:
        return 0
    import torch

    return torch.get_num_threads()


def _stored_bytes(directory: Path) -> int:
    """Bytes of all trajectories that the run has stored."""
    stores = (directory / ROLLOUTS, *(directory / HELDOUT).glob("*"))
    return sum(part.stat().st_size for store in stores for part in (store / "trajectories").glob("*.jsonl"))
