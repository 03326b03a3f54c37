"""`Difficulty`: the tasks that the policy is expected to resolve about half of the time, by the rates seen so far."""

from collections import defaultdict
from typing import Annotated

from pydantic import ConfigDict, Field

from swe_aem.core.base import Frozen
from swe_aem.train.task_samplers import TaskSamplerInputs


class Difficulty(Frozen):
    """Thompson sampling of tasks whose solve rate is near a target (MoPPS, arXiv 2507.04632).

    A group whose trajectories all resolve their task, or none, has advantages of 0. With binary rewards the variance in
    a group is largest at a solve rate of one half. The rate of each task has a Beta distribution that starts uniform.
    Each step draws once from each, and rolls out the tasks whose draws are nearest to `target`. A task that was never
    rolled out may draw anything, so all get their turn. Where MoPPS forgets at each observation of a task, what was
    seen counts less here with each step of training since.
    """

    model_config = ConfigDict(use_attribute_docstrings=True)

    target: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """Solve rate that is looked for, between 0 and 1."""
    half_life_steps: Annotated[float, Field(gt=0)] = 10.0
    """Steps after which what was seen counts half."""

    def __call__(self, inputs: TaskSamplerInputs) -> list[str]:
        """The tasks whose draws are nearest to the target; broken tasks are left out as long as there are others."""
        solved: defaultdict[str, float] = defaultdict(float)
        failed: defaultdict[str, float] = defaultdict(float)
        for group in inputs.history:
            weight = 0.5 ** ((inputs.step - group.step) / self.half_life_steps)
            solved[group.task_id] += weight * group.resolved.count(True)
            failed[group.task_id] += weight * group.resolved.count(False)
        broken = {group.task_id for group in inputs.history if group.broken}
        ids = [record.task.id for record in inputs.tasks]
        ids = [id for id in ids if id not in broken] or ids
        distance = {id: abs(inputs.random.betavariate(1 + solved[id], 1 + failed[id]) - self.target) for id in ids}
        ranked = sorted(ids, key=distance.__getitem__)
        return [ranked[place % len(ranked)] for place in range(inputs.count)]
