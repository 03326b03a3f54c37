"""`Companion`: a control that does its work in the same seconds as what it is compared with.

A control that runs afterwards proves little: what takes sandboxes may be over by then, and a short control meets it
more rarely than a long grade. A companion starts when the suspect does and lives at least as long, so that whatever
ends sandboxes without regard to what is in them is as likely to end it.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from swe_aem.core import Sandbox
from swe_aem.core.shared_work import ended
from swe_aem.errors import InfrastructureError, SandboxDead
from swe_aem.rollout.breaker import describe
from swe_aem.rollout.controls import Control

logger = logging.getLogger(__name__)


class Companion:
    """A control that was started beside something."""

    def __init__(self, worked: asyncio.Future[Sandbox]) -> None:
        """`worked` has its sandbox once its work is done, or the `InfrastructureError` that its work ended with."""
        self._worked = worked

    async def result(self) -> Control:
        """Did it do its work, and does its sandbox still live? Waits until the work is done."""
        try:
            sandbox = await asyncio.shield(self._worked)
            if not await sandbox.alive():
                raise SandboxDead(f"sandbox {sandbox.id} is gone")
        except InfrastructureError as error:
            return Control(sound=False, why=describe(error))
        return Control(sound=True)


@asynccontextmanager
async def companion(work: Callable[[AsyncExitStack], Awaitable[Sandbox]]) -> AsyncIterator[Companion]:
    """A companion for as long as the block runs. `work` opens a sandbox on the stack, does a control's work in it and
    returns it; it is held until the block ends."""
    worked: asyncio.Future[Sandbox] = asyncio.get_running_loop().create_future()

    async def hold() -> None:
        async with AsyncExitStack() as stack:
            try:
                worked.set_result(await work(stack))
            except Exception as error:  # whoever asks for the result gets it
                worked.set_exception(error)
            await asyncio.Event().wait()

    holding = asyncio.create_task(hold())
    try:
        yield Companion(worked)
    finally:
        holding.cancel()
        try:
            await ended(holding)
        finally:
            if worked.done():
                worked.exception()  # nobody may have asked for it
            if not holding.cancelled() and (failure := holding.exception()) is not None:
                logger.warning("a control did not end well", exc_info=failure)
