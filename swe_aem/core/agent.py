"""`Agent`: the loop that turns a policy and a sandbox into a trajectory."""

from typing import Protocol

from swe_aem.core.deadline import Deadline
from swe_aem.core.policy import AnyPolicy
from swe_aem.core.sandbox import Sandbox
from swe_aem.core.task import Task
from swe_aem.core.trajectory import Trajectory


class Agent(Protocol):
    """Solves one task. Sees the `Task` only; the answer key is not within its reach."""

    name: str

    async def run(
        self, task: Task, sandbox: Sandbox, policy: AnyPolicy, *, sample: int, deadline: Deadline
    ) -> Trajectory:
        """Run until the policy submits, a limit ends it, or the sandbox dies; returns a trajectory without patch,
        verdict and outcome.

        A dead sandbox (`SandboxDead`) ends it with `Stop.SANDBOX_DEAD`, the message in `error`, and everything that was
        sampled: the policy may have killed it, and is trained on that. Lets any other `InfrastructureError` through:
        then there is no trajectory.
        """
        ...
