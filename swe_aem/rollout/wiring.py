"""From a configuration to the tasks and the crew that it names, out of the other rooms."""

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace

from swe_aem.agent import NativeAgent, NativeConfig, TurnRenderer
from swe_aem.core import Agent, SandboxBackend, TaskRecord, Trajectory, TrajectoryKey
from swe_aem.errors import UserError
from swe_aem.grading import Grader, capture_patch, prepare_for_agent
from swe_aem.harness import is_harness, read_harness_spec
from swe_aem.harness.agent import open_harness
from swe_aem.policy import PolicyFactory, check_policy, open_policy_factory
from swe_aem.policy.scripted import ScriptTools
from swe_aem.policy.tokenizer import BYTE_TOKENIZER_NAME, Tokenizer, load_tokenizer
from swe_aem.rollout.config import RolloutConfig
from swe_aem.rollout.crew import Crew
from swe_aem.store import Store
from swe_aem.tasks import TaskSet, load_tasks
from swe_aem.tasks.lock import apply_lock

_UNLIMITED = 1 << 40


@asynccontextmanager
async def open_crew(config: RolloutConfig, tasks: TaskSet) -> AsyncIterator[Crew]:
    """The crew of a configuration, with its policies open; raises `UserError` for what does not fit or is not there."""
    check_policy(config.policy)  # before the tokenizer that would be looked for beside it
    renderer = turn_renderer(config)
    stored = StoredTrajectories(Store(config.replay_from)) if config.replay_from else None
    async with (
        open_policy_factory(config.policy, renderer, tools=script_tools(config), replay_from=stored) as policies,
        open_agents(config, renderer) as agents,
    ):
        yield crew_of(agents(config), tasks, policies, Grader)


@asynccontextmanager
async def open_agents(config: RolloutConfig, renderer: TurnRenderer) -> AsyncIterator[Callable[[RolloutConfig], Agent]]:
    """What makes the agents of a configuration, and of others that differ from it in limits and sampling only."""
    if not is_harness(config.agent):
        yield lambda config: NativeAgent(_limits(config), renderer)
        return
    async with open_harness(read_harness_spec(config.agent), config.harness, renderer) as harness:
        yield lambda config: harness(_limits(config))


def crew_of(agent: Agent, tasks: TaskSet, policies: PolicyFactory, grader: Callable[[SandboxBackend], Grader]) -> Crew:
    """This agent with these policies, and the grading room."""
    return Crew(
        agent=agent,
        policies=policies,
        grader=grader,
        prepare=prepare_for_agent,
        capture=capture_patch,
        workspace=tasks.workspace,
    )


def turn_renderer(config: RolloutConfig) -> TurnRenderer:
    """The renderer of a configuration, over its tokenizer."""
    return TurnRenderer(_tokenizer(config), config.renderer)


def chosen_tasks(config: RolloutConfig) -> TaskSet:
    """The tasks that the configuration names; for a replay, those among them that the other store can replay whole."""
    if config.replay_from is None:
        return _locked(load_tasks(config.tasks, split=config.split, ids=config.ids, limit=config.limit), config)
    keys = Store(config.replay_from).completed()
    if not keys:
        raise UserError(f"{config.replay_from} holds no trajectories to replay")
    tasks = load_tasks(config.tasks, split=config.split, ids=config.ids)
    kept = [record for record in tasks if _replayable(record, config, keys)]
    if not kept:
        raise UserError(
            f"{config.replay_from} has no task of {config.tasks} with samples 0 to {_samples(config) - 1}; "
            "name the tasks that it was made from, and no larger group"
        )
    return _locked(replace(tasks, records=tuple(kept[: config.limit])), config)


def _locked(tasks: TaskSet, config: RolloutConfig) -> TaskSet:
    return tasks if config.lock is None else apply_lock(tasks, config.lock, config.sandbox, config.lock_policy)


class StoredTrajectories(Mapping[TrajectoryKey, Trajectory]):
    """The trajectories of a store, each read when it is asked for."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._entries = store.index()

    def __getitem__(self, key: TrajectoryKey) -> Trajectory:
        return self._store.load(self._entries[key])

    def __iter__(self) -> Iterator[TrajectoryKey]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


def _replayable(record: TaskRecord, config: RolloutConfig, keys: frozenset[TrajectoryKey]) -> bool:
    return all(TrajectoryKey(record.task.id, sample) in keys for sample in range(_samples(config)))


def _samples(config: RolloutConfig) -> int:
    return config.group_size + config.oversample


def _tokenizer(config: RolloutConfig) -> Tokenizer:
    name = config.tokenizer or (None if config.scripted else config.policy) or BYTE_TOKENIZER_NAME
    return load_tokenizer(None if name == BYTE_TOKENIZER_NAME else name)


def _limits(config: RolloutConfig) -> NativeConfig:
    """Limits and sampling. For a script the byte tokenizer makes a long context: no limit unless one is asked for."""
    if not config.scripted or "max_context_tokens" in config.native.model_fields_set:
        return config.native
    return config.native.model_copy(update={"max_context_tokens": _UNLIMITED})


def script_tools(config: RolloutConfig) -> ScriptTools | None:
    """The harness's tools that a script acts through; None for the native agent, whose tools scripts know."""
    if not is_harness(config.agent):
        return None
    recipe = read_harness_spec(config.agent)
    ((tool, arguments),) = recipe.finish.items()
    return ScriptTools(shell=recipe.shell, finish=(tool, arguments))
