"""A store in formats that other programs read."""

from swe_aem.core import OUTCOME_TABLE, Outcome
from swe_aem.store.store import Store

Prediction = dict[str, str]


def predictions(store: Store, sample: int, model_name: str | None = None) -> tuple[dict[str, Prediction], int]:
    """Predictions as the official SWE-bench harness reads them, by task id, and the number of tasks left out.

    A task is left out if it has no such sample, or if that sample has no patch that says something of the policy: it is
    an infrastructure failure before the patch, or the task is broken.
    """
    found: dict[str, Prediction] = {}
    rows = store.index()
    for (task_id, number), row in rows.items():
        if number != sample or not (OUTCOME_TABLE[row.outcome].in_baseline or row.outcome is Outcome.GRADER_FAILURE):
            continue
        trajectory = store.load(row)
        found[task_id] = {
            "model_name_or_path": model_name or trajectory.model or trajectory.agent,
            "instance_id": task_id,
            "model_patch": trajectory.patch,
        }
    return found, len({task_id for task_id, _ in rows}) - len(found)
