"""`Agent`: the loop that turns a policy and a sandbox into a trajectory."""

from contextlib import AbstractContextManager, nullcontext
from typing import Protocol, runtime_checkable

from swe_aem.core.deadline import Deadline
from swe_aem.core.key import TrajectoryKey
from swe_aem.core.policy import AnyPolicy
from swe_aem.core.sandbox import Sandbox, SandboxSpec
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

        In a rollout the clock of `deadline` stands while the policy is waited for: how long a response takes says
        nothing of the policy, and its tokens have limits of their own. Whoever calls this bounds that wait.

        A dead sandbox (`SandboxDead`) ends it with `Stop.SANDBOX_DEAD`, the message in `error`, and everything that was
        sampled: the policy may have killed it, and is trained on that. Lets any other `InfrastructureError` through:
        then there is no trajectory.
        """
        ...


@runtime_checkable
class AgentInside(Protocol):
    """An agent that may run inside of its sandbox, and then needs something of this host there."""

    def sandbox_for(self, spec: SandboxSpec, key: TrajectoryKey) -> AbstractContextManager[SandboxSpec]:
        """What to start for one trajectory instead of `spec`; what it needs is there for the length of the `with`, in
        which `run` plays that trajectory."""
        ...


def sandbox_for(agent: Agent, spec: SandboxSpec, key: TrajectoryKey) -> AbstractContextManager[SandboxSpec]:
    """What to start for a trajectory of an agent, whether it runs inside or not."""
    return agent.sandbox_for(spec, key) if isinstance(agent, AgentInside) else nullcontext(spec)
