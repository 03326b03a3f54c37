"""`StartLayers`: the start of a task is prepared once for each image, and kept as a layer that sandboxes start on.

Preparing takes seconds where a repository has thousands of commits that an agent must not see. The first sandbox of a
task is therefore prepared apart. If that took long, what it wrote is kept on top of the image, after the proof that
nothing later than HEAD is left; if not, the start is noted as a quick one, and each sandbox prepares itself.
"""

import asyncio
import hashlib
import json
import logging
import os
import time
from collections.abc import Callable
from typing import Literal, NamedTuple

from swe_aem.core import Deadline, SandboxBackend, SandboxSpec, TaskRecord, bounded
from swe_aem.core.quick_starts import is_quick, mark_quick
from swe_aem.core.shared_work import SharedWork
from swe_aem.errors import InfrastructureError, UserError
from swe_aem.grading.prepare import needs_preparing, prepare_for_agent, prepare_for_grading
from swe_aem.grading.scrub import MAX_SETUP_COMMITS
from swe_aem.grading.shell import script_text

logger = logging.getLogger(__name__)

NOTICEABLE_S = 0.3
"""A preparation that takes this long, in seconds, is kept."""
_MAKING_LIMIT_S = 900.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 30.0, 1800.0
"""Seconds until a layer that could not be made is tried again: the pause doubles with each failure in a row."""

Role = Literal["agent", "grader"]


class _QuickEnough(Exception):
    """Ends the making of a layer that is not worth its space."""


class _Pause(NamedTuple):
    """No layer of a start is made until `until_s`, after `failures` in a row."""

    failures: int = 0
    until_s: float = 0.0


class StartLayers:
    """Chooses the layer that a sandbox starts on, and makes it the first time. One for a backend and process; an async
    context manager, which ends the making of layers that are not ready.

    Sandboxes of one start that are asked for at once wait for one layer. It is made even if none of them waits longer.
    """

    def __init__(self, backend: SandboxBackend, clock: Callable[[], float] = time.monotonic) -> None:
        self._backend = backend
        self._clock = clock
        self._looking: SharedWork[bool] = SharedWork()
        self._never: set[str] = set()
        self._pauses: dict[str, _Pause] = {}

    async def __aenter__(self) -> "StartLayers":
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._looking.__aexit__(*exc)

    async def choose(self, spec: SandboxSpec, record: TaskRecord, role: Role) -> SandboxSpec:
        """`spec`, on a kept layer if preparing its sandbox for `role` takes long. Never raises for want of a layer:
        then the sandbox prepares itself. Raises `UserError` if the image is missing."""
        if spec.workspace is not None or (role == "grader" and not needs_preparing(record)):
            return spec
        key = layer_key(f"{self._backend.name} {await self._backend.image_digest(spec.image)}", spec, record, role)
        wanted = spec.model_copy(update={"layer": key})
        if key in self._never or self._clock() < self._pauses.get(key, _Pause()).until_s:
            return spec
        return wanted if await self._looking.of(key, lambda: self._is_there(key, wanted, record, role)) else spec

    async def _is_there(self, key: str, wanted: SandboxSpec, record: TaskRecord, role: Role) -> bool:
        """Is the layer there, made now if it was not?"""
        try:
            async with bounded("making it", Deadline.after(_MAKING_LIMIT_S)):
                there = await self._found_or_made(key, wanted, record, role)
        except (InfrastructureError, OSError, UserError) as error:
            failures = self._pauses.get(key, _Pause()).failures + 1
            pause_s = min(_FIRST_PAUSE_S * 2 ** (failures - 1), _LONGEST_PAUSE_S)
            self._pauses[key] = _Pause(failures, self._clock() + pause_s)
            logger.warning(
                "the prepared start of %s is not kept, so each sandbox prepares itself; tried again after %.0f s: %s. "
                "If a disk is full, run `swe-aem images gc`",
                record.task.id,
                pause_s,
                error,
            )
            return False
        self._pauses.pop(key, None)
        return there

    async def _found_or_made(self, key: str, wanted: SandboxSpec, record: TaskRecord, role: Role) -> bool:
        if is_quick(key):
            return False
        found = await self._backend.has_layer(wanted)
        if found is None:
            self._never.add(key)
        return found or (found is False and await self._make(wanted, record, role))

    async def _make(self, wanted: SandboxSpec, record: TaskRecord, role: Role) -> bool:
        """Prepare a sandbox of its own; was the result kept?"""
        own = wanted.model_copy(update={"labels": {"role": "layer"}})
        try:
            async with self._backend.make_layer(own) as sandbox:
                started_s = time.monotonic()
                if role == "agent":
                    await prepare_for_agent(sandbox, record)
                else:
                    await prepare_for_grading(sandbox, record, wanted.workdir)
                if time.monotonic() - started_s < NOTICEABLE_S:
                    raise _QuickEnough
        except _QuickEnough:
            assert wanted.layer is not None
            await asyncio.to_thread(mark_quick, wanted.layer)
            return False
        return True


def layer_key(image: str, spec: SandboxSpec, record: TaskRecord, role: Role) -> str:
    """Name of a prepared start: a digest of everything that preparing depends on, our scripts included.

    `image` is the backend's name and its digest of the image.
    """
    scripts = [script_text(name) for name in ("git_env.sh", "prepare.sh", "scrub.sh")]
    task, key = record.task, record.key
    start = [image, task.base_commit, key.setup_patch, sorted(key.hidden), spec.workdir]
    how = [role, spec.user, sorted(spec.capabilities), os.geteuid(), MAX_SETUP_COMMITS, *scripts]
    return hashlib.sha256(json.dumps([start, how]).encode("utf-8", "surrogatepass")).hexdigest()[:32]
