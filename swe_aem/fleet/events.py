"""`RunEvents`: what agents report, as calls of what the trajectories of a run share."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from swe_aem.core import TrajectoryKey
from swe_aem.errors import InfrastructureError, PolicyError
from swe_aem.fleet.messages import Event, Report
from swe_aem.fleet.node import Node, is_suspect
from swe_aem.rollout.broken_tasks import FILE as BROKEN_TASKS
from swe_aem.rollout.roller import RunState
from swe_aem.store import FailedAttempt, replace

_KEYED = ("phase_ended", "again", "agent_ended")
"""Events that mean nothing once their trajectory has moved to another host."""


class Events(Protocol):
    """Is told what agents report."""

    def take(self, event: Event, node: Node, nodes: tuple[Node, ...], report: Report, now_s: float) -> None:
        """Pass one event on. Raises `RunAborted` and `UserError` where it ends the run."""
        ...

    def broken_tasks(self, known: bytes) -> None:
        """Learn what an agent knows of broken tasks."""
        ...


class RunEvents:
    """Passes events on to a `RunState`."""

    def __init__(self, run: RunState, directory: Path) -> None:
        """`directory` is the store's, which keeps what is known of broken tasks."""
        self._run, self._directory = run, directory

    def take(self, event: Event, node: Node, nodes: tuple[Node, ...], report: Report, now_s: float) -> None:
        """Pass one on. Raises `RunAborted` and `UserError` where it ends the run."""
        kind, given = event.kind, event.arguments
        if kind == "phase":
            if any(str(attempt.key) == given[0] for attempt in node.attempts.values()):
                self._run.watcher.phase(*given)
        elif kind in _KEYED:
            if any(attempt.key == given[0] for attempt in node.attempts.values()):
                self._keyed(kind, given, report)
        elif kind == "failed":
            self._failed(given[0], node)
        elif kind in ("agent_failed", "grading_failed"):
            node.failed(now_s)
            if not is_suspect(node, nodes):  # what one host alone does says nothing of the others
                breaker = self._run.agent_breaker if kind == "agent_failed" else self._run.grading_breaker
                breaker.failed(InfrastructureError(f"on {node.label}: {given[0]}"), given[1])
        elif kind in ("agent_worked", "grading_worked"):
            node.worked()
            (self._run.agent_breaker if kind == "agent_worked" else self._run.grading_breaker).worked()
        else:
            self._plain()[kind](*given)

    def broken_tasks(self, known: bytes) -> None:
        """Add what an agent knows of broken tasks to what the store does."""
        path = self._directory / BROKEN_TASKS
        before = json.loads(path.read_bytes()) if path.exists() else {}
        replace(path, json.dumps(dict(sorted((before | json.loads(known)).items())), indent=2) + "\n")

    def _plain(self) -> dict[str, Callable[..., None]]:
        run = self._run
        return {
            "tell": run.watcher.tell,
            "answered": run.first_answer.came,
            "unanswered": lambda said: run.first_answer.failed(PolicyError(said)),
            "used": run.spending.count,
            "used_in_vain": run.spending.count_lost,
        }

    def _keyed(self, kind: str, given: tuple[Any, ...], report: Report) -> None:
        key: TrajectoryKey = given[0]
        if kind == "again":
            self._run.spending.again(key)
        elif kind == "agent_ended":
            self._run.spending.end(key, finished=given[1])
        else:
            _, attempt, name, began_s, seconds = given
            here_s = began_s + time.monotonic() - report.now_s  # hosts' monotonic clocks differ
            self._run.watcher.phase_ended(key, attempt, name, here_s, seconds)

    def _failed(self, failed: FailedAttempt, node: Node) -> None:
        self._run.watcher.failed(failed)
        for attempt in node.attempts.values():
            if attempt.key == failed.key and failed.blame == "infrastructure":
                attempt.failures.append(failed.said)
