"""`TaskSupply`: what brings tasks within reach, e.g. their images, while a run works through them."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from swe_aem.core import TaskRecord


class TaskSupply(Protocol):
    """Brings what the sandboxes of tasks are made of, in the order of the run's groups, and takes it away again."""

    def open(self, tell: Callable[[str], None]) -> AbstractAsyncContextManager[None]:
        """Bring and take away for the length of an `async with`; `tell` is told what a person should know."""
        ...

    async def bring(self, record: TaskRecord) -> str | None:
        """Wait until the task can be worked on; None, or why it cannot, so that it is left out."""
        ...

    def release(self, record: TaskRecord) -> None:
        """Note that no sandbox of the task is needed any more."""
        ...
