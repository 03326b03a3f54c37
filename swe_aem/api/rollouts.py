"""`rollout` and `rollout_async`: an agent on tasks, its patches graded, its trajectories stored."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from swe_aem.agent import AGENTS
from swe_aem.api.sandboxes import SandboxSetting
from swe_aem.api.settings import rollout_settings
from swe_aem.api.waiting import wait_for
from swe_aem.core import TaskRecord
from swe_aem.fleet import roller_for
from swe_aem.policy import POLICIES
from swe_aem.reward import RewardLike, setting_of
from swe_aem.rollout import RolloutConfig, RolloutResult, default_directory, roll_out
from swe_aem.tasks import TaskSet


def rollout(
    tasks: TaskSet | Iterable[TaskRecord] | str | Path,
    *,
    agent: Any = None,
    policy: Any = None,
    sandbox: SandboxSetting = "bubblewrap",
    group_size: int = 1,
    reward: RewardLike = "resolved",
    out: Path | str | None = None,
    **settings: Any,
) -> RolloutResult:
    """Run an agent on tasks, each trajectory in a sandbox of its own; grade the patches; store the trajectories.

    Trajectories that the store has are not rolled out again: the same call resumes what was interrupted or killed.
    Works in a notebook. A `KeyboardInterrupt` ends the run: sandboxes are closed before it is raised, and finished
    trajectories are kept.

    Args:
        tasks: what `load_tasks` returns, some tasks of it, or its `source`.
        agent: `native`, `openhands`, `mini-swe-agent`, the .py file of a harness, or an agent of your own: `async def
            converse(conversation)`, a `Settings` class with such a method, or the name of one. `gold`, `noop` and
            `replay` are short for the native agent with that policy.
        policy: URL of a completions server that takes token ids, path of a model to run in this process, a chat API to
            evaluate, `{"type": "chat", "url": URL, "model": NAME}`, `gold` (the default), `noop`, `replay`, or a policy
            of your own: its class, an instance of its `Settings` class, or its name.
        sandbox: `Bubblewrap(...)`, `Docker(...)`, `Podman(...)`, the name of one, or a sandbox of your own.
        group_size: G, trajectories per task; a later call may raise it.
        reward: a function `(trajectory, verdict) -> float`, 0 or more, or one number per response; the name of one
            (`resolved`, `fraction`, `graded`, `turn_cost`, `format`, `file.py:function`), or several named terms with
            weights: `{"tests": "fraction", "mine": {"type": my_function, "weight": 0.1}}`.
        out: directory of the store, by default `runs/TASKS-AGENT-SANDBOX`.
        settings: every other setting of a rollout, e.g. `tokenizer=DIR`, `time_limit_s=600`,
            `scheduling={"concurrency": 16}`, `native={"max_turns": 50}` or `budget={"usd": 20}`; `swe-aem rollout
            --help` names them.

    Returns:
        `.trajectories()`, an iterator over the store's N x G `Trajectory`s (N tasks); `.summary`, their numbers;
        `.directory`, the store.

    Raises:
        errors.UserError: a setting, the tasks or the store does not fit; the message says what to change.
        errors.RunAborted: too many attempts in a row failed on infrastructure; the same call resumes.
        errors.ExtensionFailed: the reward function, an agent or a policy of your own raised, which `__cause__` is, or
            the reward is none. What was rolled out is kept.
        errors.InfrastructureError: the sandboxes' backend cannot be used.
    """
    config, chosen, directory = _resolved(tasks, sandbox, out, settings | _named(agent, policy, group_size, reward))
    work = roll_out(config, chosen, directory, elsewhere=roller_for(config))
    return wait_for(work, interrupted=f"{directory} keeps what was finished; the same call resumes")


async def rollout_async(
    tasks: TaskSet | Iterable[TaskRecord] | str | Path,
    *,
    agent: Any = None,
    policy: Any = None,
    sandbox: SandboxSetting = "bubblewrap",
    group_size: int = 1,
    reward: RewardLike = "resolved",
    out: Path | str | None = None,
    **settings: Any,
) -> RolloutResult:
    """`rollout` on the running event loop. A task that is cancelled closes its sandboxes before it ends."""
    config, chosen, directory = _resolved(tasks, sandbox, out, settings | _named(agent, policy, group_size, reward))
    return await roll_out(config, chosen, directory, elsewhere=roller_for(config))


def _named(agent: Any, policy: Any, group_size: int, reward: RewardLike) -> dict[str, Any]:
    return {
        "agent": None if agent is None else AGENTS.setting_of(agent),
        "policy": None if policy is None else POLICIES.setting_of(policy),
        "group_size": group_size,
        "reward": setting_of(reward),
    }


def _resolved(
    tasks: TaskSet | Iterable[TaskRecord] | str | Path,
    sandbox: SandboxSetting,
    out: Path | str | None,
    given: dict[str, Any],
) -> tuple[RolloutConfig, TaskSet, Path]:
    """Configuration, tasks and directory of a call."""
    config, chosen = rollout_settings(tasks, sandbox, given)
    return config, chosen, default_directory(config) if out is None else Path(out)
