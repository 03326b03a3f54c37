"""`Agent`: the loop that turns a policy and a sandbox into a trajectory."""

from typing import Protocol

from swe_aem.core.deadline import Deadline
from swe_aem.core.policy import Policy
from swe_aem.core.sandbox import Sandbox
from swe_aem.core.task import Task
from swe_aem.core.trajectory import Trajectory


class Agent(Protocol):
    """Solves one task. Sees the `Task` only; the answer key is not within its reach."""

    name: str

    async def run(self, task: Task, sandbox: Sandbox, policy: Policy, *, sample: int, deadline: Deadline) -> Trajectory:
        """Run until the policy submits or a limit ends it; returns a trajectory without patch, verdict and outcome.

        Lets `InfrastructureError` through: then there is no trajectory.
        """
        ...
