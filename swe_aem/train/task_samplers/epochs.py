"""`epochs`: every task once, then every task again."""

import random

from swe_aem.train.task_samplers import TaskSamplerInputs


def epochs(inputs: TaskSamplerInputs) -> list[str]:
    """All tasks in a random order, then all again in another one, and so on, whatever came of them."""
    ids = [record.task.id for record in inputs.tasks]
    first = (inputs.step - 1) * inputs.count
    chosen = []
    for place in range(first, first + inputs.count):
        epoch, index = divmod(place, len(ids))
        chosen.append(ids[_order(len(ids), epoch, inputs.seed)[index]])
    return chosen


def _order(count: int, epoch: int, seed: int) -> list[int]:
    return random.Random(f"{seed} {epoch}").sample(range(count), count)
