"""The limit of a call into a sandbox that should have timed out by itself."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from swe_aem.core import Sandbox
from swe_aem.errors import SandboxDead

SANDBOX_GRACE_S = 30.0
"""How much longer than a command's timeout a sandbox may take to answer before it counts as dead."""


@asynccontextmanager
async def answering(sandbox: Sandbox, wall_s: float) -> AsyncIterator[None]:
    """A block of calls that take at most `wall_s`; raises `SandboxDead` if it takes `SANDBOX_GRACE_S` longer."""
    limit = asyncio.timeout(wall_s + SANDBOX_GRACE_S)
    try:
        async with limit:
            yield
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise SandboxDead(
            f"sandbox {sandbox.id} did not answer {SANDBOX_GRACE_S:g} s after a command's timeout"
        ) from error
