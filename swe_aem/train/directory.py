"""A run's directory as a rerun finds it: whose it is, and whether it has come to its end. Importable without torch."""

from pathlib import Path

import yaml

from swe_aem.core.base import Frozen
from swe_aem.core.settings import load
from swe_aem.errors import UserError
from swe_aem.store.files import replace
from swe_aem.train.config import TrainConfig, differences
from swe_aem.train.heldout import Heldout

CONFIG, SUMMARY, POLICY = "config.yaml", "summary.json", "policy"
_BEGUN = ("rollouts", "heldout", "checkpoints")


class RunSummary(Frozen):
    """Content of `summary.json`."""

    model: str
    tasks: str
    steps: int
    wall_s: float
    """Of all processes that worked on the run, evaluations included."""
    heldout_before: Heldout | None = None
    heldout_after: Heldout | None = None


def existing_run(config: TrainConfig, directory: Path) -> TrainConfig | None:
    """The configuration of the run that the directory holds, None if it holds none. Raises `UserError` if this one
    cannot go on with it."""
    path = directory / CONFIG
    if not path.exists() or not any((directory / name).exists() for name in _BEGUN):
        return None  # a run that failed on its settings holds nothing
    stored = load(TrainConfig, path)
    if found := differences(stored, config):
        raise UserError(f"{directory} holds another run: {'; '.join(found)}. Choose another --out")
    return stored


def claim_run_directory(config: TrainConfig, directory: Path) -> RunSummary | None:
    """Write the configuration; returns the summary of a run under the very same one that has come to its end. Raises
    `UserError` as `existing_run` does."""
    summary = directory / SUMMARY
    if existing_run(config, directory) == config and summary.exists() and (directory / POLICY).is_dir():
        return RunSummary.model_validate_json(summary.read_text(encoding="utf-8"))
    summary.unlink(missing_ok=True)  # of fewer steps: a run that goes on and is killed has not come to its end
    replace(directory / CONFIG, yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))
    return None
