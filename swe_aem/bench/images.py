"""`TaskImages`: the images of a run's tasks as its supply, on a docker or podman engine."""

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from swe_aem.bench.plan import ImagePlan
from swe_aem.core import TaskRecord
from swe_aem.errors import UserError
from swe_aem.sandbox.engines import ENGINES, EngineName
from swe_aem.sandbox.images.collect import measure
from swe_aem.sandbox.images.engine import Engine, connect
from swe_aem.sandbox.images.ledger import Ledger
from swe_aem.sandbox.images.names import BUILT_HERE
from swe_aem.sandbox.images.pull import Puller
from swe_aem.sandbox.images.recipes import how_to_get
from swe_aem.sandbox.images.registries import load_credentials, load_registries
from swe_aem.sandbox.images.window import BroughtImages, ImageWindow

FREE_SHARE = 0.8
"""Share of the free disk that images take where no limit is given."""


class TaskImages:
    """The images of tasks; a `TaskSupply`."""

    def __init__(self, window: ImageWindow) -> None:
        self._window = window

    def open(self, tell: Callable[[str], None]) -> AbstractAsyncContextManager[None]:
        """Bring images for the length of an `async with`."""
        return self._window.open(tell)

    async def bring(self, record: TaskRecord) -> str | None:
        """Wait for the task's image; None, or why it cannot be had."""
        why = await self._window.bring(record.task.image)
        return None if why is None else f"its image {record.task.image} cannot be had: {why}"

    def release(self, record: TaskRecord) -> None:
        """The task is done with its image."""
        self._window.release(record.task.image)


def by_image(records: Iterable[TaskRecord]) -> list[TaskRecord]:
    """The tasks in their order, but those of one image together."""
    groups: dict[str, list[TaskRecord]] = {}
    for record in records:
        groups.setdefault(record.task.image, []).append(record)
    return [record for group in groups.values() for record in group]


@asynccontextmanager
async def task_images(
    name: EngineName,
    records: Sequence[TaskRecord],
    *,
    forget: Callable[[str], None],
    disk_bytes: int | None,
    ahead: int,
    mirrors: Sequence[str],
) -> AsyncIterator[tuple[TaskImages, ImagePlan]]:
    """The images of tasks that are worked on in this order, and what they need.

    `disk_bytes` limits what the pulled ones take, by default a share of what is free where the engine is on this host.
    `forget` is called with an image that no task needs any more.
    Raises `UserError` if an image is missing that no registry has, or no engine answers.
    """
    wanted: dict[str, int] = {}
    for record in records:
        wanted[record.task.image] = wanted.get(record.task.image, 0) + 1
    registries = load_registries(mirrors)
    async with connect(ENGINES[name]) as engine:
        ledger = Ledger.of_engine(engine.kind)
        puller = Puller(engine, ledger, registries=registries, credentials=load_credentials(), origin="bench")
        plan = await _plan(engine, ledger, wanted, disk_bytes)
        window = ImageWindow(
            engine,
            puller,
            ledger,
            wanted,
            limit_bytes=plan.limit_bytes,
            ahead=ahead,
            forget=forget,
        )
        yield TaskImages(window), plan


async def _plan(engine: Engine, ledger: Ledger, wanted: dict[str, int], disk_bytes: int | None) -> ImagePlan:
    missing = [image for image in wanted if await engine.inspect(image) is None]
    for image in missing:
        if image.startswith(BUILT_HERE):
            raise UserError(
                f"the {engine.kind.name} engine has no image {image}, and no registry has it: get it with "
                f"{how_to_get(image, engine.kind.name)}"
            )
    disk = await engine.data_root()
    free_bytes = None if disk is None else measure(disk).free
    limit_bytes = disk_bytes
    if limit_bytes is None and free_bytes is not None:
        limit_bytes = int((free_bytes + await BroughtImages(engine, ledger).held_bytes()) * FREE_SHARE)
    present = len(wanted) - len(missing)
    return ImagePlan(needed=len(wanted), present=present, limit_bytes=limit_bytes, free_bytes=free_bytes, disk=disk)
