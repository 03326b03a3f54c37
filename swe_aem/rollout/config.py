"""`RolloutConfig`: every setting of a rollout, and which of them may differ when a store is resumed.

A field's docstring is also its `--help` text.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field, field_validator, model_validator

from swe_aem.agent import AGENTS, NATIVE, NativeConfig, RendererConfig, TurnLimits
from swe_aem.core import Limits
from swe_aem.core.base import Frozen
from swe_aem.core.settings import as_before, changed
from swe_aem.errors import UserError
from swe_aem.harness import BUNDLED, HarnessConfig, is_harness
from swe_aem.policy import (
    BYTE_TOKENIZER_NAME,
    COMPLETIONS,
    POLICIES,
    SCRIPTS,
    check_policy,
    is_own_policy,
    is_server,
    listed_scripts,
    names_chat_api,
    policy_setting,
)
from swe_aem.reward import RewardSetting
from swe_aem.rollout.at_once import AtOnce, this_host
from swe_aem.rollout.cluster_config import ClusterConfig
from swe_aem.sandbox.config import SandboxConfig
from swe_aem.suggest import did_you_mean
from swe_aem.tasks import FAMILIES, LockPolicy


class _NamedBy:
    """Marks a mapping that a plain name is short for."""

    NAME_KEY = POLICIES.key


_Count = Annotated[int, Field(ge=1)]
_Seconds = Annotated[float, Field(gt=0)]


class SchedulingConfig(Frozen):
    """Concurrency, retries and time limits of a rollout's stages. They may differ when a store is resumed."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    concurrency: _Count | None = None
    """Agent sandboxes that exist at once. If not given: what memory, processors and disk of the host carry."""
    starting: _Count | None = None
    """Sandboxes that start at once, those for grading included. If not given: by the host's processors."""
    grading: _Count | None = None
    """Evaluation scripts that run at once. If not given: by the host's processors and memory."""
    max_attempts: _Count = 3
    """Most attempts per trajectory: an infrastructure failure is tried again. Grading has as many of its own, which do
    not repeat the agent's work."""
    backoff_s: Annotated[float, Field(ge=0)] = 2.0
    """Seconds to wait before the second attempt; doubled for each further attempt."""
    start_limit_s: _Seconds = 300.0
    """Seconds that a sandbox may take to start."""
    setup_limit_s: _Seconds = 360.0
    """Seconds to prepare the repository and its history, and as many to capture the patch."""
    grade_extra_s: _Seconds = 180.0
    """Seconds that grading may take beyond the time limit of the evaluation script."""
    grade_queue_limit_s: _Seconds = 7200.0
    """Seconds that a finished trajectory may wait for a grading slot."""
    guard_s: _Seconds = 60.0
    """Seconds after its time limit at which an agent that has not returned is cancelled."""
    drain_limit_s: _Seconds = 900.0
    """Seconds that running trajectories may take to finish after the first Ctrl-C."""
    max_consecutive_failures: Annotated[int, Field(ge=1)] | None = None
    """Infrastructure failures in a row, over all trajectories, that stop the run. If not given: 3 times the
    concurrency, at least 12."""
    max_failure_rate: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Share of trajectories without a verdict above which the command exits with code 1."""

    @property
    def given_at_once(self) -> dict[str, int]:
        """What is given of the fields of `AtOnce`, by name."""
        values = {"concurrency": self.concurrency, "starting": self.starting, "grading": self.grading}
        return {name: value for name, value in values.items() if value is not None}


class BudgetConfig(Frozen):
    """What a run may use, over all processes that fill its store. It may differ when the store is resumed."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    tokens: _Count | None = None
    """Prompt and sampled tokens of all requests, as an API bills them: a prompt counts at each turn. When they are used
    up the run ends, and a rerun with more resumes it."""
    usd: Annotated[float, Field(gt=0)] | None = None
    """US dollars, for a policy whose responses have a cost. When they are used up the run ends, and a rerun with more
    resumes it."""


class RolloutConfig(Frozen):
    """Every setting of a rollout."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    tasks: str = "tasks/micro"
    """Task set: a bundled one, a .jsonl, .json or .parquet file, or the id of a Hugging Face dataset."""
    split: str | None = None
    """Split of the task set; all splits if not given."""
    family: str | dict[str, Any] | None = None
    """What reads the rows: the family of your own data set, as file.py:object, package.module:object or the name of an
    installed one. If not given, rows are recognised by their columns."""
    ids: tuple[str, ...] | None = None
    """Run only the tasks with these ids."""
    limit: _Count | None = None
    """Run only the first N tasks. A rerun may raise it."""
    lock: Path | None = None
    """Lock file of `swe-aem tasks check`: which tasks are fit. lock_policy says what to do about the others."""
    lock_policy: LockPolicy = "require"
    """What to do about tasks that the lock does not list as fit. require: refuse to start; drop: leave them out; weigh:
    also keep flaky ones, with a weight below 1."""
    max_passing_mutants: Annotated[float, Field(ge=0, le=1)] | None = None
    """Share of mutants of the gold patch, 0 to 1, that a task's tests may let pass, as `swe-aem tasks check --strength
    N` measured. Tasks above it or not measured are not fit: lock_policy says what to do about them."""
    agent: str | dict[str, Any] = "native"
    """The loop around the policy: native, openhands, mini-swe-agent, the .py file of a harness, or an agent of your own
    in this process, as file.py:object, package.module:object or the name of an installed one. The name of a script
    (gold, noop, replay) is short for the native agent with that policy."""
    policy: str | Annotated[dict[str, Any], _NamedBy] = "gold"
    """Who decides: URL of a /v1/completions server that takes token ids (several with commas between them), path of a
    model to run in this process, chat:URL of a chat API (to evaluate, not to train; litellm:MODEL for others), or a
    script: gold applies the gold patch, noop submits nothing, replay repeats the actions of a store. Harnesses take
    gold and noop, not replay. Or a policy of your own, as file.py:object, package.module:object or the name of an
    installed one."""
    tokenizer: str | None = None
    """Directory or tokenizer.json of the model, or `bytes` for the built-in byte tokenizer. If not given: the policy's
    own directory, for scripts and policies of your own `bytes`."""
    replay_from: Path | None = None
    """Directory of the store that the policy replay repeats."""
    group_size: _Count = 1
    """Trajectories per task that share a baseline (G). A rerun may raise it."""
    oversample: Annotated[int, Field(ge=0)] = 0
    """Spare trajectories per task beyond the group size, in case some end in an infrastructure failure."""
    early_completion: bool = False
    """Cancel the rest of a group once group_size of its trajectories count in the baseline. Favours short ones."""
    reward: RewardSetting = "resolved"
    """What a trajectory is paid. resolved: 1 for a resolved task, else 0. fraction: below 1 also in part, by the number
    that a Harbor task's tests wrote, or by the share of failing tests that pass now, if no other test is broken.
    graded: that number alone. turn_cost: less for more turns. format: share of well-formed responses. Or a function of
    your own, file.py:function; or several named terms with weights, {tests: fraction, style: {type: format, weight:
    0.1}}."""
    twins: bool = True
    """Try a patch that passes the tests of its task with tests that contradict them, too: one that passes both is an
    integrity violation. Costs the evaluation of such patches once more."""
    sandbox: SandboxConfig = SandboxConfig()
    """What commands run in: bubblewrap (no daemon), docker, or a sandbox of your own. Beside its name (`type`) stand
    settings of its own."""
    limits: Limits = Limits()
    """Resource limits of one sandbox."""
    user: str | None = None
    """User inside the sandbox; the image's own if not given."""
    capabilities: tuple[str, ...] = ()
    """Linux capabilities that sandboxes keep."""
    max_log_bytes: Annotated[int, Field(ge=0)] = 1 << 20
    """Compressed size up to which the log behind a verdict is kept; a longer one is cut. 0 keeps none."""
    time_limit_s: _Seconds = 1800.0
    """Seconds that the agent's program and its commands have for one trajectory. Starting the sandbox, grading, and
    waiting for responses or for processors that others have do not count; an agent that takes ten times as long with
    all its waiting is an infrastructure failure."""
    budget: BudgetConfig = BudgetConfig()
    """Tokens and money that the run may use."""
    native: NativeConfig = NativeConfig()
    """Turn and context limits, sampling and seed, for every agent; and the native agent's tools and prompts."""
    harness: HarnessConfig = HarnessConfig()
    """Processes and options of a harness (another agent than native)."""
    renderer: RendererConfig = RendererConfig()
    """Chat format of the prompts."""
    scheduling: SchedulingConfig = SchedulingConfig()
    """Concurrency, retries, and time limits of the stages."""
    cluster: ClusterConfig | None = None
    """Roll out on the hosts of a Ray cluster: auto for the one that this host belongs to, or HOST:PORT of its head. If
    not given: on this host. A rerun may differ."""

    @property
    def at_once(self) -> AtOnce:
        """How much runs at once on this host: what `scheduling` says, and where it says nothing, what it carries."""
        return self.carried.model_copy(update=self.scheduling.given_at_once)

    @property
    def carried(self) -> AtOnce:
        """What this host carries, whatever `scheduling` says."""
        return AtOnce.on(this_host(), self.sandbox.type, self.limits, scripted=self.scripted)

    @property
    def consecutive_failures(self) -> int:
        """`scheduling.max_consecutive_failures`, or its default for the concurrency."""
        return self.scheduling.max_consecutive_failures or max(12, 3 * self.at_once.concurrency)

    @property
    def scripted(self) -> bool:
        """Are the responses a script's?"""
        return self.policy_name in SCRIPTS

    @property
    def agent_name(self) -> str:
        """The name in the setting `agent`."""
        return AGENTS.name_of(self.agent)

    @property
    def policy_name(self) -> str:
        """The name in the setting `policy`, a URL, or the path of a model."""
        return POLICIES.name_of(self.policy)

    @property
    def tokenizer_path(self) -> str | None:
        """Where the tokenizer is; None for the built-in byte tokenizer, and where a chat API needs none."""
        own = self.scripted or is_own_policy(self.policy_name) or names_chat_api(self.policy_name)
        path = self.tokenizer or (None if own else self.policy_name)
        return None if path == BYTE_TOKENIZER_NAME else path

    @model_validator(mode="before")
    @classmethod
    def _agent_and_policy(cls, values: Any) -> Any:
        """Write out the shorthands of `agent`. Who names another agent must name its policy too."""
        if not isinstance(values, Mapping):
            return values
        given = {name: values[name] for name in ("agent", "policy") if values.get(name) is not None}
        agent, policy = given.get("agent"), given.get("policy")
        if isinstance(agent, str) and agent in SCRIPTS:
            if policy not in (None, agent):
                raise ValueError(
                    f"agent {agent} is short for agent native with policy {agent}, not {policy}: leave one out"
                )
            given = {"agent": NATIVE, "policy": agent}
        elif isinstance(agent, str | Mapping):
            name = AGENTS.name_of(agent)
            _check_agent(name)
            if policy is None:
                scripts = ", ".join(listed_scripts(for_harnesses=name != NATIVE))
                raise ValueError(f"agent {name} needs policy: a URL, the path of a model, or one of {scripts}")
        return {name: value for name, value in values.items() if name not in ("agent", "policy")} | given

    @field_validator("family")
    @classmethod
    def _is_a_family(cls, value: Any) -> Any:
        if value is not None:
            FAMILIES.check(FAMILIES.name_of(value))
        return value

    @field_validator("cluster", mode="before")
    @classmethod
    def _is_an_address(cls, value: Any) -> Any:
        return {ClusterConfig.NAME_KEY: value} if isinstance(value, str) else value

    @field_validator("policy")
    @classmethod
    def _is_a_policy(cls, value: Any) -> Any:
        setting = policy_setting(value)
        if not isinstance(setting, str) or is_own_policy(setting):  # another name may be the path of a model
            check_policy(setting)
        return setting

    @model_validator(mode="after")
    def _settings_are_honoured(self) -> "RolloutConfig":
        agent, policy = self.agent_name, self.policy_name
        if self.replay_from is not None and policy != "replay":
            raise ValueError(f"replay_from is only for the policy replay, but policy is {policy}")
        if policy == "replay" and self.replay_from is None:
            raise ValueError("the policy replay needs replay_from: the directory of a store")
        if agent != NATIVE and self.scripted and not SCRIPTS[policy].for_harnesses:
            raise ValueError(f"policy {policy} is only for agent native: it acts through that agent's tools")
        if names_chat_api(policy) and self.tokenizer is not None:
            raise ValueError("a chat API needs no tokenizer, for it reports no token ids: leave it out")
        if self.tokenizer is None and is_server(self.policy):
            raise ValueError("a policy behind a URL needs tokenizer: the directory or tokenizer.json of its model")
        if self.native.top_p != 1 and is_server(self.policy):
            raise ValueError(
                "a policy behind a URL needs native.top_p 1: servers report log-probabilities of the nucleus alone"
            )
        if agent != NATIVE:
            for name in NativeConfig.model_fields.keys() - TurnLimits.model_fields.keys():
                if getattr(self.native, name) != NativeConfig.model_fields[name].default:
                    raise ValueError(f"native.{name} is only for agent native: {agent} has tools of its own")
        if not is_harness(agent) and self.harness != HarnessConfig():
            raise ValueError(f"harness is only for harnesses, but agent is {agent}")
        if not isinstance(self.agent, str) and (agent == NATIVE or is_harness(agent)):
            raise ValueError(f"agent {agent} takes no settings here: give its name alone")
        if self.max_passing_mutants is not None and self.lock is None:
            raise ValueError("max_passing_mutants needs lock: the file that `swe-aem tasks check --strength N` wrote")
        if self.budget.usd is not None and self.scripted:
            raise ValueError(f"budget.usd is for policies that cost money, but policy is {policy}")
        if self.early_completion and not self.oversample:
            raise ValueError("early_completion needs oversample: without it there is nothing to cancel")
        return self


def _check_agent(agent: str) -> None:
    """Raises `ValueError` if there is no such agent."""
    if agent == NATIVE or is_harness(agent):
        return
    try:
        AGENTS.check(agent)
    except UserError:
        if ":" in agent:
            raise
    else:
        return
    known = (*AGENTS.names, *BUNDLED, *listed_scripts())
    raise ValueError(
        f"agent {agent} is unknown{did_you_mean(agent, (*known, *SCRIPTS))}; there are {', '.join(known)}, the .py "
        "file of a harness, and your own as file.py:object or package.module:object"
    )


def default_directory(config: RolloutConfig) -> Path:
    """Where a store goes that was given no place, e.g. runs/micro-gold-bubblewrap."""
    who = config.policy_name if config.agent_name == NATIVE and config.scripted else Path(config.agent_name).stem
    return Path("runs") / f"{Path(config.tasks).stem}-{who}-{Path(config.sandbox.type.rpartition(':')[2]).name}"


_FREE_OF_POLICY = ("api_key_env", "price", "request_timeout_s", "attempts", "backoff_s", "patience_s")
_FREE = (
    "scheduling",
    "cluster",
    "budget",
    "oversample",
    "early_completion",
    "max_log_bytes",
    "harness.workers",
    "harness.conversations",
    *(f"policy.{name}" for name in _FREE_OF_POLICY),
)
_MAY_GROW = ("group_size", "limit")


def differences(stored: RolloutConfig, wanted: RolloutConfig) -> list[str]:
    """What keeps `wanted` from resuming a store that was made under `stored`, one sentence per setting."""
    return changed(_comparable(stored), _comparable(wanted), free=_FREE, may_grow=_MAY_GROW)


def as_stored(stored: RolloutConfig, wanted: RolloutConfig) -> str:
    """The assignments with which `wanted` resumes a store that was made under `stored`; empty if none do."""
    return as_before(_comparable(stored), _comparable(wanted), free=_FREE, may_grow=_MAY_GROW)


def _comparable(config: RolloutConfig) -> dict[str, Any]:
    """The settings, with a server's URL alone as the policy that it is short for."""
    values = config.model_dump(mode="json")
    if isinstance(config.policy, str) and is_server(config.policy):
        values["policy"] = {POLICIES.key: COMPLETIONS, "url": config.policy}
    return values
