"""Prepared starts as files: the history of each task's repository is scrubbed once, for all hosts that run the task."""

import asyncio
from collections.abc import Callable
from typing import NamedTuple

from swe_aem.core import TaskRecord
from swe_aem.grading import StartLayers
from swe_aem.rollout.budget import sandbox_spec
from swe_aem.rollout.config import RolloutConfig
from swe_aem.sandbox.bubblewrap import BubblewrapBackend
from swe_aem.sandbox.images.pack.writers import open_draft, write_layer
from swe_aem.sandbox.layers import layer_dir
from swe_aem.sandbox.packed import PackedDir
from swe_aem.tasks import TaskSet


class PackedStarts(NamedTuple):
    """Numbers of starts, two for a task that hides something from its agent only."""

    packed: int
    """Written now."""
    present: int
    """There already."""
    quick: int
    """Prepared in so short a time that every sandbox does it; or they could not be kept, which was logged."""


async def pack_starts(
    config: RolloutConfig, tasks: TaskSet, packed: PackedDir, tell: Callable[[str], None] = lambda text: None
) -> PackedStarts:
    """Prepare the starts of tasks whose image is packed, as a rollout with `config` does, and pack what that wrote.

    Sandboxes of bubblewrap with the same settings start on these files, wherever they are. Raises `UserError` if this
    host cannot open sandboxes.
    """
    counts = {"packed": 0, "present": 0, "quick": 0}
    backend = BubblewrapBackend(packed=packed)
    async with backend, StartLayers(backend) as layers:
        for record in tasks:
            if packed.find(record.task.image) is None or tasks.workspace(record.task.id) is not None:
                continue
            for role in ("agent", "grader"):
                spec = sandbox_spec(config, record, 0, run="pack", role=role, workspace=None)
                key = (await layers.choose(spec, record, role)).layer
                if key is not None and not await asyncio.to_thread(packed.start_is_sound, key):
                    packed.forget_start(key)  # or sandboxes would start on a damaged one
                    key = (await layers.choose(spec, record, role)).layer
                what = "quick" if key is None else await _pack(packed, record, key)
                if what == "packed":
                    tell(f"{record.task.id}: the start of its {role} is packed")
                counts[what] += role == "agent" or key is not None
    return PackedStarts(**counts)


async def _pack(packed: PackedDir, record: TaskRecord, key: str) -> str:
    image = packed.find(record.task.image)
    if packed.has_start(key):
        return "present"
    assert image is not None
    async with open_draft(packed.path / ".drafts") as draft:
        await write_layer(layer_dir(image.stem, key) / "upper", draft / "start")
        await asyncio.to_thread(packed.keep_start, key, draft / "start")
    return "packed"
