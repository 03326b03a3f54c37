"""A wait that ends by a deadline, and says what was waited for."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from swe_aem.core import Deadline
from swe_aem.errors import InfrastructureError


@asynccontextmanager
async def bounded(
    what: str, deadline: Deadline, error: type[InfrastructureError] = InfrastructureError
) -> AsyncIterator[None]:
    """Cancel the body at the deadline and raise `error`, "<what> took longer than N s", in its place."""
    limit_s = deadline.remaining_s()
    timeout = asyncio.timeout(limit_s)
    try:
        async with timeout:
            yield
    except TimeoutError as caught:
        if not timeout.expired():
            raise
        raise error(f"{what} took longer than {limit_s:.1f} s") from caught
