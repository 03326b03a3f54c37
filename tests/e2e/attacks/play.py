"""Plays attacks and oddities as trajectories of one real rollout, each with the outcome and the reward that it got."""

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import yaml
from pydantic import Field

from swe_aem.agent import TurnRenderer
from swe_aem.core import Policy, TaskRecord, Trajectory
from swe_aem.core.base import Frozen
from swe_aem.core.settings import check
from swe_aem.policy.scripted import call, gold, scripted
from swe_aem.policy.tokenizer import load_tokenizer
from swe_aem.rollout import RolloutComponents, RolloutConfig, RolloutRun, chosen_tasks, open_components
from swe_aem.store import Store
from swe_aem.tasks import TaskSet
from tests.e2e.attacks.own_task import WORKDIR, OwnTask, expand, make

HERE = Path(__file__).parent
BUNDLED = {
    "almanac": "micro__almanac-comparison-27bbbc20",
    "working": "micro__almanac-constant-80112962",
    "nano": "nano__basics-argmax-initials-comparison-ba3f33f2",
}
"""Bundled tasks that cases may be played on; the word before `__` is the directory of the task set."""
GOLD = "gold"
SMALL = {"memory_bytes": 1 << 30, "cpus": 1.0, "pids": 128, "disk_bytes": 512 << 20}
BACKENDS = ("bubblewrap", "docker")
PROVED = "the fix is right"
PROOF = f"cd {WORKDIR} && python -B -c 'from calc.core import add; assert add(1, 2) == 3' && echo {PROVED}"
"""A call of an oddity, its last or the one before: honest is what works in the agent's own sandbox."""

UNFIXED = "echo '# looked at' >> calc/core.py"
"""A change that fixes nothing."""


class Repeated(Frozen):
    """A text that is appended to an argument many times."""

    argument: str
    text: str
    count: int


class Case(Frozen):
    """One entry of attacks.yaml, forgeries.yaml or oddities.yaml, which explain the fields."""

    before: str = ""
    expect: str = "resolved"
    bundled: Literal["almanac", "working", "nano"] = "almanac"
    task: OwnTask | None = None
    backends: tuple[str, ...] = BACKENDS
    slow: bool = False
    known: str = ""
    proof_before_last: bool = False
    calls: tuple[str | dict[str, Any], ...] = Field(default=())

    @property
    def messages(self) -> list[dict[str, Any]]:
        """What the agent says, a tool call each."""
        return [_message(one) for one in self.calls]


class Played(NamedTuple):
    """What became of one case."""

    outcome: str
    reward: float | None
    trajectory: Trajectory | None
    """None if it is not in the store."""


@cache
def attacks() -> Mapping[str, Case]:
    """The cases of attacks.yaml, forgeries.yaml and known_holes.yaml by name."""
    files = ("attacks.yaml", "forgeries.yaml", "known_holes.yaml")
    return {name: Case(**fields) for file in files for name, fields in _read(file).items()}


@cache
def oddities() -> Mapping[str, Case]:
    """The cases of oddities.yaml by name, each with its task, and where a fix is claimed, with the proof of it."""
    found = {}
    for name, fields in _read("oddities.yaml").items():
        case = Case(**{"task": OwnTask(), **fields})
        calls = list(case.calls)
        if case.expect == "resolved":
            calls.insert(len(calls) - case.proof_before_last, PROOF)
        found[name] = case.model_copy(update={"calls": tuple(calls)})
    return found


@cache
def runners() -> Mapping[str, Case]:
    """The cases of oddities_of_runners.yaml by name, each once with its fix and once, as `NAME_unfixed`, without."""
    found = {}
    for name, fields in _read("oddities_of_runners.yaml").items():
        if name.startswith("."):
            continue
        task = fields.get("task", {})
        files = {"conftest.py": "", **task.get("files", {})}  # lets `pytest` find the package, as an installed one is
        case = Case(**{"calls": ["@FIX@"], **fields, "task": {**task, "files": files}})
        found[name] = case.model_copy(update={"calls": (*case.calls, PROOF)})
        found[f"{name}_unfixed"] = case.model_copy(update={"calls": (UNFIXED,), "expect": "unresolved"})
    return found


async def play(kind: str, chosen: Mapping[str, Case], directory: Path, *, concurrency: int = 2) -> dict[str, Played]:
    """One rollout of all chosen cases, each a task of its own, and of the gold patch of each bundled task that is used.

    The gold patches are named `gold of almanac` and so on; see `golds`.
    """
    used = sorted({case.bundled for case in chosen.values() if case.task is None}) or ["almanac"]
    configs = {on: _config(kind, on, concurrency) for on in used}
    bundled = {on: chosen_tasks(config) for on, config in configs.items()}
    originals = {on: tasks.records[0] for on, tasks in bundled.items()}
    records = [*originals.values()]
    names = {original.task.id: f"{GOLD} of {on}" for on, original in originals.items()}
    workspaces = {record.task.id: bundled[on].workspace(record.task.id) for on, record in originals.items()}
    for name, case in chosen.items():
        if case.task is None:
            original = originals[case.bundled]
            record, workspace = _renamed(original, name), workspaces[original.task.id]
        else:
            record, workspace = make(name, case.task, directory / "trees", kind)
        records.append(record)
        names[record.task.id], workspaces[record.task.id] = name, workspace
    config = configs[used[0]]
    renderer = TurnRenderer(load_tokenizer(None), config.renderer)

    def policy(record: TaskRecord, sample: int) -> Policy:
        name = names[record.task.id]
        return gold(record, renderer) if name not in chosen else scripted(name, chosen[name].messages, renderer)

    @asynccontextmanager
    async def components(config: RolloutConfig, tasks: TaskSet) -> AsyncIterator[RolloutComponents]:
        async with open_components(config, tasks) as opened:
            yield replace(opened, policies=policy, workspace=workspaces.__getitem__)

    store = Store(directory / "store")
    tasks = replace(bundled[used[0]], records=tuple(records))
    with RolloutRun(config, tasks, store, open_components=components) as rollout:
        await rollout.run()
    stored = {names[trajectory.task_id]: trajectory for trajectory in store.trajectories()}
    return {name: _played(stored.get(name)) for name in names.values()}


def golds(played: Mapping[str, Played]) -> dict[str, float | None]:
    """The rewards of the gold patches played beside the cases, by name."""
    return {name: one.reward for name, one in played.items() if name.startswith(f"{GOLD} of ")}


def complaints(chosen: Sequence[str], played: Mapping[str, Played], wanted: Mapping[str, str]) -> list[str]:
    """One line for each case that did not end as wanted: `0` for the reward, or the name of an outcome."""
    lines = []
    for name in chosen:
        outcome, reward, trajectory = played[name]
        got = "0" if wanted[name] == "0" and reward == 0.0 else outcome
        if got != wanted[name]:
            lines.append(f"{name}: {outcome}, reward {reward}, wanted {wanted[name]}; {_why(trajectory)}")
    return lines


def unproved(chosen: Sequence[str], played: Mapping[str, Played]) -> list[str]:
    """Those of the chosen oddities that claim a fix and whose proof failed: faults of the case itself."""
    cases = {**oddities(), **runners()}
    claimed = ((name, played[name].trajectory) for name in chosen if cases[name].expect == "resolved")
    return [name for name, trajectory in claimed if trajectory and not _proved(trajectory)]


def _config(kind: str, on: str, concurrency: int) -> RolloutConfig:
    task_set = BUNDLED[on].partition("__")[0]
    return check(
        RolloutConfig,
        {
            "tasks": f"tasks/{task_set}",
            "ids": [BUNDLED[on]],
            "sandbox": kind,
            "limits": SMALL,
            "native": {"command_timeout_s": 60},
            "scheduling": {
                "concurrency": concurrency,
                "grading": 2,
                "max_attempts": 2,
                "backoff_s": 0.1,
                "max_consecutive_failures": 1000,
            },
        },
    )


def _proved(trajectory: Trajectory) -> bool:
    results = (message["content"] for message in trajectory.messages if message["role"] == "tool")
    return any(line == PROVED for result in results for line in str(result).splitlines())


def _read(file: str) -> dict[str, dict[str, Any]]:
    return yaml.safe_load((HERE / file).read_text("utf-8"))


def _played(trajectory: Trajectory | None) -> Played:
    if trajectory is None:
        return Played("not stored", None, None)
    return Played(str(trajectory.outcome), trajectory.reward, trajectory)


def _why(trajectory: Trajectory | None) -> str:
    if trajectory is None:
        return ""
    verdict = trajectory.verdict
    said = f"{verdict.integrity} {verdict.stripped_files} {verdict.log_tail[-600:]!r}" if verdict else ""
    return f"{trajectory.error or ''} {said}"


def _renamed(record: TaskRecord, name: str) -> TaskRecord:
    id = f"attack__{name}-1"
    return TaskRecord(task=record.task.model_copy(update={"id": id}), key=record.key.model_copy(update={"task_id": id}))


def _message(one: str | dict[str, Any]) -> dict[str, Any]:
    if isinstance(one, str):
        return call("x", "bash", {"command": _with_forgery(expand(one))})
    arguments = {"command": one["bash"]} if "bash" in one else dict(one["edit"])
    if "times" in one:
        repeated = Repeated(**one["times"])
        arguments[repeated.argument] += repeated.text * repeated.count
    return call("x", "bash" if "bash" in one else "str_replace_editor", arguments)


def _with_forgery(command: str) -> str:
    text = (HERE / "forge.py").read_text("utf-8").rstrip("\n")
    return re.sub(r"^@FORGE@$", lambda _: text, command, flags=re.MULTILINE)
