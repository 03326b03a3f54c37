"""`ImageFetches`: brings images to a host before groups that wait there have places.

A few come at a time. One that no group waits for any more is not fetched to its end, unless a job has begun with it and
its sandbox waits for the same file. A fetch that fails is told of and not repeated: the sandbox tries, and says what is
missing.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection

from swe_aem.errors import SweAemError
from swe_aem.rollout.breaker import describe

_AT_ONCE = 2


class ImageFetches:
    """The images of one host. For one event loop."""

    def __init__(self, fetch: Callable[[str], Awaitable[None]], tell: Callable[[str], None]) -> None:
        """`fetch` brings an image here; it may raise `SweAemError` and `OSError`."""
        self._fetch, self._tell = fetch, tell
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._wanted: dict[str, asyncio.Task[None]] = {}
        """Fetches of images that groups wait for, also those that are over."""
        self._begun: set[asyncio.Task[None]] = set()
        """Fetches of images with which a job has begun."""

    def want(self, images: Collection[str]) -> None:
        """Groups wait for these, and for no others."""
        for image in [one for one in self._wanted if one not in images]:
            self._wanted.pop(image).cancel()
        for image in images:
            if image not in self._wanted:
                self._wanted[image] = asyncio.create_task(self._bring(image))

    def begin(self, image: str) -> None:
        """A job begins with the image."""
        fetching = self._wanted.get(image)
        if fetching is not None and not fetching.done():
            self._begun.add(self._wanted.pop(image))
            fetching.add_done_callback(self._begun.discard)

    async def close(self) -> None:
        """End what is under way."""
        ending = [*self._wanted.values(), *self._begun]
        for fetching in ending:
            fetching.cancel()
        if ending:
            await asyncio.wait(ending)

    async def _bring(self, image: str) -> None:
        async with self._slots:
            try:
                await self._fetch(image)
            except (SweAemError, OSError) as error:
                self._tell(f"fetching the image {image} failed: {describe(error)}")
