"""`RolloutComponents`: the agent, policies, grader and workspace hooks of a rollout, and how to open them.

They are handed to the run, so that tests can replace each of them.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from swe_aem.agent import (
    NATIVE,
    NativeAgent,
    NativeConfig,
    TurnRenderer,
    is_own_agent,
    own_agent,
    tools_of_own_agent,
)
from swe_aem.core import Agent, Sandbox, SandboxBackend, TaskRecord, Trajectory, TrajectoryKey
from swe_aem.grading import CapturedWork, GivenTree, Grader, capture_work, prepare_for_agent
from swe_aem.harness import open_harness, read_harness_spec
from swe_aem.models import require_fit
from swe_aem.policy import (
    PolicyFactory,
    ScriptTools,
    check_policy,
    is_own_policy,
    load_tokenizer,
    open_policy_factory,
    takes_messages,
)
from swe_aem.rollout.config import RolloutConfig
from swe_aem.rollout.store_tokenizer import require_token_ids, require_tokenizer
from swe_aem.sandbox.warden import warden_binary
from swe_aem.store import Store
from swe_aem.tasks import TaskSet

_UNLIMITED = 1 << 40


@dataclass(frozen=True, kw_only=True)
class GradingComponents:
    """Everything that does the work of grading, and of finding out whose failure something was."""

    grader: Callable[[SandboxBackend], AbstractAsyncContextManager[Grader]]
    """Makes the grader, whose sandboxes come from the given backend."""
    prepare: Callable[[Sandbox, TaskRecord], Awaitable[GivenTree]]
    """(sandbox, record) -> the tree that is given, once it is the task's start and nothing gives the solution away."""
    capture: Callable[[Sandbox, str, GivenTree], Awaitable[CapturedWork]]
    """(sandbox, workdir, given tree) -> what the agent did; comparing it with what was given is a part of grading."""
    workspace: Callable[[str], Path | None]
    """Task id -> host directory with its working tree, None if the image holds it. Called in a thread."""


@dataclass(frozen=True, kw_only=True)
class RolloutComponents(GradingComponents):
    """Everything that does the work of a rollout."""

    agent: Agent
    policies: PolicyFactory
    """The policy for one sample of a task; may be the same object for all."""


@asynccontextmanager
async def open_components(config: RolloutConfig, tasks: TaskSet) -> AsyncIterator[RolloutComponents]:
    """The components that a configuration names, with its policies open.

    Raises `UserError` for what does not fit together or is not there.
    """
    check_policy(config.policy)  # before the tokenizer that would be looked for beside it
    renderer = turn_renderer(config)
    stored = None
    if config.replay_from is not None:
        require_tokenizer(config.replay_from, config.tokenizer_path)
        stored = StoredTrajectories(Store(config.replay_from))
    async with (
        open_policy_factory(
            config.policy, renderer, tools=script_tools(config), replay_from=stored, at_once=config.at_once.concurrency
        ) as policies,
        open_agents(config, renderer) as agents,
    ):
        yield components_of(agents(config), tasks, policies, lambda gate: Grader(gate, twins=config.twins))


@asynccontextmanager
async def open_agents(
    config: RolloutConfig, renderer: TurnRenderer | None
) -> AsyncIterator[Callable[[RolloutConfig], Agent]]:
    """What makes the agents of a configuration, and of others that differ from it in limits and sampling only. Policies
    that take token ids need the renderer."""
    if config.agent_name == NATIVE:
        yield lambda config: NativeAgent(_limits(config), renderer)
        return
    if is_own_agent(config.agent_name):
        yield lambda config: own_agent(config.agent, _limits(config), renderer)
        return
    spec = read_harness_spec(config.agent_name)
    forwarder = warden_binary() if spec.inside else None
    async with open_harness(spec, config.harness, renderer, forwarder=forwarder) as harness:
        yield lambda config: harness(_limits(config))


def components_of(
    agent: Agent, tasks: TaskSet, policies: PolicyFactory, grader: Callable[[SandboxBackend], Grader]
) -> RolloutComponents:
    """The components of an agent with its policies, over the repositories of a task set."""
    return RolloutComponents(
        agent=agent,
        policies=policies,
        grader=grader,
        prepare=prepare_for_agent,
        capture=capture_work,
        workspace=tasks.workspace,
    )


def grading_components(
    tasks: TaskSet, grader: Callable[[SandboxBackend], AbstractAsyncContextManager[Grader]]
) -> GradingComponents:
    """What grades patches over the repositories of a task set."""
    return GradingComponents(grader=grader, prepare=prepare_for_agent, capture=capture_work, workspace=tasks.workspace)


def turn_renderer(config: RolloutConfig) -> TurnRenderer | None:
    """The renderer of a configuration, over its tokenizer; None where the policy takes messages."""
    if takes_messages(config.policy):
        return None
    return TurnRenderer(load_tokenizer(config.tokenizer_path), config.renderer)


def require_fitting_model(config: RolloutConfig) -> None:
    """Raise `UserError` if the files of the model whose tokenizer a configuration names do not fit its chat format; a
    second's look. Nothing is done without such files on this host."""
    path = config.tokenizer_path
    if path is not None and Path(path).exists() and (renderer := turn_renderer(config)) is not None:
        require_fit(renderer)


class StoredTrajectories(Mapping[TrajectoryKey, Trajectory]):
    """The trajectories of a store, each read when it is asked for. Raises `UserError` for one without token ids."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._rows = store.index()

    def __getitem__(self, key: TrajectoryKey) -> Trajectory:
        trajectory = self._store.load(self._rows[key])
        require_token_ids(self._store.directory, trajectory)
        return trajectory

    def __iter__(self) -> Iterator[TrajectoryKey]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)


def _limits(config: RolloutConfig) -> NativeConfig:
    """Limits and sampling. The byte tokenizer makes a long context, and a chat API has a limit of its own: there is no
    other unless one is asked for."""
    if config.tokenizer_path is not None or "max_context_tokens" in config.native.model_fields_set:
        return config.native
    return config.native.model_copy(update={"max_context_tokens": _UNLIMITED})


def script_tools(config: RolloutConfig) -> ScriptTools | None:
    """The agent's tools that a script acts through; None for the native agent, whose tools scripts know, and where the
    policy is no script."""
    name = config.agent_name
    if name == NATIVE or not (config.scripted or is_own_policy(config.policy_name)):
        return None
    if is_own_agent(name):
        return tools_of_own_agent(config.agent)
    spec = read_harness_spec(name)
    return ScriptTools(shell=spec.shell, finish=next(iter(spec.finish.items()), None), command=spec.command)
