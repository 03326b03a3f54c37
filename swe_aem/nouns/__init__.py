"""The nouns that every room shares: plain frozen data and small protocols, nothing that acts.

One file per noun; `docs/architecture.md` has the table. Nothing in here imports another room.
"""

from swe_aem.nouns.agent import Agent
from swe_aem.nouns.deadline import Deadline
from swe_aem.nouns.outcome import OUTCOME_TABLE, Outcome, OutcomeRule
from swe_aem.nouns.policy import Completion, Fallible, Policy, SamplingParams, fault_of
from swe_aem.nouns.sandbox import ExecResult, Limits, Sandbox, SandboxBackend, SandboxInfo, SandboxSpec
from swe_aem.nouns.task import AnswerKey, Task, TaskRecord
from swe_aem.nouns.trajectory import Chain, Response, Stop, ToolCall, Trajectory
from swe_aem.nouns.verdict import TestStatus, Verdict

__all__ = [
    "OUTCOME_TABLE",
    "Agent",
    "AnswerKey",
    "Chain",
    "Completion",
    "Deadline",
    "ExecResult",
    "Fallible",
    "Limits",
    "Outcome",
    "OutcomeRule",
    "Policy",
    "Response",
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
    "Verdict",
    "fault_of",
]
