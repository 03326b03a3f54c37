"""`BrokenTasks`: tasks whose tests cannot be run, shown by controls with the gold patch, once per task, and kept.

An evaluation in which no listed test has a status says that the patch breaks the tests, or that the task is broken: a
test command that does not exist, an image without its runner. An evaluation that hits the limits of its sandbox says
that the patch wants too much, or that the tests do. A control tells them apart, and two that agree show a broken task:
one evaluation may have gone wrong. The result lies in the store's directory, so that a resumed run does not measure
again, and holds for one content of the task in one image under the same limits.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import RootModel, ValidationError

from swe_aem.core import LimitHits, SandboxBackend, TaskRecord, Verdict
from swe_aem.core.base import Frozen
from swe_aem.core.explain import explain
from swe_aem.errors import InfrastructureError, Starved, UserError, why_unreadable
from swe_aem.rollout.trials import Trials
from swe_aem.store import broken_task_lines, replace
from swe_aem.tasks import record_digest

FILE = "broken_tasks.json"
_CANNOT_START = (126, 127)
"""Exit codes with which a shell says that a command cannot be run."""
_CONTROLS = 3
"""So many controls are made at most until two show the same."""
_ERROR = re.compile(r"(?:E\s+)?(?:\w+\.)*\w*(?:Error|Exception)\b")
_MARKER = re.compile(r"swe-aem-[0-9a-f]{32}")


class _Problem(NamedTuple):
    """What one control shows against a task."""

    kind: Literal["gold", "results", "limits"]
    """The gold patch does not apply, no results, or the limits of the sandbox."""
    why: str


class Measured(Frozen):
    """The result of a task's controls."""

    task_id: str
    broken: bool
    why: str = ""
    """What the control showed, with the last line of its log; empty for a task that is not broken."""


class _File(RootModel[dict[str, Measured]]):
    """Content of the file: a digest of task and image to what was measured."""


class BrokenTasks:
    """What is known of the tasks of one store."""

    def __init__(
        self, directory: Path, backend: SandboxBackend, trials: Trials, tell: Callable[[str], None] = lambda text: None
    ) -> None:
        """Reads what earlier runs into the store's `directory` measured; raises `UserError` if it cannot be read.
        `tell` is told of each task that turns out to be broken."""
        self._path = directory / FILE
        self._backend = backend
        self._trials = trials
        self._tell = tell
        self._measured = _read(self._path)
        self._tasks = {one.task_id for one in self._measured.values()}

    async def why(self, record: TaskRecord) -> str | None:
        """Why a task is known to be broken; None if it is not known to be, or if the engine does not say now which
        image it has."""
        if record.task.id not in self._tasks:
            return None
        try:
            known = self._measured.get(await self._digest(record))
        except InfrastructureError:
            return None
        return known.why if known is not None and known.broken else None

    async def explains(self, record: TaskRecord, verdict: Verdict, *, own_limits: bool) -> str | None:
        """Why the task is broken, if that is what a verdict shows; measured unless it is known.

        `own_limits`: did the sandbox in which the patch was graded hit its limits meanwhile? Raises
        `InfrastructureError` if a control came to no verdict, or to one that says nothing.
        """
        limits = own_limits and record.key.has_gold and not verdict.resolved
        if not (limits or _suspicious(record, verdict)):
            return None
        digest = await self._digest(record)
        if digest not in self._measured:
            control = await self._trials.controls.ask(("collects", digest), lambda: self._measure(record, digest))
            if not control.sound:
                raise InfrastructureError(f"whether {record.task.id} is broken was not found out: {control.why}")
        known = self._measured[digest]
        return known.why if known.broken else None

    async def _measure(self, record: TaskRecord, digest: str) -> None:
        try:
            problem = await self._problem(record)
            why = problem.why if problem is not None else ""
            found = Measured(task_id=record.task.id, broken=problem is not None, why=why)
            rows = {key: one.model_dump() for key, one in sorted((self._measured | {digest: found}).items())}
            replace(self._path, json.dumps(rows, indent=2) + "\n")
        except OSError as error:
            raise InfrastructureError(f"the host failed: {error}") from error
        self._measured[digest] = found
        self._tasks.add(record.task.id)
        if found.broken:
            self._tell(next(broken_task_lines({record.task.id: why})))

    async def _problem(self, record: TaskRecord) -> _Problem | None:
        """What two controls show against a task; one that finds nothing wrong is enough to clear it."""
        said: list[_Problem] = []
        while len(said) < _CONTROLS:
            control, hits = await self._trials.control_verdict(record)
            problem = _problem(record, control, hits)
            if problem is None:
                return None
            if control.starved:
                raise Starved("a control was starved of processors, so that it says nothing")
            if problem.kind in {one.kind for one in said}:
                return problem
            said.append(problem)
        raise InfrastructureError(f"controls of {record.task.id} differ: {'; '.join(one.why for one in said)}")

    async def _digest(self, record: TaskRecord) -> str:
        """Digest of the task with its script and tests, of the image, and of the limits of a sandbox."""
        image, limits = await self._backend.image_digest(record.task.image), self._trials.config.limits
        parts = (record.task.id, record_digest(record), image, limits.model_dump_json())
        return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogateescape")).hexdigest()


def _suspicious(record: TaskRecord, verdict: Verdict) -> bool:
    """May a broken task be what a verdict shows? Without a gold patch only a command that cannot be run is a sign."""
    if verdict.collected or not verdict.patch_applied or verdict.timed_out or verdict.integrity or verdict.cause:
        return False
    return record.key.has_gold or _exit_code(verdict) in _CANNOT_START


def _problem(record: TaskRecord, control: Verdict, hits: LimitHits) -> _Problem | None:
    """What a control shows against its task: its verdict, and what the limits of its sandbox did."""
    if control.resolved:
        return None
    if record.key.has_gold and (limits := _raised(hits)):
        return _Problem("limits", f"the gold patch is not resolved either, and its sandbox hits its limits: {limits}")
    if control.collected or control.timed_out:
        return None
    if not control.patch_applied:
        return _Problem("gold", f"the gold patch does not apply: {_last_line(control.log_tail)}")
    if record.key.has_gold:
        how = "with the gold patch none of its tests is found"
    elif _exit_code(control) in _CANNOT_START:
        how = "the test command cannot be run"
    else:
        return None
    return _Problem("results", f"{how} (exit code {_exit_code(control)}); its log {_telling(control.log_tail)}")


def _raised(hits: LimitHits) -> str:
    """Which limits were hit, and the settings that raise them; empty if none was."""
    said = (
        (hits.oom_kills, "processes ended for want of memory, raise limits.memory_bytes (--memory)"),
        (hits.pids_refused, "processes or threads not started, raise limits.pids (--pids)"),
        (hits.disk_kills, "commands ended for what they wrote, raise limits.disk_bytes (--disk)"),
    )
    return "; ".join(f"{count} {what}" for count, what in said if count)


def _exit_code(verdict: Verdict) -> int | None:
    return verdict.exit_code if verdict.test_exit_code is None else verdict.test_exit_code


def _last_line(log: str) -> str:
    """The last line of a log that is neither empty, nor the shell's trace, nor ours."""
    return next(_said(log), "(it is empty)")


def _telling(log: str) -> str:
    """How a log ends, and before that the last line of it that names an error of Python."""
    last = _last_line(log)
    error = next((line for line in _said(log) if _ERROR.match(line)), last)
    return f"ends with: {last}" if error == last else f"says: {error} ... and ends with: {last}"


def _said(log: str) -> Iterator[str]:
    for line in reversed(log.splitlines()):
        if line.strip() and not line.startswith("+") and not _MARKER.search(line):
            yield line.strip()[-300:]


def _read(path: Path) -> dict[str, Measured]:
    try:
        return _File.model_validate_json(path.read_bytes()).root
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read: {why_unreadable(error)}") from error
    except ValidationError as error:
        raise UserError(
            f"{path} cannot be read ({explain(error, _File)}); delete it, and it is measured again"
        ) from error
