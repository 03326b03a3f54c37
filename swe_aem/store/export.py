"""A store in the formats of others."""

from swe_aem.core import Outcome
from swe_aem.store.store import Store

Prediction = dict[str, str]


def predictions(store: Store, sample: int, model_name: str | None = None) -> tuple[dict[str, Prediction], int]:
    """Predictions as the official SWE-bench harness reads them, by task id, and the number of tasks left out.

    A task is left out if it has no such sample, or if that has no patch for a reason of ours.
    """
    found: dict[str, Prediction] = {}
    entries = store.index()
    for (task_id, number), entry in entries.items():
        if number != sample or entry.outcome is Outcome.INFRASTRUCTURE:
            continue
        trajectory = store.load(entry)
        found[task_id] = {
            "model_name_or_path": model_name or trajectory.model or trajectory.agent,
            "instance_id": task_id,
            "model_patch": trajectory.patch,
        }
    return found, len({task_id for task_id, _ in entries}) - len(found)
