"""Policies by name: the scripts, and what a URL or a directory stands for.

A script is one row of `SCRIPTS`. Nothing heavy is imported before a policy is opened.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from swe_aem.core import Policy, TaskRecord, Trajectory, TrajectoryKey
from swe_aem.errors import UserError
from swe_aem.policy.demonstrator import HASTY_LOOKS, demonstrator
from swe_aem.policy.scripted import AssistantRenderer, ScriptTools, gold, noop, replay
from swe_aem.suggest import did_you_mean

PolicyFactory = Callable[[TaskRecord, int], Policy]
"""(record, sample) to the policy of one attempt; call it again for every attempt. A served or loaded policy is shared:
it is the same for all."""


@dataclass(frozen=True)
class ScriptContext:
    """The inputs from which scripts are made."""

    renderer: AssistantRenderer
    tools: ScriptTools | None = None
    """The tools of a harness; None for those of the native agent."""
    replay_from: Mapping[TrajectoryKey, Trajectory] = field(default_factory=dict)
    """Stored trajectories, for `replay`."""


@dataclass(frozen=True)
class PolicyScript:
    """A policy that plays a fixed list of responses."""

    summary: str
    """What the script does, for help texts."""
    make: Callable[[ScriptContext, TaskRecord, int], Policy]
    for_harnesses: bool = False
    """True if it can act through a harness's tools too."""
    listed: bool = True
    """True if help and errors offer it. Scripts that only make demonstrations for the quickstart are not offered."""


def _gold(context: ScriptContext, record: TaskRecord, sample: int) -> Policy:
    return gold(record, context.renderer, context.tools)


def _noop(context: ScriptContext, record: TaskRecord, sample: int) -> Policy:
    return noop(context.renderer, context.tools)


def _demo(context: ScriptContext, record: TaskRecord, sample: int) -> Policy:
    return demonstrator(record, context.renderer)


def _hasty(context: ScriptContext, record: TaskRecord, sample: int) -> Policy:
    return demonstrator(record, context.renderer, name="hasty", looks=HASTY_LOOKS)


def _replay(context: ScriptContext, record: TaskRecord, sample: int) -> Policy:
    key = TrajectoryKey(record.task.id, sample)
    trajectory = context.replay_from.get(key)
    if trajectory is None:
        raise UserError(f"the store to replay has no trajectory {key}")
    return replay(trajectory, context.renderer)


SCRIPTS: Mapping[str, PolicyScript] = {
    "gold": PolicyScript("applies the gold patch", _gold, for_harnesses=True),
    "noop": PolicyScript("submits nothing", _noop, for_harnesses=True),
    "replay": PolicyScript("repeats the actions of a store", _replay),
    "demo": PolicyScript("shows a small policy how tasks/nano are solved", _demo, listed=False),
    "hasty": PolicyScript("the same, mostly without looking first", _hasty, listed=False),
}
"""The policies that have a name."""


def listed_scripts(*, for_harnesses: bool = False) -> tuple[str, ...]:
    """Names that help and errors offer."""
    return tuple(name for name, one in SCRIPTS.items() if one.listed and (one.for_harnesses or not for_harnesses))


def check_policy(policy: str) -> None:
    """Raises `UserError` if `policy` is neither the name of a script nor a URL nor a directory."""
    if policy in SCRIPTS or _is_url(policy) or Path(policy).is_dir():
        return
    raise UserError(
        f"no policy {policy}{did_you_mean(policy, SCRIPTS)}; give {', '.join(listed_scripts())}, the URL of a server "
        "(http://host:port), or the directory of a model"
    )


@asynccontextmanager
async def open_policy_factory(
    policy: str,
    renderer: AssistantRenderer,
    *,
    tools: ScriptTools | None = None,
    replay_from: Mapping[TrajectoryKey, Trajectory] | None = None,
) -> AsyncIterator[PolicyFactory]:
    """The policies of a run, open for the length of an `async with`.

    `policy` is the name of a script, the URL of a server, or several with commas between them, or the directory of a
    model. Scripts act through `tools` if the agent is a harness. `replay` repeats the trajectories of `replay_from`.
    Raises `UserError` if there is no such policy, it does not fit, or the server or model cannot be used.
    """
    check_policy(policy)
    script = SCRIPTS.get(policy)
    if script is None:
        async with _open_shared(policy) as shared:
            yield lambda record, sample: shared
        return
    if tools is not None and not script.for_harnesses:
        raise UserError(f"the policy {policy} acts through the native agent's tools; use it with the agent native")
    if policy == "replay" and replay_from is None:
        raise UserError("the policy replay needs the directory of a store whose trajectories it repeats")
    context = ScriptContext(renderer, tools, replay_from or {})
    yield lambda record, sample: script.make(context, record, sample)


def _open_shared(policy: str) -> AbstractAsyncContextManager[Policy]:
    if _is_url(policy):
        from swe_aem.policy.vllm import open_served

        return open_served(policy)
    from swe_aem.policy.transformers import open_transformers

    return open_transformers(Path(policy))


def _is_url(policy: str) -> bool:
    return policy.startswith(("http://", "https://"))
