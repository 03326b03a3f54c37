"""The types that every package shares: plain frozen data, small protocols, and the table of outcomes.

One file each; `docs/architecture.md` has the table. Nothing in here imports another package of this project.
"""

from swe_aem.core.agent import Agent, AgentInside, sandbox_for
from swe_aem.core.deadline import Deadline, bounded
from swe_aem.core.key import TrajectoryKey
from swe_aem.core.outcome import OUTCOME_TABLE, Outcome, OutcomeRule
from swe_aem.core.policy import (
    AnyPolicy,
    ChatCompletion,
    ChatPolicy,
    Completion,
    HealthReporting,
    Policy,
    SamplingParams,
    Usage,
    VersionSpan,
    WaitReporting,
    is_chat,
    unavailable_reason,
)
from swe_aem.core.routing import RoutedExperts
from swe_aem.core.sandbox import (
    BASE_ENV,
    WALL_PER_LIMIT,
    ExecResult,
    FetchesImages,
    LimitHits,
    Limits,
    Sandbox,
    SandboxBackend,
    SandboxInfo,
    SandboxSpec,
    Tree,
    TreeChange,
    TreeEntry,
)
from swe_aem.core.task import AnswerKey, Task, TaskRecord
from swe_aem.core.trajectory import Branch, Response, Stop, ToolCall, Trajectory
from swe_aem.core.verdict import TestStatus, Verdict

__all__ = [
    "BASE_ENV",
    "OUTCOME_TABLE",
    "WALL_PER_LIMIT",
    "Agent",
    "AgentInside",
    "AnswerKey",
    "AnyPolicy",
    "Branch",
    "ChatCompletion",
    "ChatPolicy",
    "Completion",
    "Deadline",
    "ExecResult",
    "FetchesImages",
    "HealthReporting",
    "LimitHits",
    "Limits",
    "Outcome",
    "OutcomeRule",
    "Policy",
    "Response",
    "RoutedExperts",
    "SamplingParams",
    "Sandbox",
    "SandboxBackend",
    "SandboxInfo",
    "SandboxSpec",
    "Stop",
    "Task",
    "TaskRecord",
    "TestStatus",
    "ToolCall",
    "Trajectory",
    "TrajectoryKey",
    "Tree",
    "TreeChange",
    "TreeEntry",
    "Usage",
    "Verdict",
    "VersionSpan",
    "WaitReporting",
    "bounded",
    "is_chat",
    "sandbox_for",
    "unavailable_reason",
]
