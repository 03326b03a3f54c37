"""Trackers: TensorBoard, trackio and Weights & Biases get every number of a step's line of `metrics.jsonl`, under the
same name and step, and those of an evaluation's line of `heldout.jsonl` as `heldout/NAME`.

A training run is one run of each tracker, whatever was killed and resumed. Its id there, and the last step that each
got, are in DIR/trackers.json:

- TensorBoard drops what it has of steps that are trained again, and gets them once more.
- trackio and wandb take nothing back, so they get each step once: a step is noted before it is sent, and one that was
  trained again stays as it was first.
"""

import json
import logging
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from swe_aem.core.base import Frozen
from swe_aem.errors import UserError
from swe_aem.runlog import tell, without_keys
from swe_aem.store import replace
from swe_aem.train.config import TrainConfig
from swe_aem.train.records import HeldoutResult, StepMetrics

FILE = "trackers.json"
TENSORBOARD = "tensorboard"
"""Folder of the run's directory that holds its event files."""
HELDOUT = "heldout/"
"""What the names of an evaluation's numbers begin with."""

Log = Callable[[Mapping[str, float], int], None]
"""Sends the values of a step."""


class Tracked(Frozen):
    """Content of `trackers.json`."""

    id: str
    """The name of the run in each tracker, or its end."""
    sent: dict[str, int] = {}
    """The last step that each tracker got."""
    heldout: dict[str, int] = {}
    """The step of the last evaluation that each tracker got."""


class Trackers:
    """The trackers of a run, on the process that writes its metrics. Use as a context manager: what was logged is
    written when it ends."""

    def __init__(self, config: TrainConfig, directory: Path, *, done: int) -> None:
        """`done` steps are trained. Raises `UserError` where a tracker cannot begin, with what to do."""
        self._path, self._done = directory / FILE, done
        self._tracked = _read(self._path)
        self._open: dict[str, tuple[AbstractContextManager[Log], Log]] = {}
        if config.report_to:
            self._keep()
        for name in config.report_to or ():
            opening = _OPENERS[name](config, directory, self._tracked.id, done)
            try:
                self._open[name] = opening, opening.__enter__()
            except Exception as error:
                self._close()
                raise UserError(
                    f"{name} cannot begin: {without_keys(str(error))}; {_HINTS[name]}, or leave it out of report_to"
                ) from error

    def __enter__(self) -> "Trackers":
        return self

    def __exit__(self, *exc: object) -> None:
        self._close()

    def log(self, metrics: StepMetrics) -> None:
        """Send a step's line. A tracker that fails is told of and gets nothing more: a run does not end for it."""
        values = dict(numbers(metrics.model_dump(by_alias=True, exclude={"step", "format"})))
        for name, (_, send) in list(self._open.items()):
            if name != TENSORBOARD and metrics.step <= self._tracked.sent.get(name, 0):
                continue
            self._tracked = self._tracked.model_copy(update={"sent": {**self._tracked.sent, name: metrics.step}})
            self._send(name, send, values, metrics.step)

    def log_heldout(self, result: HeldoutResult) -> None:
        """Send the rates of an evaluation on held-out tasks, as `log` does. A resumed run makes some again."""
        values = dict(numbers(result.model_dump(exclude={"format"}), HELDOUT))
        for name, (_, send) in list(self._open.items()):
            dropped = name == TENSORBOARD and result.step > self._done
            if not dropped and result.step <= self._tracked.heldout.get(name, -1):
                continue
            kept = {**self._tracked.heldout, name: result.step}
            self._tracked = self._tracked.model_copy(update={"heldout": kept})
            self._send(name, send, values, result.step)

    def _send(self, name: str, send: Log, values: Mapping[str, float], step: int) -> None:
        self._keep()
        try:
            send(values, step)
        except Exception as error:
            self._end(name, f"failed at step {step} and gets no more of this process", error)

    def _keep(self) -> None:
        replace(self._path, self._tracked.model_dump_json() + "\n")

    def _close(self) -> None:
        for name in list(self._open):
            self._end(name)

    def _end(self, name: str, why: str = "", failed: Exception | None = None) -> None:
        """Close a tracker, which may fail: metrics.jsonl has all that it has."""
        opening, _ = self._open.pop(name)
        try:
            opening.__exit__(None, None, None)
        except Exception as error:
            why, failed = why or "did not end well", failed or error
        if failed is not None:
            said = without_keys(f"{type(failed).__name__}: {failed}")
            tell(f"{name} {why}: {said}; metrics.jsonl has every metric", level=logging.WARNING)


def numbers(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """The numbers of a step's line by name; those inside of an object are called `object/name`."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from numbers(value, f"{prefix}{name}/")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield prefix + name, value


def _read(path: Path) -> Tracked:
    try:
        return Tracked.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return Tracked(id=secrets.token_hex(4))
    except ValidationError as error:
        raise UserError(f"{path} cannot be read ({error.error_count()} errors): delete it to begin new runs") from None


def _plain(config: TrainConfig) -> dict[str, Any]:
    return config.model_dump(mode="json")


@contextmanager
def _tensorboard(config: TrainConfig, directory: Path, id: str, done: int) -> Iterator[Log]:
    from torch.utils.tensorboard import SummaryWriter

    is_new = next((directory / TENSORBOARD).glob("events.out.tfevents.*"), None) is None
    writer = SummaryWriter(str(directory / TENSORBOARD), purge_step=done + 1)

    def log(values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            writer.add_scalar(name, value, step)
        writer.flush()

    try:
        if is_new:  # a run that was killed before its first checkpoint has it already
            writer.add_text("config", f"```json\n{json.dumps(_plain(config), indent=2)}\n```", 0)
            writer.flush()
        yield log
    finally:
        writer.close()


@contextmanager
def _trackio(config: TrainConfig, directory: Path, id: str, done: int) -> Iterator[Log]:
    import trackio

    grpo = config.grpo
    run = trackio.init(
        project=grpo.project or "swe-aem",
        name=_name(config, directory, id),
        space_id=grpo.trackio_space_id,
        bucket_id=grpo.trackio_bucket_id,
        config=_plain(config),
        resume="allow",
        embed=False,
        auto_log_gpu=False,
        auto_log_cpu=False,
    )
    try:
        yield lambda values, step: run.log(dict(values), step=step)
    finally:
        trackio.finish()


@contextmanager
def _wandb(config: TrainConfig, directory: Path, id: str, done: int) -> Iterator[Log]:
    import wandb

    name = _name(config, directory, id)
    run = wandb.init(id=id, name=name, resume="allow", dir=str(directory), config=_plain(config))
    run.define_metric(f"{HELDOUT}*", step_metric=f"{HELDOUT}step")

    def log(values: Mapping[str, float], step: int) -> None:
        # A resumed run begins after the last step that wandb has, and wandb ignores what comes for an earlier one: an
        # evaluation that was killed after its step's metrics.
        run.log(dict(values), step=max(step, run.step))

    try:
        yield log
    finally:
        run.finish()


def _name(config: TrainConfig, directory: Path, id: str) -> str:
    """The name of the run in trackio and wandb. Directories of one name are different runs, and trackio knows
    a run by its name alone."""
    return config.grpo.run_name or f"{directory.resolve().name}-{id}"


_OPENERS: Mapping[str, Callable[[TrainConfig, Path, str, int], AbstractContextManager[Log]]] = {
    TENSORBOARD: _tensorboard,
    "trackio": _trackio,
    "wandb": _wandb,
}
_HINTS: Mapping[str, str] = {
    TENSORBOARD: "install it again",
    "trackio": "log in with `hf auth login` where it has a space",
    "wandb": "log in with `wandb login`, set WANDB_MODE=offline",
}
