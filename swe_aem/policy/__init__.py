"""The policy room: token ids in, sampled ids and log-probabilities out.

`open_policy_factory` is the way in. A kind of policy is one file here and one branch of `_open_shared` (it samples) or
`_scripted_factory` (it plays a script). Nothing heavy is imported before a policy is opened.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from swe_aem.core import Policy, TaskRecord, Trajectory
from swe_aem.errors import UserError
from swe_aem.policy.errors import ContextOverflow

if TYPE_CHECKING:
    from swe_aem.policy.scripted import AssistantRenderer, Hands

__all__ = ["AGENTS", "HARNESS_SCRIPTS", "ContextOverflow", "PolicyFactory", "open_policy_factory"]

PolicyFactory = Callable[[TaskRecord, int], Policy]
"""(record, sample) to the policy of one attempt; call it anew for every attempt. A shared policy is always the same."""

AGENTS = ("gold", "noop", "demo", "hasty", "replay", "native")
"""What `--agent` takes besides harnesses: five scripts, and the native agent with a sampling policy."""

HARNESS_SCRIPTS = ("gold", "noop")
"""Scripts that can be a harness's policy."""


@asynccontextmanager
async def open_policy_factory(
    agent: str,
    policy: str | None,
    renderer: "AssistantRenderer",
    *,
    replay_from: Mapping[str, Trajectory] | None = None,
    hands: "Hands | None" = None,
) -> AsyncIterator[PolicyFactory]:
    """The policies of a run, open for the length of an `async with`.

    `policy` is for `native` and harnesses: the URL of a server, or several with commas between them, or the directory
    of a model; for a harness, whose tools are described by `hands`, also the name of a script. `replay_from` is for
    `replay` only: stored trajectories by their `id`. Raises `UserError` if they do not fit, or the server or model
    cannot be used.
    """
    if hands is None and agent not in AGENTS:
        raise UserError(f"unknown agent {agent!r}; known: {', '.join(AGENTS)}")
    samples = hands is not None or agent == "native"
    if samples != (policy is not None):
        raise UserError(
            f"the agent {agent} needs a policy: the URL of a completions server or the directory of a model"
            if policy is None
            else f"the agent {agent!r} is a script and takes no policy; leave the policy out or use the agent 'native'"
        )
    if policy is not None and (hands is None or policy not in HARNESS_SCRIPTS):
        async with _open_shared(policy) as shared:
            yield lambda record, sample: shared
        return
    if agent == "replay" and replay_from is None:
        raise UserError("the agent 'replay' needs the directory of a run whose trajectories it repeats")
    yield _scripted_factory(policy or agent, renderer, replay_from or {}, hands)


def _open_shared(policy: str) -> AbstractAsyncContextManager[Policy]:
    if policy.startswith(("http://", "https://")):
        from swe_aem.policy.vllm import open_served

        return open_served(policy)
    if Path(policy).is_dir():
        from swe_aem.policy.transformers import open_transformers

        return open_transformers(Path(policy))
    raise UserError(f"{policy}: neither a URL (http://host:port) nor a directory with a model")


def _scripted_factory(
    script: str, renderer: "AssistantRenderer", replay_from: Mapping[str, Trajectory], hands: "Hands | None"
) -> PolicyFactory:
    from swe_aem.policy import scripted

    def make(record: TaskRecord, sample: int) -> Policy:
        if script == "gold":
            return scripted.gold(record, renderer, hands)
        if script == "noop":
            return scripted.noop(renderer, hands)
        if script in ("demo", "hasty"):
            from swe_aem.policy.demonstrator import HASTY_LOOKS, demonstrator

            return demonstrator(record, renderer, looks=1.0 if script == "demo" else HASTY_LOOKS)
        trajectory = replay_from.get(f"{record.task.id}.{sample}")
        if trajectory is None:
            raise UserError(f"the run to replay has no trajectory {record.task.id}.{sample}")
        return scripted.replay(trajectory, renderer)

    return make
