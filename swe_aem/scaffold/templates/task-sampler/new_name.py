"""A task sampler: which tasks a step of training rolls out."""

import swe_aem as sa


class NewName(sa.Settings):
    """Tasks that were resolved before are chosen less often than those that never were."""

    again: float = 0.25
    """How often a resolved task is chosen, as a share of another one's chances."""

    def __call__(self, inputs: sa.TaskSamplerInputs) -> list[str]:
        """The ids of `inputs.count` tasks. Draws from `inputs.random` alone, so that a rerun draws the same."""
        resolved = {group.task_id for group in inputs.history if True in group.resolved}
        ids = [record.task.id for record in inputs.tasks]
        chances = [self.again if id in resolved else 1.0 for id in ids]
        return inputs.random.choices(ids, chances, k=inputs.count)
