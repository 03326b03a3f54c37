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
from collections import defaultdict
from typing import Literal

from swe_aem.core import SandboxBackend, SandboxSpec, TaskRecord
from swe_aem.errors import InfrastructureError, UserError
from swe_aem.grading.prepare import PREPARE_TIMEOUT_S, needs_preparing, prepare_for_agent, prepare_for_grading
from swe_aem.grading.scrub import MAX_SETUP_COMMITS
from swe_aem.grading.shell import script_text
from swe_aem.sandbox.layers import is_quick, mark_quick

logger = logging.getLogger(__name__)

NOTICEABLE_S = 0.3
"""A preparation that takes this long, in seconds, is kept."""

Role = Literal["agent", "grader"]


class _QuickEnough(Exception):
    """Ends the making of a layer that is not worth its space."""


class StartLayers:
    """Chooses the layer that a sandbox starts on, and makes it the first time. One for a backend and process.

    Sandboxes of one start that are asked for at once wait for the first of them.
    """

    def __init__(self, backend: SandboxBackend) -> None:
        self._backend = backend
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._given_up: set[str] = set()

    async def choose(
        self, spec: SandboxSpec, record: TaskRecord, role: Role, timeout_s: float = PREPARE_TIMEOUT_S
    ) -> SandboxSpec:
        """`spec`, on a kept layer if preparing its sandbox for `role` takes long. Never raises for want of a layer:
        then the sandbox prepares itself. Raises `UserError` if the image is missing."""
        if spec.workspace is not None or (role == "grader" and not needs_preparing(record)):
            return spec
        key = layer_key(f"{self._backend.name} {await self._backend.image_digest(spec.image)}", spec, record, role)
        wanted = spec.model_copy(update={"layer": key})
        async with self._turns[key]:
            if key in self._given_up or is_quick(key):
                return spec
            try:
                found = await self._backend.has_layer(wanted)
                if found is None:
                    self._given_up.add(key)
                elif found or await self._make(wanted, record, role, timeout_s):
                    return wanted
            except (InfrastructureError, OSError, UserError) as error:
                self._given_up.add(key)
                logger.warning(
                    "the prepared start of %s is not kept, so each sandbox prepares itself: %s. If a disk is full, "
                    "run `swe-aem images gc`",
                    record.task.id,
                    error,
                )
        return spec

    async def _make(self, wanted: SandboxSpec, record: TaskRecord, role: Role, timeout_s: float) -> bool:
        """Prepare a sandbox of its own; was the result kept?"""
        own = wanted.model_copy(update={"labels": {"role": "layer"}})
        try:
            async with self._backend.make_layer(own) as sandbox:
                started_s = time.monotonic()
                if role == "agent":
                    await prepare_for_agent(sandbox, record, timeout_s)
                else:
                    await prepare_for_grading(sandbox, record, wanted.workdir, timeout_s)
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
