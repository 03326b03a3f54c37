"""Policies by name: the scripts, what a URL or a directory stands for, and chat APIs.

    gold, ./DIR, http://host:8000, file.py:object     a name alone
    chat:URL, litellm:MODEL                           short for {type: chat, url: URL}, {type: litellm, model: MODEL}
    {type: http://host:8000, model: NAME}             short for {type: completions, url: http://host:8000, model: NAME}

A script is one row of `SCRIPTS`. Nothing heavy is imported before a policy is opened.
"""

import inspect
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from swe_aem.core import AnyPolicy, Policy, TaskRecord, Trajectory, TrajectoryKey, is_chat
from swe_aem.core.explain import explain
from swe_aem.errors import UserError
from swe_aem.extensions import ExtensionPoint
from swe_aem.policy.demonstrator import HASTY_LOOKS, demonstrator
from swe_aem.policy.kinds import names_chat_api
from swe_aem.policy.scripted import AssistantRenderer, ScriptTools, call, gold, noop, replay, scripted
from swe_aem.suggest import did_you_mean

PolicyFactory = Callable[[TaskRecord, int], AnyPolicy]
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

    def script(self, name: str, *actions: tuple[str, Mapping[str, Any]]) -> Policy:
        """A policy that calls tools in this order, one in each response, and then submits. An action is a tool's name
        and its arguments, e.g. `("bash", {"command": "ls"})`; `name` is recorded as the trajectory's `model`."""
        messages = [call(f"I call {tool}.", tool, dict(arguments)) for tool, arguments in actions]
        return scripted(name, messages, self.renderer, self.tools)


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


GOLD = PolicyScript("applies the gold patch", _gold, for_harnesses=True)
NOOP = PolicyScript("submits nothing", _noop, for_harnesses=True)
REPLAY = PolicyScript("repeats the actions of a store", _replay)
DEMO = PolicyScript("shows a small policy how tasks/nano are solved", _demo, listed=False)
HASTY = PolicyScript("the same, mostly without looking first", _hasty, listed=False)
SCRIPTS: Mapping[str, PolicyScript] = {"gold": GOLD, "noop": NOOP, "replay": REPLAY, "demo": DEMO, "hasty": HASTY}
"""The policies of this package that have a name."""
CHAT, LITELLM, COMPLETIONS = "chat", "litellm", "completions"
SERVICES: Mapping[str, str] = {
    CHAT: "swe_aem.policy.chat_config:ChatConfig",
    LITELLM: "swe_aem.policy.chat_config:LitellmConfig",
    COMPLETIONS: "swe_aem.policy.requests:CompletionsServers",
}
"""Policies of this package that have settings, by name: where the settings are. `opened()` of one gives the policy."""
_SHORT = {CHAT: "url", LITELLM: "model"}
"""Which setting may stand behind the name and a colon."""
POLICIES: ExtensionPoint[Any] = ExtensionPoint(
    "policy",
    group="swe_aem.policies",
    builtin={**{name: f"swe_aem.policy.registry:{name.upper()}" for name in SCRIPTS}, **SERVICES},
)
"""Policies by name. One of a user's own is a class with `sample`, of which a run shares one object, or a function
(`ScriptContext`, record, sample) -> policy, which is called for every attempt."""


def listed_scripts(*, for_harnesses: bool = False) -> tuple[str, ...]:
    """Names that help and errors offer."""
    return tuple(name for name, one in SCRIPTS.items() if one.listed and (one.for_harnesses or not for_harnesses))


def is_own_policy(name: str) -> bool:
    """Is it the name of a policy that is neither built in nor a server or model? Imports nothing."""
    if POLICIES.is_builtin(name) or _is_url(name) or names_chat_api(name):
        return False
    return name in POLICIES.names or ":" in name


def is_server(policy: str | Mapping[str, Any]) -> bool:
    """Does a setting name servers of completions, which take token ids?"""
    name = POLICIES.name_of(policy)
    return name == COMPLETIONS or _is_url(name)


def takes_messages(policy: str | Mapping[str, Any]) -> bool:
    """Does it take chat messages, so that no tokenizer is needed and no token ids are stored? A chat API does, and a
    class of a user's own that has `chat` and no `sample`, which is imported. Raises `UserError` if that fails."""
    name = POLICIES.name_of(policy)
    return names_chat_api(name) or (is_own_policy(name) and is_chat(POLICIES.find(name).value))


def policy_setting(policy: str | Mapping[str, Any]) -> str | dict[str, Any]:
    """A setting in full: a name alone, or a mapping of `type` and of settings that differ from their defaults.

    Raises `UserError` for settings of a built-in policy that do not fit; those of others are checked when they are
    used. Imports none of theirs.
    """
    if not isinstance(policy, str) and POLICIES.key not in policy:
        raise UserError(f"{', '.join(policy)} of which policy? Give --policy too, e.g. chat:URL")
    name = POLICIES.name_of(policy)
    own = {} if isinstance(policy, str) else {key: one for key, one in policy.items() if key != POLICIES.key}
    kind, colon, rest = name.partition(":")
    if colon and names_chat_api(name):
        name, own = kind, {_SHORT[kind]: rest} | own
    elif _is_url(name) and own:
        name, own = COMPLETIONS, {"url": name} | own
    if name not in SERVICES:
        return {POLICIES.key: name, **own} if own else name
    if name in _SHORT and not own.get("model"):
        raise UserError(f"policy {name} needs the name by which the API knows the model: add --model NAME")
    model: type[BaseModel] = POLICIES.find(name).value
    try:
        return {POLICIES.key: name, **model.model_validate(own).model_dump(mode="json", exclude_defaults=True)}
    except ValidationError as error:
        raise UserError(f"policy {name}: {explain(error, model)}") from None


def check_policy(policy: str | Mapping[str, Any]) -> None:
    """Raises `UserError` if `policy` is neither a name nor a URL nor a directory, or its settings do not fit. Imports
    nothing of a user's own."""
    setting = policy_setting(policy)
    name = POLICIES.name_of(setting)
    if is_own_policy(name):
        POLICIES.check(name)
    elif POLICIES.is_builtin(name) or _is_url(name) or Path(name).is_dir():
        if not isinstance(setting, str) and name not in SERVICES:
            raise UserError(f"policy {name} takes no settings: give its name alone")
    elif not isinstance(setting, str):
        POLICIES.check(name)  # one that a store names need not be installed here
    else:
        own = [one for one in POLICIES.names if not POLICIES.is_builtin(one)]
        raise UserError(
            f"no policy {name}{did_you_mean(name, [*SCRIPTS, *own])}; give {', '.join([*listed_scripts(), *own])}, the "
            "URL of a server (http://host:port), chat:URL, litellm:MODEL, the directory of a model, "
            "package.module:object or file.py:object"
        )


@asynccontextmanager
async def open_policy_factory(
    policy: str | Mapping[str, Any],
    renderer: AssistantRenderer | None,
    *,
    tools: ScriptTools | None = None,
    replay_from: Mapping[TrajectoryKey, Trajectory] | None = None,
    at_once: int | None = None,
) -> AsyncIterator[PolicyFactory]:
    """The policies of a run, open for the length of an `async with`.

    `policy` is the name of a script or of a user's own, the URL of a server, or several with commas between them, the
    directory of a model, or a chat API. What `takes_messages` needs no `renderer`. Scripts act through `tools` if the
    agent is not the native one. `replay` repeats the trajectories of `replay_from`. `at_once` is how many trajectories
    this process runs at once. Raises `UserError` if there is no such policy, it does not fit, or the server or model
    cannot be used.
    """
    check_policy(policy)
    policy = policy_setting(policy)
    name = POLICIES.name_of(policy)
    context = None if renderer is None else ScriptContext(renderer, tools, replay_from or {})
    if is_own_policy(name):
        async with _open_own(policy, context) as own:
            yield own
        return
    script = SCRIPTS.get(name)
    if script is None:
        async with _open_shared(policy, at_once) as shared:
            yield lambda record, sample: shared
        return
    if tools is not None and not script.for_harnesses:
        raise UserError(f"the policy {name} acts through the native agent's tools; use it with the agent native")
    if name == "replay" and replay_from is None:
        raise UserError("the policy replay needs the directory of a store whose trajectories it repeats")
    assert context is not None, "a script renders what it says"
    yield lambda record, sample: script.make(context, record, sample)


@asynccontextmanager
async def _open_own(setting: str | Mapping[str, Any], context: ScriptContext | None) -> AsyncIterator[PolicyFactory]:
    """The policies of a user's own. Raises `UserError` if what is named is none."""
    made = POLICIES.make(setting)
    if inspect.isfunction(made):
        yield lambda record, sample: made(context, record, sample)
        return
    if not inspect.iscoroutinefunction(getattr(made, "chat" if is_chat(made) else "sample", None)):
        raise UserError(
            f"policy {POLICIES.name_of(setting)} is {made!r:.60}: give a class with `async def sample(prompt_ids, "
            "params, *, trajectory_id)` or `async def chat(messages, tools, params, *, trajectory_id)`, or a function "
            "(context, record, sample) -> policy"
        )
    try:
        yield lambda record, sample: made
    finally:
        await made.close()


def _open_shared(policy: str | Mapping[str, Any], at_once: int | None) -> AbstractAsyncContextManager[AnyPolicy]:
    """The one policy of a run that is no script: a service, a server by its URL alone, or a model."""
    if isinstance(policy, str) and _is_url(policy):
        policy = {POLICIES.key: COMPLETIONS, "url": policy}
    if not isinstance(policy, str):
        made = POLICIES.make(policy)
        return made.opened(at_once) if POLICIES.name_of(policy) == COMPLETIONS else made.opened()
    from swe_aem.policy.transformers import open_transformers

    return open_transformers(Path(policy))


def _is_url(policy: str) -> bool:
    return policy.startswith(("http://", "https://"))
