"""One stored row as what the index keeps of it."""

import json
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from swe_aem.audit import labelled
from swe_aem.core import Trajectory
from swe_aem.core.outcomes import in_baseline, is_resolved
from swe_aem.evaluate import sample_of
from swe_aem.grading import paths_of
from swe_aem.rollout.causes import cause_pattern
from swe_aem.store import log_path
from swe_aem.store.store import RowTexts
from swe_aem.store.surrogates import escape
from swe_aem.view.index.texts import passages
from swe_aem.view.index.words import COLUMNS, words_of

_ERROR_CHARACTERS = 2000
_CAUSE_CHARACTERS = 200
_MOST_FILES = 50
_MOST_LINES = 20


class Measured(NamedTuple):
    """What is kept of one trajectory."""

    columns: dict[str, Any]
    """Columns of the table `trajectories`, those that say where the row is left out."""
    tools: dict[str, int]
    labels: tuple[str, ...]
    texts: tuple[str, ...]
    """Words for each of `COLUMNS`."""


def measured(read: RowTexts, store: Path, *, block: int, step: int | None) -> Measured:
    """What is kept of a row of the store in that directory."""
    trajectory = read.trajectory
    responses = trajectory.all_responses
    versions = [version for response in trajectory.responses for version in response.versions]
    calls = [call for response in responses for call in response.tool_calls]
    tools = Counter(escape(call.name) for call in calls)
    labels = tuple(labelled(trajectory).labels)
    files = sorted(paths_of(trajectory.patch))
    verdict, error, timings = trajectory.verdict, trajectory.error, trajectory.timings_s
    columns = {
        "task": escape(trajectory.task_id),
        "sample": trajectory.sample,
        "block": block,
        "step": step,
        "attempt": trajectory.attempt,
        "outcome": trajectory.outcome,
        "reward": trajectory.reward,
        "counts": in_baseline(trajectory),
        "resolved": is_resolved(trajectory),
        "official": verdict.official_resolved if verdict else None,
        "agent": escape(trajectory.agent),
        "model": escape(trajectory.model),
        "stop": trajectory.stop,
        "first_version": min(versions, default=None),
        "last_version": max(versions, default=None),
        "turns": len(trajectory.responses),
        "tool_calls": len(calls),
        "malformed_calls": sum(call.status == "malformed" for call in calls),
        "tokens": read.token_ids or trajectory.tokens,
        "sampled_tokens": sum(response.used.completion_tokens for response in responses),
        "branches": len(trajectory.branches),
        "patch_bytes": len(trajectory.patch.encode("utf-8", "surrogatepass")),
        "patch_files": len(files),
        "has_log": log_path(store, trajectory.key).is_file(),
        "cause": None if error is None else _cause(error),
        "total_s": timings.get("total"),
        "agent_s": timings.get("agent"),
        "grade_s": timings.get("grade"),
        "response_rewards": None if trajectory.response_rewards is None else json.dumps(trajectory.response_rewards),
        "error": None if error is None else escape(error[:_ERROR_CHARACTERS]),
        "integrity": json.dumps(
            [line[:_ERROR_CHARACTERS] for line in (verdict.integrity if verdict else ())][:_MOST_LINES]
        ),
        "tools": json.dumps(tools),
        "labels": json.dumps(labels),
        "files": json.dumps(files[:_MOST_FILES]),
        "timings": json.dumps(timings),
        "scored": json.dumps([_short(value) for value in sample_of(trajectory)]),
    }
    return Measured(columns, dict(tools), labels, _texts(trajectory))


def _texts(trajectory: Trajectory) -> tuple[str, ...]:
    found: dict[str, list[str]] = {name: [] for name in COLUMNS}
    for passage in passages(trajectory):
        found[passage.column].append(passage.text)
    return tuple(words_of(found[name]) for name in COLUMNS)


def _short(value: Any) -> Any:
    return value[:_ERROR_CHARACTERS] if isinstance(value, str) else value


def _cause(error: str) -> str:
    """The first line of an error without what differs between two of one cause."""
    return escape(cause_pattern(error.strip().partition("\n")[0])[:_CAUSE_CHARACTERS])
