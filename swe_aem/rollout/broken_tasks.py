"""`BrokenTasks`: tasks whose tests cannot be run, shown by controls with the gold patch, once per task, and kept.

An evaluation in which no listed test has a status says that the patch breaks the tests, or that the task is broken: a
test command that does not exist, an image without its runner. A control tells them apart, and two that agree show a
broken task: one evaluation may have gone wrong. The result lies in the store's directory, so that a resumed run does
not measure again, and holds for one content of the task in one image.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

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
_CONTROLS = 2
"""So many controls in a row show a broken task."""
_MARKER = re.compile(r"swe-aem-[0-9a-f]{32}")


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

    async def explains(self, record: TaskRecord, verdict: Verdict) -> str | None:
        """Why the task is broken, if that is what a verdict shows; measured unless it is known.

        Raises `InfrastructureError` if a control came to no verdict, or to one that says nothing.
        """
        if not _suspicious(record, verdict):
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
            why = await self._problem(record)
            found = Measured(task_id=record.task.id, broken=why is not None, why=why or "")
            rows = {key: one.model_dump() for key, one in sorted((self._measured | {digest: found}).items())}
            replace(self._path, json.dumps(rows, indent=2) + "\n")
        except OSError as error:
            raise InfrastructureError(f"the host failed: {error}") from error
        self._measured[digest] = found
        self._tasks.add(record.task.id)
        if why is not None:
            self._tell(next(broken_task_lines({record.task.id: why})))

    async def _problem(self, record: TaskRecord) -> str | None:
        """What all controls say against a task; one that finds nothing wrong is enough to clear it."""
        why = None
        for _ in range(_CONTROLS):
            control, hits = await self._trials.control_verdict(record)
            why = _problem(record, control)
            if why is None:
                return None
            if control.starved:
                raise Starved("a control was starved of processors, so that it says nothing")
            if hits != LimitHits():
                raise InfrastructureError(f"the sandbox of a control hit its limits, so that it says nothing: {hits}")
        return why

    async def _digest(self, record: TaskRecord) -> str:
        """Digest of the task with its script and tests, and of the image."""
        parts = (record.task.id, record_digest(record), await self._backend.image_digest(record.task.image))
        return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogateescape")).hexdigest()


def _suspicious(record: TaskRecord, verdict: Verdict) -> bool:
    """May a broken task be what a verdict shows? Without a gold patch only a command that cannot be run is a sign."""
    if verdict.collected or not verdict.patch_applied or verdict.timed_out or verdict.integrity or verdict.cause:
        return False
    return record.key.has_gold or _exit_code(verdict) in _CANNOT_START


def _problem(record: TaskRecord, control: Verdict) -> str | None:
    """What the verdict of a control says against its task."""
    if control.collected or control.timed_out:
        return None
    if not control.patch_applied:
        return f"the gold patch does not apply: {_last_line(control.log_tail)}"
    if record.key.has_gold:
        how = "with the gold patch none of its tests is found"
    elif _exit_code(control) in _CANNOT_START:
        how = "the test command cannot be run"
    else:
        return None
    return f"{how} (exit code {_exit_code(control)}); its log ends with: {_last_line(control.log_tail)}"


def _exit_code(verdict: Verdict) -> int | None:
    return verdict.exit_code if verdict.test_exit_code is None else verdict.test_exit_code


def _last_line(log: str) -> str:
    """The last line of a log that is neither empty, nor the shell's trace, nor ours."""
    return next(_said(log), "(it is empty)")


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
