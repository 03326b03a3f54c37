"""A run's directory as a rerun finds it: which run it holds, and whether that has ended. Importable without torch."""

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import yaml

from swe_aem.core.settings import check, read_mapping
from swe_aem.core.used import changed_extensions
from swe_aem.errors import UserError
from swe_aem.extensions import stored_names
from swe_aem.rollout import read_manifest
from swe_aem.rollout.manifest import or_recompute
from swe_aem.runlog import tell
from swe_aem.store import locked, replace
from swe_aem.store.upgrade import require_resumable
from swe_aem.train import checkpoints
from swe_aem.train.config import TrainConfig, differences
from swe_aem.train.records import HELDOUT as HELDOUT_RATES
from swe_aem.train.records import SUMMARY, RunSummary, read_run_summary
from swe_aem.train.used import training_extensions

CONFIG, POLICY, ROLLOUTS, HELDOUT = "config.yaml", "policy", "rollouts", "heldout"
EXTENSIONS = "extensions.json"
"""What the run uses that is not built in, with the version and hash of each (`training_extensions`)."""
_ROLLOUTS_LOCK = ".rollouts.lock"
"""Held by the process that rolls out: it may live a little longer than the one that trains."""
_UNLOCK_S = 300.0
_POLL_S = 0.1
_OF_TRAINER = "grpo."
"""How the settings begin that nothing but the trainer reads."""


def existing_run(config: TrainConfig, directory: Path) -> TrainConfig | None:
    """The configuration of the run that the directory holds, None if it holds none. Raises `UserError` if this one
    cannot resume it."""
    path = directory / CONFIG
    evaluated, trained = _stored(directory, HELDOUT), _has_trained(directory)
    if not path.exists() or not (evaluated or trained):
        return None  # a run that failed on its settings holds nothing
    for store in (directory / ROLLOUTS, *sorted(path for path in (directory / HELDOUT).glob("*") if path.is_dir())):
        if (manifest := read_manifest(store)) is not None:
            require_resumable(manifest.store_format, directory)
    stored = stored_config(directory)
    if read_mapping(path).get("ahead"):
        raise UserError(
            f"{directory} holds a run with `ahead`, whose steps took other groups than those of `max_staleness` do: it "
            "can be read, not resumed. Choose another --out"
        )
    used = training_extensions(config)
    found = differences(stored, config)
    else_remove = ""
    if not trained:  # the trainer may have refused its settings beside the first evaluation
        found = [one for one in found if not one.startswith(_OF_TRAINER)]
        else_remove = ", or remove it: it has nothing but its first evaluation"
    found = found or changed_extensions(recorded_extensions(directory), used)
    if found:
        instead = f"Choose another --out{or_recompute(found, directory)}{else_remove}"
        raise UserError(f"{directory} holds another run: {'; '.join(found)}. {instead}")
    return stored


def _has_trained(directory: Path) -> bool:
    """Does a run hold more than its first evaluation, and perhaps not all of that?"""
    saved = any((directory / checkpoints.DIRECTORY).glob("checkpoint-*"))
    written = any((directory / name).exists() for name in (HELDOUT_RATES, SUMMARY, POLICY))
    return _stored(directory, ROLLOUTS) or saved or written


def _stored(directory: Path, below: str) -> bool:
    """Is a trajectory stored there, paid or not?"""
    return any(part.stat().st_size for part in (directory / below).rglob("trajectories/*.jsonl"))


@contextmanager
def claimed_run(config: TrainConfig, directory: Path) -> Iterator[RunSummary | None]:
    """Lock the directory for the length of a `with`, and write the configuration; gives the summary of a run that has
    ended. Raises `UserError` if another process has it, or another run is there."""
    directory.mkdir(parents=True, exist_ok=True)
    with locked(directory):
        if (done := steps_behind(config, checkpoints.latest(directory / checkpoints.DIRECTORY))) > config.steps:
            raise UserError(
                f"{directory} has trained {done} steps: set steps to {done} or more, or choose another --out"
            )
        yield claim_run_directory(config, directory)


def steps_behind(config: TrainConfig, checkpoint: Path | None) -> int:
    """Steps behind a checkpoint; 0 without one."""
    return checkpoints.update_of(checkpoint) // config.num_minibatches if checkpoint else 0


def claim_run_directory(config: TrainConfig, directory: Path) -> RunSummary | None:
    """Write the configuration; returns the summary of a run under the very same one that has ended. Raises `UserError`
    as `existing_run` does."""
    if (ended := ended_run(config, directory)) is not None:
        return ended
    (directory / SUMMARY).unlink(missing_ok=True)  # of fewer steps: a run that is resumed and killed has not ended
    replace(directory / EXTENSIONS, json.dumps(training_extensions(config), indent=2) + "\n")
    replace(directory / CONFIG, yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))
    return None


def stored_config(directory: Path) -> TrainConfig:
    """The configuration of the run in a directory; what it names need not be installed. Raises `UserError` if it cannot
    be read."""
    path = directory / CONFIG
    values = read_mapping(path)
    if "ahead" in values:
        values["max_staleness"] = values.pop("ahead")
    with stored_names():
        return check(TrainConfig, values, where=str(path))


def ended_run(config: TrainConfig, directory: Path) -> RunSummary | None:
    """The summary of a run under this very configuration that has ended, None if there is none. Raises `UserError` as
    `existing_run` does."""
    if existing_run(config, directory) != config or not (directory / SUMMARY).exists():
        return None
    return read_run_summary(directory) if (directory / POLICY).is_dir() else None


def recorded_extensions(directory: Path) -> dict[str, str] | None:
    """What the run's `extensions.json` says; None if an older version of this package wrote none."""
    path = directory / EXTENSIONS
    if not path.exists():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is not JSON ({error}): choose another --out, or write it again") from None


@contextmanager
def rollouts_claimed(directory: Path) -> Iterator[None]:
    """Be the one that rolls out for the run. The rollouts of a run that was killed have some time to end, which is
    said; raises `UserError` if they do not."""
    until_s = time.monotonic() + _UNLOCK_S
    told = False
    with ExitStack() as held:
        while True:
            try:
                held.enter_context(locked(directory, _ROLLOUTS_LOCK))
                break
            except UserError as busy:
                if time.monotonic() > until_s:
                    raise
                if not told:
                    tell(f"waiting for the rollouts of a run that was killed, which close their sandboxes: {busy}")
                    told = True
            time.sleep(_POLL_S)
        yield
