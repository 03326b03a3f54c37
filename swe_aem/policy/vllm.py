"""A policy behind one or many vLLM servers: who gets a request, when, and which weights answered it.

    request ──> the server that holds its trajectory's prefix, or the least loaded ──> a slot there ──> tokens
                                        ▲
    watch, every 2 s: alive? figures? still the weights that it should have?  ──> in rotation, or out with a reason

Nothing is sampled twice: a request goes elsewhere only while no server can have sampled for it; one whose server
breaks, hangs or is restarted fails with the cause. Inside `switch` nothing is in flight and requests that arrive wait,
so no response has two versions.
"""

import asyncio
import itertools
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Annotated

from pydantic import Field

from swe_aem.core import Completion, Policy, SamplingParams
from swe_aem.core.base import Frozen
from swe_aem.errors import PolicyError, UserError
from swe_aem.policy.completions import CompletionsConfig, CompletionsPolicy, open_completions
from swe_aem.policy.entropy import TOP
from swe_aem.policy.errors import ContextOverflow, NothingSampled
from swe_aem.policy.slots import Load, Slots, adapted
from swe_aem.policy.vllm_control import Control, Identity

_HOMES = 1 << 16
"""Trajectories whose server is remembered."""
_BACKOFF_S = (0.1, 5.0)

_Seconds = Annotated[float, Field(gt=0)]


class VllmConfig(Frozen):
    """Which servers, and how patiently."""

    urls: tuple[str, ...]
    """`http://host:port` of each."""
    model: str | None = None
    """Served name; the one that they serve if not given."""
    api_key: str | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=TOP)] = TOP
    """Alternatives per token, for estimates of the entropy; 20 for `top20`, 0 for surprisal."""
    request_timeout_s: _Seconds = 1800.0
    """Seconds that one response may take."""
    patience_s: _Seconds = 180.0
    """Seconds that a request waits while no server is well or they refuse it: longer than one needs to restart. Waiting
    for a slot is not among them."""
    probe_s: _Seconds = 2.0
    """Seconds between two looks at a server; far below what a restart takes, so that none goes unseen."""
    probe_limit_s: _Seconds = 10.0
    """Seconds that a look may take."""
    probes_until_down: Annotated[int, Field(ge=1)] = 3
    """Looks in a row without an answer after which a server's requests are given up."""
    stall_s: _Seconds = 120.0
    """Seconds that a server may have requests and make no token."""


class Server:
    """One server as the policy sees it."""

    def __init__(self, url: str, config: VllmConfig) -> None:
        self.client = CompletionsPolicy(
            CompletionsConfig(
                url=url,
                model=config.model,
                api_key=config.api_key,
                request_timeout_s=config.request_timeout_s,
                attempts=1,
                top_logprobs=config.top_logprobs,
            )
        )
        self.control = Control(url, api_key=config.api_key, limit_s=config.probe_limit_s)
        self.slots = Slots()
        self.url = self.control.url
        self.expected: Identity | None = None
        """What it has to serve; None before it was looked at."""
        self.fault: str | None = None
        """Why it is out of rotation."""
        self.look_now = asyncio.Event()
        self.misses = 0
        self.last_load: Load | None = None
        self.moved_s = 0.0
        """Time of the loop at which it last made a token or had nothing to do."""
        self.in_flight: Counter[str] = Counter()
        """Requests by the model or adapter that they name."""
        self._ended = asyncio.Event()
        self._working: set[asyncio.Task[Completion]] = set()

    async def sample(self, prompt_ids: Sequence[int], params: SamplingParams, trajectory_id: str) -> Completion:
        """As `Policy.sample`; fails at once when the server is given up."""
        work = asyncio.ensure_future(self.client.sample(prompt_ids, params, trajectory_id=trajectory_id))
        name = self.client.name
        self._working.add(work)
        self.in_flight[name] += 1
        try:
            return await work
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self.fault is not None and task is not None and not task.cancelling():
                raise PolicyError(f"{self.url} was given up: {self.fault}") from None
            raise
        finally:
            self._working.discard(work)
            self.in_flight[name] -= 1
            self._ended.set()

    async def without(self, name: str) -> None:
        """Return once no request names that model or adapter."""
        while self.in_flight[name]:
            self._ended.clear()
            await self._ended.wait()

    def give_up(self) -> None:
        """End what is in flight."""
        for work in self._working:
            work.cancel()

    def stalled_s(self, load: Load, now_s: float) -> float:
        """Seconds since the server with these figures last did something. One that is out of rotation shows by them
        alone that it does: nothing of ours is in flight there."""
        moved = load.running == 0 or self.last_load is None or load.tokens != self.last_load.tokens
        if moved or (self.fault is None and self.slots.in_flight == 0):
            self.moved_s = now_s
        return now_s - self.moved_s


class VllmPolicy:
    """Any number of requests at once. Use as an async context manager."""

    def __init__(self, config: VllmConfig) -> None:
        if not config.urls:
            raise UserError("name at least one server: http://host:port")
        self.config = config
        self.name = config.model or ""
        self.servers = tuple(Server(url, config) for url in config.urls)
        self.repair: Callable[[Server], Awaitable[bool]] | None = None
        """Brings a server that was restarted to the weights that it should have; False if that is not possible."""
        self._seeds = itertools.count()
        self._homes: OrderedDict[str, Server] = OrderedDict()
        self._switching = asyncio.Lock()
        self._still = asyncio.Lock()
        """Held by a look, and while weights change: a look sees the old ones or the new ones."""
        self._changed = asyncio.Event()
        self._watchers: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> "VllmPolicy":
        try:
            await self._open()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def _open(self) -> None:
        for server in self.servers:
            await server.client.open()
            try:
                server.expected = await server.control.identity()
            except PolicyError as error:
                raise UserError(f"{server.url} is no vLLM server: {error}") from error
        served = {server.url: server.client.name for server in self.servers}
        if len(set(served.values())) != 1:
            shown = ", ".join(f"{url}: {name}" for url, name in served.items())
            raise UserError(f"the servers serve different models ({shown}): start them alike, e.g. with swe-aem serve")
        self.name = self.servers[0].client.name
        self._watchers = [asyncio.create_task(self._watch(server)) for server in self.servers]

    async def close(self) -> None:
        """Close all connections; idempotent."""
        for watcher in self._watchers:
            watcher.cancel()
        for watcher in self._watchers:
            with suppress(asyncio.CancelledError):
                await watcher
        self._watchers = []
        for server in self.servers:
            await server.client.close()
            await server.control.close()

    async def sample(self, prompt_ids: Sequence[int], params: SamplingParams, *, trajectory_id: str) -> Completion:
        """See `nouns.Policy`. Raises `ContextOverflow` if the prompt fills the model's context, `PolicyError` with the
        cause if the server failed while it may have sampled, or if for `patience_s` there was none, or they refused."""
        if params.seed is None:  # here, not in a server's client: they would deal the same ones
            params = params.model_copy(update={"seed": next(self._seeds)})
        loop = asyncio.get_running_loop()
        pause_s, refused_s = _BACKOFF_S[0], 0.0
        while True:
            server = await self._server_for(trajectory_id)
            if not await server.slots.acquire():
                continue
            sent_s = loop.time()
            try:
                return await server.sample(prompt_ids, params, trajectory_id)
            except NothingSampled as error:
                self.suspect(server, str(error))
                refused_s += loop.time() - sent_s + pause_s
                if refused_s > self.config.patience_s:
                    raise
            except (ContextOverflow, UserError):
                raise
            except PolicyError as error:
                self.suspect(server, str(error))
                raise
            finally:
                server.slots.release()
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _BACKOFF_S[1])

    @asynccontextmanager
    async def switch(self) -> AsyncIterator[tuple[Server, ...]]:
        """The servers in rotation, with nothing in flight and nothing let through until the end of the block. Whoever
        changes their weights says so with `serves`."""
        async with self._switching:
            for server in self.servers:
                server.slots.close()
            try:
                await self._drained()
                async with self._still:
                    servers = tuple(server for server in self.servers if server.fault is None)
                    if not servers:
                        raise PolicyError(f"no server can take new weights: {self._faults()}")
                    yield servers
            finally:
                for server in self.servers:
                    if server.fault is None:
                        server.moved_s = asyncio.get_running_loop().time()
                    server.slots.open()

    async def _drained(self) -> None:
        try:
            async with asyncio.timeout(self.config.request_timeout_s):
                await asyncio.gather(*(server.slots.drained() for server in self.servers))
        except TimeoutError as error:
            limit_s = self.config.request_timeout_s
            raise PolicyError(f"responses in flight did not end within {limit_s:g} s: no switch of weights") from error

    @asynccontextmanager
    async def between_looks(self) -> AsyncIterator[None]:
        """For a change under which generation goes on: what a look finds and what it expects are of one side of it."""
        async with self._still:
            yield

    def serves(self, server: Server, expected: Identity, version: int, name: str | None = None) -> None:
        """Note what a server has to serve from now on, and what its responses are stamped with. `name` is what requests
        ask for, the model's own if None."""
        server.expected = expected
        server.client.version = version
        server.client.name = name or self.name

    async def _server_for(self, trajectory_id: str) -> Server:
        home = self._homes.get(trajectory_id)
        until_s = asyncio.get_running_loop().time() + self.config.patience_s
        while home is None or home.fault is not None:
            able = [server for server in self.servers if server.fault is None]
            if able:
                home = min(able, key=lambda server: server.slots.wanted)
                break
            self._changed.clear()
            try:
                async with asyncio.timeout_at(until_s):
                    await self._changed.wait()
            except TimeoutError:
                raise NothingSampled(f"no server for {self.config.patience_s:g} s: {self._faults()}") from None
        self._homes[trajectory_id] = home
        self._homes.move_to_end(trajectory_id)
        if len(self._homes) > _HOMES:
            self._homes.popitem(last=False)
        return home

    @property
    def unavailable_reason(self) -> str | None:
        """What is wrong with each server if none is healthy, else None (`swe_aem.core.HealthReporting`)."""
        return self._faults() if all(server.fault for server in self.servers) else None

    async def whole(self) -> None:
        """Return when all servers are well, or after `patience_s`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self.config.patience_s):
                while self._faults():
                    self._changed.clear()
                    await self._changed.wait()

    def _faults(self) -> str:
        return "; ".join(f"{server.url}: {server.fault}" for server in self.servers if server.fault)

    def suspect(self, server: Server, why: str) -> None:
        """Send nothing more to a server until a look finds it well; those in flight may end."""
        if server.fault is None:
            server.fault = why
            server.slots.send_away()
        server.look_now.set()

    def _take_out(self, server: Server, why: str) -> None:
        self.suspect(server, why)
        server.fault = why
        server.look_now.clear()
        server.give_up()

    def _put_back(self, server: Server) -> None:
        server.misses = 0
        if server.fault is not None:
            server.fault = None
            self._changed.set()

    async def _watch(self, server: Server) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self.config.probe_s):
                    await server.look_now.wait()
            server.look_now.clear()
            async with self._still:
                await self._look(server)

    async def _look(self, server: Server) -> None:
        try:
            load = await server.control.load()
            identity = await server.control.identity()
        except PolicyError as error:
            server.misses += 1
            if server.misses >= self.config.probes_until_down:
                self._take_out(server, str(error))
            return
        stalled_s = server.stalled_s(load, asyncio.get_running_loop().time())
        if not _holds(identity, server.expected):
            self._take_out(
                server, f"it was restarted with other weights: {_shown(identity)}, not {_shown(server.expected)}"
            )
            if self.repair is not None and await self.repair(server):
                self._put_back(server)
        elif stalled_s > self.config.stall_s:
            self._take_out(server, f"it has {load.running} requests and has made no token for {stalled_s:.0f} s")
        else:
            preempted = server.last_load is not None and load.preemptions > server.last_load.preemptions
            server.slots.resize(
                adapted(server.slots.limit, load, preempted=preempted, saturated=server.slots.saturated)
            )
            self._put_back(server)
        server.last_load = load


def _holds(found: Identity, expected: Identity | None) -> bool:
    """Adapters that come on top make no difference."""
    return expected is None or (
        (found.root, found.weights) == (expected.root, expected.weights) and set(expected.names) <= set(found.names)
    )


def _shown(identity: Identity | None) -> str:
    return "nothing" if identity is None else f"{', '.join(identity.names)} ({identity.weights})"


@asynccontextmanager
async def open_served(urls: str) -> AsyncIterator[Policy]:
    """The policy behind URLs with commas between them, for the length of an `async with`; for one server that is not
    vLLM a plain completions client."""
    several = tuple(url.strip() for url in urls.split(",") if url.strip())
    if len(several) == 1:
        async with open_completions(several[0]) as plain:
            if plain.engine != "vllm":
                yield plain
                return
    async with VllmPolicy(VllmConfig(urls=several)) as policy:
        yield policy
