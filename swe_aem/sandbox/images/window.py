"""`ImageWindow`: brings the images of many tasks onto an engine in the order of their use, within a limit of space.

    needed later ──pulled, one at a time, as far ahead as there is space──> there ──used──> done ──> removed for others

Removed are only images that were pulled in this way, by this process or an earlier one: the ledger has them as `bench`.
What a removal would free is what no other of these images needs, because layers are shared. Images are pulled strictly
in order, so whoever waits for one waits only for those before it, which are in use and end.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

from swe_aem.errors import InfrastructureError
from swe_aem.sandbox.images.collect import Collector, removal_order
from swe_aem.sandbox.images.engine import Engine, EngineError
from swe_aem.sandbox.images.failures import PullFailure
from swe_aem.sandbox.images.ledger import Ledger, LedgerEntry
from swe_aem.sandbox.images.pull import Puller, Want
from swe_aem.sandbox.images.reference import Reference, canonical
from swe_aem.sandbox.images.sizes import size
from swe_aem.sandbox.images.stock import StoredImage, engine_stock

_RECENT = 10
"""The next image is expected to add no more than the largest of so many before it."""


class BroughtImages:
    """The images that were pulled for a window, and the kept layers on them."""

    def __init__(self, engine: Engine, ledger: Ledger) -> None:
        self._engine = engine
        self._ledger = ledger
        self._layers: dict[str, dict[str, int]] = {}

    async def stock(self) -> list[StoredImage]:
        """Every such image, and every layer on one."""
        found = await engine_stock(self._engine, self._ledger, _brought)
        ids = {item.image_id for item in found if item.ours and item.layer_of is None}
        return [item for item in found if item.ours and (item.layer_of is None or item.layer_of in ids)]

    async def held_bytes(self) -> int:
        """Bytes on disk that they hold, shared layers counted once."""
        layers: dict[str, int] = {}
        for item in await self.stock():
            layers |= await self.layers(item.image_id or item.names[0])
        return sum(layers.values())

    async def layers(self, image_id: str) -> Mapping[str, int]:
        """Sizes of an image's layers in bytes, by a key that images share."""
        if image_id not in self._layers:
            self._layers[image_id] = await self._engine.layer_sizes(image_id)
        return self._layers[image_id]


class ImageWindow:
    """The images that are on the engine now, among those of `wanted`."""

    def __init__(
        self,
        engine: Engine,
        puller: Puller,
        ledger: Ledger,
        wanted: Mapping[str, int],
        *,
        limit_bytes: int | None,
        ahead: int,
        forget: Callable[[str], None] = lambda image: None,
        look_again_s: float = 5.0,
        patience_s: float = 180.0,
    ) -> None:
        """`wanted` is image to the number of its users, in the order of use. At most `ahead` images are there that
        nobody has asked for yet. `forget` is called with an image that has no user left. Other processes free space
        without telling, so whoever waits for it looks again every `look_again_s` seconds. An engine that does not
        answer is waited for `patience_s` seconds."""
        self._engine = engine
        self._puller = puller
        self._ledger = ledger
        self._brought = BroughtImages(engine, ledger)
        self._collector = Collector(engine, ledger, Ledger.of_roots())
        self._place = {image: place for place, image in enumerate(wanted)}
        self._left = dict(wanted)
        self._limit_bytes = limit_bytes
        self._most_ahead = ahead
        self._forget = forget
        self._look_again_s, self._patience_s = look_again_s, patience_s
        self._outcomes: dict[str, str | None] = {}
        self._asked: set[str] = set()
        self._reserved: set[str] = set()
        self._recent: deque[int] = deque([0], maxlen=_RECENT)
        self._bell = asyncio.Event()
        self._bringing: asyncio.Task[None] | None = None
        self._tell: Callable[[str], None] = lambda text: None
        self.downloaded_bytes = 0
        """Compressed bytes that were downloaded."""

    @asynccontextmanager
    async def open(self, tell: Callable[[str], None]) -> AsyncIterator[None]:
        """Bring images for the length of an `async with`; `tell` is told of each that comes or goes."""
        self._tell = tell
        self._bringing = asyncio.create_task(self._bring_all())
        self._bringing.add_done_callback(lambda _: self._ring())
        try:
            yield
        finally:
            self._bringing.cancel()
            await asyncio.gather(self._bringing, return_exceptions=True)  # who waits for an image has its error
            for image in tuple(self._reserved):
                self._give_up(image)

    async def bring(self, image: str) -> str | None:
        """Wait until an image is there; None, or why it cannot be had. Raises what ended the bringing of images."""
        assert self._bringing is not None
        self._asked.add(image)
        self._ring()
        while image not in self._outcomes:
            if self._bringing.done():
                self._bringing.result()
            await self._bell.wait()
        return self._outcomes[image]

    def release(self, image: str) -> None:
        """One of an image's users is done."""
        self._left[image] -= 1
        if self._left[image] == 0:
            self._forget(image)
            self._give_up(image)
            self._ring()

    def _ring(self) -> None:
        """Wake everybody who waits for a change."""
        self._bell.set()
        self._bell = asyncio.Event()

    async def _bring_all(self) -> None:
        for image in self._place:
            self._outcomes[image] = await self._obtain_patiently(image)
            if self._outcomes[image] is not None:
                self._give_up(image)
            self._ring()

    async def _obtain_patiently(self, image: str) -> str | None:
        """`_obtain`, again and again while no engine answers, as where it is being started again."""
        gone_since_s = None
        while True:
            try:
                return await self._obtain(image)
            except EngineError:
                raise
            except InfrastructureError as error:
                now_s = time.monotonic()
                if gone_since_s is None:
                    gone_since_s = now_s
                    self._told(f"{image} waits for the engine ({error})", None)
                if now_s - gone_since_s >= self._patience_s:
                    raise
            await self._change()

    async def _obtain(self, image: str) -> str | None:
        """Bring one image when it is its turn; None, or why it cannot be had."""
        while len(self._outcomes.keys() - self._asked) >= self._most_ahead:
            await self._bell.wait()
        await self._reserve(image)
        if await self._engine.inspect(image) is not None:
            self._ledger.use(image)
            return None
        need = max(self._recent)
        while True:
            await self._make_room(min(need, self._limit_bytes or 0), image)
            before = await self._brought.held_bytes()
            result = await self._puller.pull(Want(reference=Reference.parse(image)))
            self.downloaded_bytes += result.downloaded_bytes
            if result.failure is PullFailure.NO_SPACE and await self._remove_one():
                self._puller.space_was_freed()
                continue
            if result.status == "failed":
                return f"{result.failure}: {result.why}"
            held = await self._brought.held_bytes()
            need = max(0, held - before)
            own = sum((await self._brought.layers(result.image_id or image)).values())
            if await self._fits():
                self._recent.append(need)
                self._told(f"{image} is there ({size(own)} in {result.wall_s:.0f} s)", await self._brought.held_bytes())
                return None
            await self._drop(image)
            if self._limit_bytes is not None and own > self._limit_bytes:
                return f"it takes {size(own)}, and all images together may take {size(self._limit_bytes)} (--disk)"

    async def _fits(self) -> bool:
        """Is what is on the engine within the limit, once what nobody needs has been removed?"""
        while self._limit_bytes is not None and await self._brought.held_bytes() > self._limit_bytes:
            if not await self._remove_one():
                return False
        return True

    async def _make_room(self, need_bytes: int, image: str) -> None:
        """Wait until so many bytes are free within the limit; remove what nobody needs for that."""
        told = False
        while self._limit_bytes is not None:
            held = await self._brought.held_bytes()
            if held + need_bytes <= self._limit_bytes:
                return
            if await self._remove_one():
                continue
            if not told and not self._in_use():
                told = True
                self._told(f"{image} waits for images that another run or a container uses", held)
            await self._change()

    def _in_use(self) -> bool:
        """Does a user of this window have an image, or may have one?"""
        return any(why is None and self._left[image] for image, why in self._outcomes.items())

    async def _change(self) -> None:
        """Wait until something may have changed."""
        try:
            async with asyncio.timeout(self._look_again_s):
                await self._bell.wait()
        except TimeoutError:
            return

    async def _remove_one(self) -> bool:
        """Remove an image or layer that nobody needs now: first what is not wanted any more, least recently used
        first, then what is wanted last. False if there is none."""
        for image, left in self._left.items():
            if left == 0:  # once more: making a layer may have outlived the task that asked for it
                self._forget(image)
        stock = await self._brought.stock()
        needed = {canonical(image) for image in self._reserved}
        wanted_at = {canonical(image): place for image, place in self._place.items() if self._left[image] > 0}
        ranks: dict[str | None, int] = {}
        for item in stock:
            names = {canonical(name) for name in item.names}
            if item.layer_of is None and not names & needed:
                ranks[item.image_id] = -max(
                    (wanted_at[name] for name in names & wanted_at.keys()), default=len(self._place)
                )
        order = [item for item in removal_order(stock) if (item.layer_of or item.image_id) in ranks]
        order.sort(key=lambda item: ranks[item.layer_of or item.image_id])
        for item in order:
            removal = await self._collector.remove(item)
            if removal.outcome == "removed":
                self._told(f"{item.names[0]} is removed", await self._brought.held_bytes())
                return True
        return False

    async def _drop(self, image: str) -> None:
        """Remove an image that turned out larger than the space that is left."""
        self._give_up(image)
        for item in removal_order(await self._brought.stock()):
            if canonical(image) in {canonical(name) for name in item.names}:
                await self._collector.remove(item)
        self._told(f"{image} is larger than those before it: it is pulled again when there is space", None)
        await self._reserve(image)

    async def _reserve(self, image: str) -> None:
        self._reserved.add(image)
        await self._ledger.reserve(image)

    def _give_up(self, image: str) -> None:
        self._reserved.discard(image)
        self._ledger.release(image)

    def _told(self, text: str, held_bytes: int | None) -> None:
        of = "" if held_bytes is None or self._limit_bytes is None else f" of {size(self._limit_bytes)}"
        held = "" if held_bytes is None else f"; images take {size(held_bytes)}{of}"
        self._tell(f"image {text}{held}")


def _brought(name: str, entry: LedgerEntry | None) -> bool:
    return entry is not None and entry.origin in ("bench", "layer")
