"""`chosen_tasks`: the tasks that a configuration names."""

from dataclasses import replace

from swe_aem.core import TaskRecord, TrajectoryKey
from swe_aem.errors import UserError
from swe_aem.rollout.config import RolloutConfig
from swe_aem.rollout.group import block_size
from swe_aem.store import Store
from swe_aem.tasks import TaskSet, apply_lock, load_tasks

GOLD = "gold"
"""The policy that applies each task's gold patch."""
_SHOWN = 3


def chosen_tasks(config: RolloutConfig, loaded: TaskSet | None = None) -> TaskSet:
    """The tasks that the configuration names; for a replay, those among them that the other store can replay whole.
    `loaded` are the ones that it names, where they have been read already.

    Raises `UserError` if the policy is gold and a task has none.
    """
    if config.replay_from is None:
        if loaded is None:
            loaded = load_tasks(
                config.tasks, split=config.split, ids=config.ids, limit=config.limit, family=config.family
            )
        return _with_gold(_locked(loaded, config), config)
    keys = Store(config.replay_from).completed()
    if not keys:
        raise UserError(f"{config.replay_from} holds no trajectories to replay")
    tasks = loaded or load_tasks(config.tasks, split=config.split, ids=config.ids, family=config.family)
    kept = [record for record in tasks if _replayable(record, config, keys)]
    if not kept:
        raise UserError(
            f"{config.replay_from} has no task of {config.tasks} with samples 0 to {block_size(config) - 1}; "
            "name the tasks that it was made from, and no larger group"
        )
    return _locked(replace(tasks, records=tuple(kept[: config.limit])), config)


def _locked(tasks: TaskSet, config: RolloutConfig) -> TaskSet:
    if config.lock is None:
        return tasks
    return apply_lock(tasks, config.lock, config.sandbox.type, config.lock_policy, config.max_passing_mutants)


def _with_gold(tasks: TaskSet, config: RolloutConfig) -> TaskSet:
    """The set, unless a gold patch is asked for that a task does not have: an empty one would look like a failure."""
    without = [record.task.id for record in tasks if not record.key.has_gold] if config.policy == GOLD else []
    if without:
        more = f" and {len(without) - _SHOWN} more" if len(without) > _SHOWN else ""
        raise UserError(
            f"{tasks.name}: {len(without)} of {len(tasks)} tasks have no gold patch (a Harbor task folder has it as "
            f"solution/solve.sh): {', '.join(without[:_SHOWN])}{more}. Choose others, or another agent"
        )
    return tasks


def _replayable(record: TaskRecord, config: RolloutConfig, keys: frozenset[TrajectoryKey]) -> bool:
    return all(TrajectoryKey(record.task.id, sample) in keys for sample in range(block_size(config)))
