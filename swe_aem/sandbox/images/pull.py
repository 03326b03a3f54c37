"""Pulling many images, with limits, stall detection, retries and pins.

    wanted ──(present on the engine? checked, done)──> mirror 1 ──> mirror 2 ──> its own registry
                                                          each: attempts until it works or is hopeless

A pull is stalled when no layer moves: the engine downloads a few layers at a time, and a pull whose layers only wait
for their turn is not stalled while another one moves.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from docker.auth import AuthConfig

from swe_aem.core.base import Frozen
from swe_aem.errors import UserError
from swe_aem.sandbox.images.engine import EngineError, EngineImage
from swe_aem.sandbox.images.failures import FINAL, PullError, PullFailure, classify, retry_after_s
from swe_aem.sandbox.images.layers import Layers
from swe_aem.sandbox.images.ledger import Ledger, LedgerEntry
from swe_aem.sandbox.images.reference import Reference
from swe_aem.sandbox.images.registries import Registries, credentials_for
from swe_aem.sandbox.images.registry_wait import asked_wait_s
from swe_aem.sandbox.images.request_gate import Backoff, RequestGate

Phase = Literal["queued", "pulling", "waiting", "present", "pulled", "failed"]


class PullConfig(Frozen):
    """Limits of a pull: how many at once, how long, how often."""

    jobs: int = 4
    """Pulls at once. The engine limits its downloads of layers, too (`max-concurrent-downloads`, 3 by default)."""
    stall_s: float = 120.0
    """Seconds without progress after which a pull is stopped and tried again."""
    image_s: float = 3600.0
    """Seconds for one image in all, without the waits that a registry imposes."""
    attempts: int = 4
    """Attempts for one image at one registry. A rate limit does not count as an attempt."""
    rate_limit_s: float = 6.5 * 3600
    """Seconds of imposed waits per image. Docker Hub's window is six hours (https://docs.docker.com/docker-hub/usage/)."""
    backoff: Backoff = Backoff()


class Want(Frozen):
    """An image to pull."""

    reference: Reference
    digest: str | None = None
    """Digest that the manifest must have; None for whatever the registry serves."""
    image_id: str | None = None
    """Id that the image must have on the engine, e.g. the one that a preflight check ran in."""


@dataclass
class PullState:
    """The state of one image, for a progress display."""

    reference: Reference
    phase: Phase = "queued"
    layers: Layers = field(default_factory=Layers)
    note: str = ""
    """What it waits for, or why it was tried again."""
    attempts: int = 0
    began_s: float = 0.0


class Pulled(Frozen):
    """The result of pulling one image."""

    reference: str
    status: Literal["present", "pulled", "failed"]
    image_id: str | None = None
    digest: str | None = None
    """Digest of the manifest; None if it is unknown, e.g. for an image that was built."""
    size_bytes: int = 0
    downloaded_bytes: int = 0
    source: str | None = None
    """Registry or mirror that it came from."""
    attempts: int = 0
    wall_s: float = 0.0
    failure: PullFailure | None = None
    why: str = ""
    """One sentence, if it failed."""


@dataclass
class _Source:
    """A registry that may have the image, and how often it may still be asked."""

    reference: Reference
    gate: RequestGate
    attempts_left: int
    not_before_s: float = float("-inf")
    error: PullError | None = None

    @property
    def live(self) -> bool:
        return self.attempts_left > 0 and self.gate.down is None

    @property
    def wait_s(self) -> float:
        return max(self.gate.wait_s, self.not_before_s - time.monotonic(), 0.0)


@dataclass(eq=False)
class _Attempt:
    """A pull that is under way, and when it counts as stalled."""

    layers: Layers
    limit: asyncio.Timeout
    stall_s: float

    def moved(self) -> None:
        self.limit.reschedule(asyncio.get_running_loop().time() + self.stall_s)


class PullTarget(Protocol):
    """Where images are pulled to: an engine, or a directory in which they are packed."""

    @property
    def place(self) -> str:
        """How errors call it."""
        ...

    def how_to_remove(self, reference: Reference) -> str:
        """What a user does to be rid of an image."""
        ...

    async def inspect(self, name: str) -> EngineImage | None:
        """One image by name; None if there is none."""
        ...

    def pull(self, reference: Reference, auth: Mapping[str, str] | None) -> AsyncIterator[dict[str, Any]]:
        """Messages about the pull, as docker's engine sends them; raises `EngineError` and `PullError`."""
        ...

    async def tag(self, name: str, reference: Reference) -> None:
        """Give an image, by its id, another name."""
        ...

    async def remove(self, name: str) -> None:
        """Take a name from an image; one that is gone already is no error."""
        ...


class Puller:
    """Pulls to one place. `rows` shows the progress of each image at any time."""

    def __init__(
        self,
        engine: PullTarget,
        ledger: Ledger,
        *,
        config: PullConfig | None = None,
        registries: Registries | None = None,
        credentials: AuthConfig | None = None,
        origin: Literal["pull", "bench"] = "pull",
    ) -> None:
        """`origin` is noted with each image: `pull` for one that is wanted for good."""
        self._engine = engine
        self._ledger = ledger
        self.config = config or PullConfig()
        self._registries = registries or Registries()
        self._credentials = credentials if credentials is not None else AuthConfig({})
        self._gates: dict[str, RequestGate] = {}
        self._under_way: set[_Attempt] = set()
        self._full: PullError | None = None
        self._origin: Literal["pull", "bench"] = origin
        self.rows: dict[str, PullState] = {}

    async def pull_all(
        self, wants: Iterable[Want], tell: Callable[[Pulled], None] = lambda result: None
    ) -> list[Pulled]:
        """Pull each image once, in the order given; `tell` is called with each result as it comes.

        Failures are results. Every image is held until all are done, so that no collection of disk space removes it.
        Raises `InfrastructureError` if the engine fails.
        """
        unique = {str(want.reference): want for want in wants}
        self.rows = {name: PullState(want.reference) for name, want in unique.items()}
        slots = asyncio.Semaphore(self.config.jobs)

        async def one(name: str, want: Want) -> Pulled:
            async with slots:
                await holds.enter_async_context(self._ledger.hold(name))
                result = await self.pull(want)
            tell(result)
            return result

        async with AsyncExitStack() as holds:
            try:
                async with asyncio.TaskGroup() as group:
                    tasks = [group.create_task(one(name, want)) for name, want in unique.items()]
            except ExceptionGroup as errors:  # the first error; the others follow from its cancellation
                raise errors.exceptions[0] from None
        return [task.result() for task in tasks]

    async def pull(self, want: Want) -> Pulled:
        """Pull one image unless the engine has it; a failure is a result."""
        row = self.rows.setdefault(str(want.reference), PullState(want.reference))
        row.began_s = time.monotonic()
        try:
            present = await self._engine.inspect(want.reference.familiar)
            if present is not None:
                digest = self._digest_of(want, present)
                self._check(want, present, digest, self._engine.place)
                row.phase = "present"
                self._seen(str(want.reference))
                return self._result(row, "present", present, digest=digest)
            if self._full is not None:
                raise self._full
            image, source = await self._obtain(want, row)
        except PullError as error:
            row.phase, row.note = "failed", error.said
            if error.kind is PullFailure.NO_SPACE:
                self._full = error
            return self._result(row, "failed", failure=error.kind, why=error.said)
        row.phase, row.note = "pulled", ""
        digest = row.layers.digest or want.digest
        name = str(want.reference)
        entry = LedgerEntry(
            name=name, origin=self._origin, image_id=image.id, digest=digest, size_bytes=image.size_bytes
        )
        self._ledger.record(entry)
        return self._result(row, "pulled", image, digest=digest, source=str(source.registry))

    def space_was_freed(self) -> None:
        """Try again after the engine's disk was full."""
        self._full = None

    def _seen(self, name: str) -> None:
        """Note that an image which is there was asked for: one that `bench` brought now stays, if that is wanted."""
        entry = self._ledger.entry(name)
        if entry is not None and entry.origin == "bench" and self._origin == "pull":
            self._ledger.record(entry.model_copy(update={"origin": "pull"}))
        else:
            self._ledger.touch(name)

    def _digest_of(self, want: Want, image: EngineImage) -> str | None:
        """The manifest's digest of an image that is on the engine: as pinned if that is one of those it is known by.
        The engine forgets it for an image from a mirror; the ledger does not."""
        known = _digests(image, want.reference)
        entry = self._ledger.entry(str(want.reference))
        if entry is not None and entry.digest is not None and entry.image_id == image.id:
            known.append(entry.digest)
        return want.digest if want.digest in known else next(iter(known), None)

    def _result(
        self, row: PullState, status: Literal["present", "pulled", "failed"], image: EngineImage | None = None, **facts
    ) -> Pulled:
        return Pulled(
            reference=row.reference.familiar,
            status=status,
            image_id=image.id if image else None,
            size_bytes=image.size_bytes if image else 0,
            downloaded_bytes=row.layers.done_bytes,
            attempts=row.attempts,
            wall_s=time.monotonic() - row.began_s,
            **facts,
        )

    # -- one image, many sources --------------------------------------------------------------------------------------

    async def _obtain(self, want: Want, row: PullState) -> tuple[EngineImage, Reference]:
        """Ask the sources until one has served the image; raises `PullError` with what each of them said."""
        sources = [
            _Source(reference, self._gate(reference.registry), self.config.attempts)
            for reference in self._registries.sources(want.reference)
        ]
        spent_s = waited_s = 0.0
        while any(source.live for source in sources):
            source = min((source for source in sources if source.live), key=lambda source: source.wait_s)
            if source.wait_s > 0:  # every other source has to wait longer
                limited = source.gate.wait_s > 0 and source.gate.reason == "rate limit"
                waited_s += await self._wait(source, row, self.config.rate_limit_s - waited_s if limited else None)
                continue
            began_s = time.monotonic()
            try:
                image = await self._attempt(want, source.reference, row, self.config.image_s - spent_s)
                source.gate.answered()
                return image, source.reference
            except PullError as error:
                await self._note(source, error, began_s, row)
            finally:
                spent_s += time.monotonic() - began_s
        raise _worst(sources)

    async def _note(self, source: _Source, error: PullError, began_s: float, row: PullState) -> None:
        """Decide what follows from a failed attempt: a pause, or no more attempts at that registry."""
        source.error = error
        row.note = f"{source.reference.registry}: {error}"
        if error.kind in (PullFailure.NO_SPACE, PullFailure.TIMED_OUT):
            raise error
        if error.kind is PullFailure.RATE_LIMITED:
            asked_s = retry_after_s(error.said)
            source.gate.rate_limited(began_s, asked_s if asked_s is not None else await asked_wait_s(source.reference))
        elif error.kind is PullFailure.UNREACHABLE:
            source.gate.unreachable(began_s, error)
        elif error.kind in FINAL:
            source.attempts_left = 0
        else:
            source.attempts_left -= 1
            backoff = self.config.backoff
            tried = self.config.attempts - source.attempts_left
            source.not_before_s = time.monotonic() + backoff.after(tried, backoff.first_s)

    async def _wait(self, source: _Source, row: PullState, at_most_s: float | None) -> float:
        """Sleep until a source may be asked again; returns the seconds that count as imposed by a rate limit."""
        wait_s = source.wait_s
        if at_most_s is not None and wait_s > at_most_s:
            raise PullError(
                PullFailure.RATE_LIMITED,
                f"{source.reference.registry} asks for {wait_s:.0f} s more, past the limit of "
                f"{self.config.rate_limit_s:.0f} s (--patience); log in, add a --mirror, or try later",
            )
        row.phase = "waiting"
        await asyncio.sleep(wait_s)
        return wait_s if at_most_s is not None else 0.0

    def _gate(self, registry: str) -> RequestGate:
        return self._gates.setdefault(registry, RequestGate(self.config.backoff))

    # -- one attempt --------------------------------------------------------------------------------------------------

    async def _attempt(self, want: Want, source: Reference, row: PullState, left_s: float) -> EngineImage:
        """Let the engine pull from one source, name the image as wanted, and check that it is what was pinned."""
        row.phase, row.layers, row.attempts = "pulling", Layers(), row.attempts + 1
        row.began_s = row.began_s or time.monotonic()
        asked = source if want.digest is None else source.model_copy(update={"tag": None, "digest": want.digest})
        auth = await asyncio.to_thread(_credentials, self._credentials, source.registry)
        had_before = asked != want.reference and await self._engine.inspect(asked.familiar) is not None
        try:
            async with asyncio.timeout(max(0.0, left_s)):
                await self._stream(asked, auth, row)
        except TimeoutError:
            message = f"not pulled within {self.config.image_s:.0f} s (--timeout)"
            raise PullError(PullFailure.TIMED_OUT, message) from None
        image = await self._engine.inspect(asked.familiar)
        if image is None:
            raise PullError(PullFailure.OTHER, f"{self._engine.place} does not have it after the pull")
        known = _digests(image, asked)
        if row.layers.digest is None and len(known) == 1:  # podman does not tell it while it pulls
            row.layers.digest = known[0]
        if asked != want.reference:
            if want.reference.digest is None:
                await self._engine.tag(image.id, want.reference)
            if not had_before and source.registry != want.reference.registry:  # nobody needs the mirror's name
                await self._engine.remove(asked.familiar)
        try:
            self._check(want, image, row.layers.digest or want.digest, source.registry)
        except PullError:
            await self._engine.remove(want.reference.familiar)
            raise
        return image

    def _check(self, want: Want, image: EngineImage, digest: str | None, whose: str) -> None:
        """Raise `PullError` unless the image is the pinned one. An unknown digest is not the pinned one."""
        if want.image_id is not None and image.id != want.image_id:
            raise PullError(
                PullFailure.MOVED,
                f"{whose} has image {image.id[:19]}, pinned is {want.image_id[:19]}: the tag has moved since",
            )
        if want.digest is not None and digest != want.digest:
            raise PullError(
                PullFailure.MOVED,
                f"{whose} has manifest {digest[:19] if digest else 'unknown'}, pinned is {want.digest[:19]}; "
                f"{self._engine.how_to_remove(want.reference)}, or correct the pin",
            )

    async def _stream(self, asked: Reference, auth: Mapping[str, str] | None, row: PullState) -> None:
        """Follow the engine's messages to their end; raises `PullError` if they report a failure, or at a stall."""
        try:
            async with self._watched(row.layers) as attempt:
                async for message in self._engine.pull(asked, auth):
                    if row.layers.feed(message):
                        self._moved(attempt)
        except EngineError as error:
            raise PullError(classify(error.message), error.message) from None

    @asynccontextmanager
    async def _watched(self, layers: Layers) -> AsyncIterator[_Attempt]:
        limit = asyncio.timeout(self.config.stall_s)
        attempt = _Attempt(layers, limit, self.config.stall_s)
        self._under_way.add(attempt)
        try:
            async with limit:
                yield attempt
        except TimeoutError:
            if not limit.expired():
                raise
            done, known = layers.counts
            where = f"{done} of {known} layers done" if known else "before the first layer"
            raise PullError(PullFailure.STALLED, f"nothing moved for {self.config.stall_s:g} s ({where})") from None
        finally:
            self._under_way.discard(attempt)

    def _moved(self, attempt: _Attempt) -> None:
        attempt.moved()
        for other in self._under_way:
            if other.layers.waiting:
                other.moved()


def _credentials(config: AuthConfig, registry: str) -> Mapping[str, str] | None:
    try:
        return credentials_for(config, registry)
    except UserError as error:
        raise PullError(PullFailure.DENIED, str(error)) from None


def _digests(image: EngineImage, reference: Reference) -> list[str]:
    """Digests of the manifests that the engine knows an image by, under the reference's name."""
    name = f"{reference.name}@"
    return [digest.removeprefix(name) for digest in image.digests if digest.startswith(name)]


def _worst(sources: Sequence[_Source]) -> PullError:
    """One error for an image that no source served: the last source's kind, and what each one said."""
    told = []
    for source in sources:
        error = source.error or source.gate.down
        said = error.said if isinstance(error, PullError) else str(error)
        told.append(said if len(sources) == 1 else f"{source.reference.registry}: {said}")
    last = sources[-1].error or sources[-1].gate.down
    assert isinstance(last, PullError)
    return PullError(last.kind, "; ".join(told))
