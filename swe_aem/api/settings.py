"""Keyword arguments as the settings of a rollout, checked as those of a file are."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from swe_aem.api.sandboxes import SandboxSetting, sandbox_settings
from swe_aem.core import TaskRecord
from swe_aem.core.settings import load
from swe_aem.errors import UserError
from swe_aem.rollout import RolloutConfig, chosen_tasks
from swe_aem.tasks import TaskSet, load_tasks

_CHOSEN_BEFORE = ("tasks", "split", "ids", "limit", "family")
"""Settings that say which tasks; here they come with the tasks."""


def rollout_settings(
    tasks: TaskSet | Iterable[TaskRecord] | str | Path,
    sandbox: SandboxSetting,
    given: Mapping[str, Any],
) -> tuple[RolloutConfig, TaskSet]:
    """The configuration of a rollout of these tasks, and the tasks that it chooses among them. Settings that are None
    keep their defaults.

    Raises `UserError` for a setting that does not exist or does not fit, and for tasks that are not of one set.
    """
    if given.keys() & set(_CHOSEN_BEFORE):
        name = next(name for name in _CHOSEN_BEFORE if name in given)
        raise UserError(f"{name} is an argument of load_tasks: choose the tasks with it, and hand them over")
    chosen = load_tasks(tasks) if isinstance(tasks, str | Path) else TaskSet.of(tasks)
    source = {
        "tasks": chosen.name,
        "split": chosen.split,
        "ids": chosen.ids,
        "limit": chosen.limit,
        "family": chosen.family,
    }
    settings = {name: value for name, value in given.items() if value is not None}
    config = load(RolloutConfig, options={**source, **sandbox_settings(sandbox), **settings})
    return config, chosen_tasks(config, chosen)


def dotted(given: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Settings by dotted name, so that a section that is given in part leaves the rest of it as it is."""
    found: dict[str, Any] = {}
    for name, value in given.items():
        found |= dotted(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: value}
    return found
