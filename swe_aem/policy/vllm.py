"""A policy behind one or many vLLM servers: which server gets a request, when, and which weights answered it.

    request ──> the server that its trajectory's hash names, or the next one ──> a slot there ──> tokens
                                        ▲
    health check, every 2 s: alive? figures? the expected weights?  ──> in rotation, or out of it for a stated reason

Nothing is sampled twice: a request is sent to another server only if the first one cannot have sampled anything; if a
server fails, hangs or restarts, its requests fail with the cause. Inside `switch` nothing is in flight and new requests
wait, so a request has one version. A response has several where `switch` interrupts its requests: a server answers with
the tokens that it has sampled, and after the switch a request with these tokens in its prompt samples the rest.
"""

import asyncio
import itertools
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress

from swe_aem.core import Completion, Policy, SamplingParams
from swe_aem.core.rendezvous import SPILL, weight
from swe_aem.errors import PolicyError, UserError
from swe_aem.policy.completions import CompletionsConfig, open_completions
from swe_aem.policy.continued import Continued
from swe_aem.policy.errors import Aborted, ContextOverflow, NoServer, NothingSampled
from swe_aem.policy.following import Followers, NoFollowers, ServerOrder
from swe_aem.policy.requests import CompletionsServers
from swe_aem.policy.vllm_control import ServedModel
from swe_aem.policy.vllm_server import VllmClientConfig, VllmServer
from swe_aem.runlog import tell

__all__ = ["VllmClientConfig", "VllmPolicy", "VllmServer", "open_served"]

_MAX_HOMES = 1 << 16
"""Trajectories whose server is remembered."""
_BACKOFF_S = (0.1, 5.0)
"""First and longest pause before a refused request is sent again."""
_ORDER_LATE_S = 10.0
"""A leader interrupts the servers at once; its order to those that follow may arrive so much later."""
_INTERRUPT_AGAIN_S = 0.2
"""Seconds between two interruptions of the same server, the later of which is for requests that were on their way to it
at the earlier one."""


class VllmPolicy:
    """Samples any number of requests at once on its servers. Use as an async context manager."""

    def __init__(self, config: VllmClientConfig, *, told: Sequence[ServerOrder] = ()) -> None:
        """`told` is what a leader says of the servers when this one is opened to follow it."""
        if not config.urls:
            raise UserError("name at least one server: http://host:port")
        self.config = config
        self.followers: Followers = NoFollowers()
        """The policies that change weights when this one does."""
        self._told = told
        self.name = config.model or ""
        self.servers = tuple(VllmServer(url, config) for url in config.urls)
        self.repair: Callable[[VllmServer], Awaitable[bool]] | None = None
        """Brings a restarted server to the weights that it has to serve; false if that is not possible."""
        self._seeds = itertools.count()
        self._homes: OrderedDict[str, VllmServer] = OrderedDict()
        self._switching = asyncio.Lock()
        self._weights_fixed = asyncio.Lock()
        """Held by a health check, and while weights change, so that a check sees the old ones or the new ones."""
        self._changed = asyncio.Event()
        """Set after every health check."""
        self._waits: dict[str, str] = {}
        """Why the request of a trajectory was refused, until one of it is answered."""
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
        until_s = asyncio.get_running_loop().time() + self.config.open_patience_s
        if self._told:
            await self._open_told(until_s)
            return
        for server in self.servers:
            await self._open_server(server, until_s)
        served = {server.url: server.client.name for server in self.servers}
        if len(set(served.values())) != 1:
            shown = ", ".join(f"{url}: {name}" for url, name in served.items())
            raise UserError(f"the servers serve different models ({shown}): start them alike, e.g. with swe-aem serve")
        self.name = self.servers[0].client.name
        self._watchers = [asyncio.create_task(self._watch(server)) for server in self.servers]

    async def _open_told(self, until_s: float) -> None:
        """Open the servers, of which one at least has to answer by that time of the event loop."""
        opening = [asyncio.create_task(self._open_server(server, until_s)) for server in self.servers]
        try:
            for first in asyncio.as_completed(opening):
                with suppress(UserError):
                    await first
                    break
            else:
                opening[0].result()
        finally:
            for task in opening:
                task.cancel()
            await asyncio.gather(*opening, return_exceptions=True)
        self.name = next(server.client.name for server, task in zip(self.servers, opening, strict=True) if _ended(task))
        self.follow(self._told)
        for server, task in zip(self.servers, opening, strict=True):
            if not _ended(task):
                server.suspect("it has not answered yet")
        self._watchers = [asyncio.create_task(self._watch(server)) for server in self.servers]

    async def _open_server(self, server: VllmServer, until_s: float) -> None:
        """Open a server; one that does not answer is asked again until that time of the event loop."""
        waits = False
        while True:
            try:
                return await server.open()
            except UserError as error:
                if asyncio.get_running_loop().time() >= until_s:
                    raise
                if not waits:
                    tell(f"waiting up to {self.config.open_patience_s:g} s for {server.url}: {error}")
                waits = True
            await asyncio.sleep(self.config.probe_s)

    async def close(self) -> None:
        """Close all connections; idempotent."""
        for watcher in self._watchers:
            watcher.cancel()
        for watcher in self._watchers:
            with suppress(asyncio.CancelledError):
                await watcher
        self._watchers = []
        for server in self.servers:
            await server.close()

    async def sample(self, prompt_ids: Sequence[int], params: SamplingParams, *, trajectory_id: str) -> Completion:
        """Sample one response, as `core.Policy` says.

        Raises `ContextOverflow` if the prompt fills the model's context, and `PolicyError` with the cause if the server
        failed after it may have sampled, or if for `patience_s` there was no server or the servers refused.
        """
        if params.seed is None:  # here, because the clients of two servers would choose the same seeds
            params = params.model_copy(update={"seed": next(self._seeds)})
        response, left_s = Continued(prompt_ids, params), self.config.request_timeout_s
        while not response.is_whole:
            if left_s <= 0:
                raise PolicyError(f"the response was not sampled in {self.config.request_timeout_s:g} s")
            try:
                left_s = await self._request(response, trajectory_id, left_s)
            except ContextOverflow:
                if not response.begun:
                    raise
                break  # what was sampled so far fills the context, which ends a response like its last token
        return response.completion()

    async def _request(self, response: Continued, trajectory_id: str, left_s: float) -> float:
        """Let one request sample the response, or a part of it. It may take `left_s`; returns the seconds that are left
        to a further one. Raises what `sample` does."""
        loop = asyncio.get_running_loop()
        pause_s, refused_s = _BACKOFF_S[0], 0.0
        self._waits.pop(trajectory_id, None)
        while True:
            server = await self._server_for(trajectory_id)
            if not await server.slots.acquire(continued=response.begun):
                continue
            sent_s = loop.time()
            try:
                part = await server.sample(response.prompt_ids, response.params, trajectory_id, left_s)
                self._waits.pop(trajectory_id, None)
                response.add(part, is_cut=False)
                return left_s
            except Aborted as error:
                if not await server.cuts_off(within_s=_ORDER_LATE_S if self._told else 0.0):
                    server.suspect(str(error))
                    raise
                if error.sampled is not None:
                    response.add(error.sampled, is_cut=True)
                return left_s - (loop.time() - sent_s)
            except NothingSampled as error:
                server.suspect(str(error))
                self._waits[trajectory_id] = str(error)
                refused_s += loop.time() - sent_s + pause_s
                if refused_s > self.config.patience_s:
                    raise
            except (ContextOverflow, UserError):
                raise
            except PolicyError as error:
                server.suspect(str(error))
                raise
            finally:
                server.slots.release()
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _BACKOFF_S[1])

    @asynccontextmanager
    async def switch(self) -> AsyncIterator[tuple[VllmServer, ...]]:
        """The servers that take weights, with nothing in flight and every new request held back until the end of the
        block: requests in flight end first, or are interrupted, as the configuration says. If the block changes a
        server's weights it calls `VllmServer.expect`. Raises `NoServer` if none takes weights."""
        async with self._switching:
            for server in self.servers:
                server.slots.close()
            self.followers.hold(interrupted=self.config.in_flight == "interrupt")
            try:
                await self._emptied()
                async with self._weights_fixed:
                    yield self.taking_weights()
            finally:
                for server in self.servers:
                    if server.out_reason is None:
                        server.not_stalled_until(asyncio.get_running_loop().time())
                    server.slots.open()
                self.followers.release(self.orders)

    @property
    def orders(self) -> tuple[ServerOrder, ...]:
        """What followers have to know of the servers now."""
        return tuple(
            ServerOrder(
                url=server.url,
                expected=server.expected,
                version=server.client.version,
                name=server.client.name,
                max_model_tokens=server.client.max_model_tokens,
                out_reason=server.out_reason,
            )
            for server in self.servers
        )

    def follow(self, orders: Sequence[ServerOrder]) -> None:
        """Ask the servers for what a leader says that they serve now, and continue. Use it `between_checks`."""
        servers, now_s = {server.url: server for server in self.servers}, asyncio.get_running_loop().time()
        for order in orders:
            server = servers[order.url]
            server.expect(order.expected, version=order.version, name=order.name)
            server.client.max_model_tokens = order.max_model_tokens
            server.interrupted_by_leader(False)
            if order.out_reason is not None:
                server.suspect(order.out_reason)
            if server.out_reason is None:
                server.not_stalled_until(now_s)
            else:
                server.check_soon()
            server.slots.open()

    def taking_weights(self) -> tuple[VllmServer, ...]:
        """The servers that take weights. Raises `NoServer` if there are none."""
        servers = tuple(server for server in self.servers if server.takes_weights)
        if not servers:
            raise NoServer(f"no server can take new weights: {self._reasons()}")
        return servers

    async def _emptied(self) -> None:
        """Return once nothing is in flight. The servers generate, should they be asked."""
        following = asyncio.create_task(self.followers.idle())
        try:
            async with asyncio.timeout(self.config.request_timeout_s):
                if self.config.in_flight == "interrupt":
                    await self._interrupt(following)
                await self._drained()
                if not await following:  # what a follower that was given up has at the servers ends there
                    await self._interrupt_each(server for server in self.servers if server.takes_weights)
        except TimeoutError as error:
            limit_s = self.config.request_timeout_s
            raise PolicyError(f"responses in flight did not end within {limit_s:g} s: the weights stay") from error
        finally:
            following.cancel()
            await asyncio.gather(*(self._resume(server) for server in self.servers if server.interrupted))

    async def _drained(self) -> None:
        await asyncio.gather(*(server.slots.drained() for server in self.servers))

    async def _interrupt(self, following: "asyncio.Task[bool]") -> None:
        """Interrupt the servers until they have answered all requests in flight. `following` ends once followers have
        none."""
        while busy := [
            server
            for server in self.servers
            if server.slots.in_flight or (server.takes_weights and not following.done())
        ]:
            await self._interrupt_each(busy)
            with suppress(TimeoutError):
                async with asyncio.timeout(_INTERRUPT_AGAIN_S):
                    await self._drained()
                    await asyncio.shield(following)

    async def _interrupt_each(self, servers: Iterable[VllmServer]) -> None:
        asked = [*servers]
        done = await asyncio.gather(*(server.interrupt() for server in asked), return_exceptions=True)
        for server, error in zip(asked, done, strict=True):
            if isinstance(error, PolicyError):
                server.suspect(f"it cannot be interrupted: {error}")

    async def _resume(self, server: VllmServer) -> None:
        """Let an interrupted server generate; if it does not answer, its health checks try again."""
        try:
            await server.resume()
        except PolicyError as error:
            server.suspect(f"it was interrupted and cannot be resumed: {error}")

    @asynccontextmanager
    async def between_checks(self) -> AsyncIterator[None]:
        """Hold back health checks during a change that needs no pause of generation, so that what a check finds and
        what it expects are both from before the change or both from after it. Followers learn of it at the end."""
        async with self._weights_fixed:
            yield
        self.followers.release(self.orders)

    async def _server_for(self, trajectory_id: str) -> VllmServer:
        home = self._homes.get(trajectory_id)
        until_s = asyncio.get_running_loop().time() + self.config.patience_s
        while home is None or home.out_reason is not None:
            able = [server for server in self.servers if server.out_reason is None]
            if able:
                home = choose_server(trajectory_id, able)
                break
            self._changed.clear()
            try:
                async with asyncio.timeout_at(until_s):
                    await self._changed.wait()
            except TimeoutError:
                raise NothingSampled(f"no server for {self.config.patience_s:g} s: {self._reasons()}") from None
        self._homes[trajectory_id] = home
        self._homes.move_to_end(trajectory_id)
        if len(self._homes) > _MAX_HOMES:
            self._homes.popitem(last=False)
        return home

    @property
    def unavailable_reason(self) -> str | None:
        """Why each server is out of rotation, if all are; None while at least one is in (`core.HealthReporting`)."""
        return self._reasons() if all(server.out_reason for server in self.servers) else None

    def waits_for(self, trajectory_id: str) -> str | None:
        """Why servers refuse the last request of a trajectory; None if they do not (`core.WaitReporting`)."""
        return self._waits.get(trajectory_id)

    async def wait_all_in_rotation(self) -> None:
        """Return when all servers are in rotation, or after `patience_s`."""
        until_s = asyncio.get_running_loop().time() + self.config.patience_s
        await self._wait_until(lambda: not self._reasons(), until_s)

    async def wait_none_suspected(self) -> None:
        """Return when health checks have said of every server whether it is in rotation, or after `patience_s`."""
        until_s = asyncio.get_running_loop().time() + self.config.patience_s
        await self._wait_until(lambda: not any(server.suspected for server in self.servers), until_s)

    async def wait_one_takes_weights(self, until_s: float) -> bool:
        """Wait for a server that takes weights, until that time of the event loop; is there one?"""
        return await self._wait_until(lambda: any(server.takes_weights for server in self.servers), until_s)

    async def _wait_until(self, holds: Callable[[], bool], until_s: float) -> bool:
        """Wait until that time of the event loop for what health checks bring about; does it hold?"""
        with suppress(TimeoutError):
            async with asyncio.timeout_at(until_s):
                while not holds():
                    self._changed.clear()
                    await self._changed.wait()
        return holds()

    def _reasons(self) -> str:
        return "; ".join(f"{server.url}: {server.out_reason}" for server in self.servers if server.out_reason)

    async def _watch(self, server: VllmServer) -> None:
        while True:
            await server.wait_for_check(self.config.probe_s)
            async with self._weights_fixed:
                await self._check(server)
            self._changed.set()

    async def _check(self, server: VllmServer) -> None:
        """One health check: take the server out of rotation, put it back, or leave it."""
        try:
            load = await server.control.load()
            served = await server.control.served_model()
            if server.interrupted and not self._switching.locked():
                await server.resume()
        except PolicyError as error:
            server.check_failed(str(error), limit=self.config.probes_until_down)
            return
        stalled_s = server.stalled_s(load, asyncio.get_running_loop().time())
        if not _holds(served, server.expected):
            why = f"it was restarted with other weights: {_shown(served)}, not {_shown(server.expected)}"
            server.take_out(why, lacks_weights=True)
            if self.repair is not None and await self.repair(server):
                server.put_back()
        elif stalled_s > self.config.stall_s:
            server.take_out(f"it has {load.running} requests and has made no token for {stalled_s:.0f} s")
        else:
            server.adapt_slots(load)
            if not server.interrupted:
                server.put_back()
        server.note_load(load)


def _ended(task: "asyncio.Task[None]") -> bool:
    """Has it ended well?"""
    return not task.cancelled() and task.exception() is None


def _holds(found: ServedModel, expected: ServedModel) -> bool:
    """Does a server serve what it has to? Further adapters make no difference."""
    same_weights = (found.root, found.weights) == (expected.root, expected.weights)
    return same_weights and set(expected.names) <= set(found.names)


def choose_server(trajectory_id: str, able: Sequence[VllmServer]) -> VllmServer:
    """The server that the trajectory's hash names, so that all processes of a run, and a rerun, find its prefix there,
    unless that one has much more than its share of the requests; then the next one."""
    wanted = sum(server.slots.wanted for server in able)
    for server in sorted(able, key=lambda server: weight(trajectory_id, server.url), reverse=True):
        if server.slots.wanted < SPILL * (wanted + 1 / server.slots.limit) / len(able):
            return server
    return min(able, key=lambda server: server.slots.wanted)


def _shown(served: ServedModel) -> str:
    return f"{', '.join(served.names)} ({served.weights})"


@asynccontextmanager
async def open_served(servers: CompletionsServers, at_once: int | None = None) -> AsyncIterator[Policy]:
    """The policy behind one URL or several, for the length of an `async with`, of so many trajectories at once. One
    server that is not vLLM gets a plain
    completions client."""
    urls = tuple(url.strip() for url in servers.url.split(",") if url.strip())
    if len(urls) == 1:
        plain = CompletionsConfig(
            url=urls[0],
            model=servers.model,
            api_key_env=servers.api_key_env,
            request_timeout_s=servers.request_timeout_s,
            seeded=servers.seeded,
            top_logprobs=servers.top_logprobs,
        )
        async with open_completions(plain) as policy:
            if policy.engine != "vllm":
                yield policy
                return
    client = VllmClientConfig(urls=urls, at_once=at_once, **servers.model_dump(exclude={"url"}))
    async with VllmPolicy(client) as policy:
        yield policy
