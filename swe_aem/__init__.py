"""swe-aem: reinforcement learning of software-engineering agents.

    import swe_aem as sa

    tasks = sa.load_tasks("tasks/micro", limit=2)
    run = sa.rollout(tasks, agent="gold", out="runs/first")
    for trajectory in run.trajectories():
        print(trajectory.task_id, trajectory.outcome, trajectory.reward)

What `__all__` names is public, and is imported when it is first used; everything else may move. `docs/api.md` has the
whole story.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import swe_aem.errors as errors
    from swe_aem.advantage.inputs import AdvantageInputs
    from swe_aem.agent import Conversation, RendererConfig
    from swe_aem.api.advantages import advantages
    from swe_aem.api.evaluation import evaluate
    from swe_aem.api.grading import grade, grade_async
    from swe_aem.api.rollouts import rollout, rollout_async
    from swe_aem.api.sandboxes import Bubblewrap, Docker, Podman
    from swe_aem.api.training import train
    from swe_aem.core import (
        AnswerKey,
        ChatCompletion,
        ChatPolicy,
        Completion,
        Outcome,
        Policy,
        SamplingParams,
        Task,
        TaskRecord,
        Trajectory,
        Usage,
        Verdict,
    )
    from swe_aem.core.base import Settings
    from swe_aem.models import check_model
    from swe_aem.policy import ScriptContext, ScriptTools, load_tokenizer
    from swe_aem.tasks import Family, Fields, LogParser, Reading, git_task, load_tasks
    from swe_aem.train.task_samplers import SampledGroup, TaskSamplerInputs

__version__ = "0.1.0"

__all__ = [
    "AdvantageInputs",
    "AnswerKey",
    "Bubblewrap",
    "ChatCompletion",
    "ChatPolicy",
    "Completion",
    "Conversation",
    "Docker",
    "Family",
    "Fields",
    "LogParser",
    "Outcome",
    "Podman",
    "Policy",
    "Reading",
    "RendererConfig",
    "SampledGroup",
    "SamplingParams",
    "ScriptContext",
    "ScriptTools",
    "Settings",
    "Task",
    "TaskRecord",
    "TaskSamplerInputs",
    "Trajectory",
    "Usage",
    "Verdict",
    "advantages",
    "check_model",
    "errors",
    "evaluate",
    "git_task",
    "grade",
    "grade_async",
    "load_tasks",
    "load_tokenizer",
    "rollout",
    "rollout_async",
    "train",
]

_MODULES = {
    "AdvantageInputs": "swe_aem.advantage.inputs",
    "AnswerKey": "swe_aem.core",
    "Bubblewrap": "swe_aem.api.sandboxes",
    "ChatCompletion": "swe_aem.core",
    "ChatPolicy": "swe_aem.core",
    "Completion": "swe_aem.core",
    "Conversation": "swe_aem.agent",
    "Docker": "swe_aem.api.sandboxes",
    "Family": "swe_aem.tasks",
    "Fields": "swe_aem.tasks",
    "LogParser": "swe_aem.tasks",
    "Outcome": "swe_aem.core",
    "Podman": "swe_aem.api.sandboxes",
    "Policy": "swe_aem.core",
    "Reading": "swe_aem.tasks",
    "RendererConfig": "swe_aem.agent",
    "SampledGroup": "swe_aem.train.task_samplers",
    "SamplingParams": "swe_aem.core",
    "ScriptContext": "swe_aem.policy",
    "ScriptTools": "swe_aem.policy",
    "Settings": "swe_aem.core.base",
    "Task": "swe_aem.core",
    "TaskRecord": "swe_aem.core",
    "TaskSamplerInputs": "swe_aem.train.task_samplers",
    "Trajectory": "swe_aem.core",
    "Usage": "swe_aem.core",
    "Verdict": "swe_aem.core",
    "advantages": "swe_aem.api.advantages",
    "check_model": "swe_aem.models",
    "evaluate": "swe_aem.api.evaluation",
    "git_task": "swe_aem.tasks",
    "grade": "swe_aem.api.grading",
    "grade_async": "swe_aem.api.grading",
    "load_tasks": "swe_aem.tasks",
    "load_tokenizer": "swe_aem.policy",
    "rollout": "swe_aem.api.rollouts",
    "rollout_async": "swe_aem.api.rollouts",
    "train": "swe_aem.api.training",
}
"""Where the public names are defined."""


class _Face(ModuleType):
    """This module, with its public names: imported when they are asked for, and never replaced by the packages
    `rollout`, `train` and `evaluate`, which Python would put in their place as soon as something imports those."""

    def __getattr__(self, name: str) -> Any:
        if name == "errors":
            return import_module("swe_aem.errors")
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(_MODULES[name]), name)
        super().__setattr__(name, value)
        return value

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _MODULES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *__all__})


sys.modules[__name__].__class__ = _Face
