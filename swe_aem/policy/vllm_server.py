"""`VllmServer`: one vLLM server as a policy sees it, in rotation or out of it for a stated reason."""

import asyncio
import math
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated, Literal

from pydantic import Field

from swe_aem.core import Completion, SamplingParams
from swe_aem.errors import PolicyError, UserError
from swe_aem.policy.api_key import read_key
from swe_aem.policy.completions import CompletionsConfig, CompletionsPolicy
from swe_aem.policy.requests import RequestConfig
from swe_aem.policy.slots import FIRST, ServerLoad, Slots, adapted
from swe_aem.policy.vllm_control import ServedModel, ServerControl

_Seconds = Annotated[float, Field(gt=0)]
InFlight = Literal["interrupt", "drain"]
PAUSE_LIMIT_S = 60.0
"""Seconds that a pause or its end may take: longer than one step of an engine."""


class VllmClientConfig(RequestConfig):
    """Which servers, and how long to wait for them."""

    urls: tuple[str, ...]
    """`http://host:port` of each."""
    model: str | None = None
    """Served name; the one that they serve if not given."""
    probe_s: _Seconds = 2.0
    """Seconds between two health checks of a server; far below what a restart takes, so that no restart is missed."""
    probe_limit_s: _Seconds = 10.0
    """Seconds that a health check may take."""
    probes_until_down: Annotated[int, Field(ge=1)] = 3
    """Failed health checks in a row after which the requests in flight at a server are given up."""
    stall_s: _Seconds = 120.0
    """Seconds that a server may have requests and generate no token."""
    open_patience_s: Annotated[float, Field(ge=0)] = 0.0
    """Seconds to wait for servers that do not answer when the policy is opened."""
    in_flight: InFlight = "drain"
    """What becomes of requests in flight when the weights change: interrupt, they are continued with the new weights;
    drain, they end with the old ones first."""
    routed_experts: bool = False
    """Ask to which experts of a mixture the tokens of responses went."""
    at_once: Annotated[int, Field(ge=1)] | None = None
    """Trajectories of this process that may sample at once: each server's slots begin with its share of them. Of many
    processes that share servers none begins with more than its part."""

    @property
    def first_slots(self) -> int:
        """How many slots each server has to begin with."""
        return FIRST if self.at_once is None else math.ceil(self.at_once / len(self.urls))


class VllmServer:
    """One server: its endpoints, its slots, and its state, which its own methods alone change."""

    def __init__(self, url: str, config: VllmClientConfig) -> None:
        self.client = CompletionsPolicy(
            CompletionsConfig(
                url=url,
                model=config.model,
                api_key_env=config.api_key_env,
                request_timeout_s=config.request_timeout_s,
                attempts=1,
                top_logprobs=config.top_logprobs,
                seeded=config.seeded,
                routed_experts=config.routed_experts,
            )
        )
        self.control = ServerControl(url, api_key=read_key(config.api_key_env), limit_s=config.probe_limit_s)
        self.slots = Slots(config.first_slots)
        self.url = self.control.url
        self._expected: ServedModel | None = None
        self._out_reason: str | None = None
        self._outages = 0
        self._suspected = False
        self._lacks_weights = False
        self._check_soon = asyncio.Event()
        self._interrupted = False
        self._interrupted_by_leader = asyncio.Event()
        self._failed_checks = 0
        self._last_load: ServerLoad | None = None
        self._progress_s = 0.0
        """Time of the event loop at which it last generated a token or had nothing to do."""
        self._in_flight: Counter[str] = Counter()
        """Requests by the model or adapter that they name."""
        self._request_ended = asyncio.Event()
        self._working: set[asyncio.Task[Completion]] = set()

    @property
    def expected(self) -> ServedModel:
        """What it has to serve."""
        assert self._expected is not None, "the server was not opened"
        return self._expected

    @property
    def out_reason(self) -> str | None:
        """Why it is out of rotation; None while it is in rotation."""
        return self._out_reason

    @property
    def outages(self) -> int:
        """How often it went out of rotation, or did not answer a health check. While the number is the
        same, it is the same process."""
        return self._outages

    @property
    def suspected(self) -> bool:
        """Is it out of rotation, and has no health check yet said whether it returns?"""
        return self._suspected

    @property
    def takes_weights(self) -> bool:
        """Is it in rotation, or out of it only because it has other weights than it should?"""
        return self._out_reason is None or self._lacks_weights

    @property
    def interrupted(self) -> bool:
        """Was it told to generate nothing more, and not yet to generate again?"""
        return self._interrupted

    async def cuts_off(self, *, within_s: float) -> bool:
        """Are requests in flight cut off on purpose, by this policy, or by the one that it follows, as that says within
        this time?"""
        if not self._interrupted:
            with suppress(TimeoutError):
                async with asyncio.timeout(within_s):
                    await self._interrupted_by_leader.wait()
        return self._interrupted or self._interrupted_by_leader.is_set()

    @property
    def failed_checks(self) -> int:
        """Health checks that have failed since the last one that succeeded."""
        return self._failed_checks

    @property
    def last_load(self) -> ServerLoad | None:
        """Its figures at the last health check; None before the first."""
        return self._last_load

    async def open(self) -> None:
        """Ask what it serves, which is what it has to serve from then on. Raises `UserError` if it does not answer like
        a vLLM server."""
        await self.client.open()
        try:
            self._expected = await self.control.served_model()
        except PolicyError as error:
            raise UserError(f"{self.url} is not a vLLM server: {error}") from error

    async def close(self) -> None:
        """Close all connections; idempotent."""
        await self.client.close()
        await self.control.close()

    async def sample(
        self, prompt_ids: Sequence[int], params: SamplingParams, trajectory_id: str, limit_s: float
    ) -> Completion:
        """Sample one response, as `CompletionsPolicy.sample` does. Raises `PolicyError` at once when the server is
        taken out."""
        asked = self.client.sample(prompt_ids, params, trajectory_id=trajectory_id, limit_s=limit_s)
        work = asyncio.ensure_future(asked)
        name = self.client.name
        self._working.add(work)
        self._in_flight[name] += 1
        try:
            return await work
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self._out_reason is not None and task is not None and not task.cancelling():
                raise PolicyError(f"{self.url} was given up: {self._out_reason}") from None
            raise
        finally:
            self._working.discard(work)
            self._in_flight[name] -= 1
            self._request_ended.set()

    async def wait_unused(self, name: str) -> None:
        """Return once no request in flight names that model or adapter."""
        while self._in_flight[name]:
            self._request_ended.clear()
            await self._request_ended.wait()

    def expect(self, model: ServedModel, *, version: int, name: str) -> None:
        """Set what it has to serve from now on, the version that its responses are stamped with, and the `name` of the
        model or adapter that requests ask for."""
        self._expected = model
        self.client.version = version
        self.client.name = name

    async def interrupt(self) -> None:
        """Let the server answer its requests in flight with what it has sampled, and begin none before `resume`. A
        request that reaches it meanwhile waits there, and is answered at the next call."""
        self._interrupted = True
        await self.control.post("/pause", limit_s=PAUSE_LIMIT_S, query={"mode": "abort"})

    def may_be_paused(self) -> None:
        """A pause was sent and the answer is lost: health checks resume it."""
        self._interrupted = True

    def interrupted_by_leader(self, is_so: bool) -> None:
        """The policy that this one follows interrupts the server, and will have it generate again; or has done so."""
        (self._interrupted_by_leader.set if is_so else self._interrupted_by_leader.clear)()

    async def resume(self) -> None:
        """Let it generate again."""
        await self.control.post("/resume", limit_s=PAUSE_LIMIT_S)
        self._interrupted = False

    def suspect(self, why: str) -> None:
        """Send it nothing more until a health check succeeds, and check soon. Requests in flight may end."""
        if self._out_reason is None:
            self._out_reason = why
            self._outages += 1
            self.slots.send_away()
        self._suspected, self._lacks_weights = True, False
        self._check_soon.set()

    def check_soon(self) -> None:
        """Have its next health check now."""
        self._check_soon.set()

    def take_out(self, why: str, *, lacks_weights: bool = False) -> None:
        """Take it out of rotation, or change the reason why it is out, and give up its requests in flight.
        `lacks_weights`: it is sound, and has other weights than it should."""
        self.suspect(why)
        self._out_reason = why
        self._suspected, self._lacks_weights = False, lacks_weights
        self._check_soon.clear()
        for work in self._working:
            work.cancel()

    def put_back(self) -> None:
        """Put it into rotation, or leave it there."""
        self._failed_checks, self._out_reason = 0, None
        self._suspected = self._lacks_weights = False

    async def wait_for_check(self, interval_s: float) -> None:
        """Return when its next health check is due: after `interval_s`, or as soon as it is suspected."""
        with suppress(TimeoutError):
            async with asyncio.timeout(interval_s):
                await self._check_soon.wait()
        self._check_soon.clear()

    def check_failed(self, why: str, *, limit: int) -> None:
        """Count a health check without an answer; the `limit`-th in a row takes the server out."""
        self._failed_checks += 1
        self._outages += 1
        self._lacks_weights = False
        if self._failed_checks >= limit:
            self.take_out(why)

    def stalled_s(self, load: ServerLoad, now_s: float) -> float:
        """Seconds, at `now_s` of the event loop's time, for which the server with these figures has had requests and
        generated nothing.

        For a server out of rotation only its own figures count: this policy has no requests there.
        """
        last = self._last_load
        progressed = load.running == 0 or last is None or load.tokens != last.tokens
        if progressed or (self._out_reason is None and self.slots.in_flight == 0):
            self._progress_s = now_s
        return now_s - self._progress_s

    def adapt_slots(self, load: ServerLoad) -> None:
        """Let the number of slots follow the server's figures."""
        preempted = self._last_load is not None and load.preemptions > self._last_load.preemptions
        self.slots.resize(adapted(self.slots.limit, load, preempted=preempted, saturated=self.slots.saturated))

    def note_load(self, load: ServerLoad) -> None:
        """Keep the figures of a health check, for the next one to compare with."""
        self._last_load = load

    def not_stalled_until(self, now_s: float) -> None:
        """Start the clock of `stalled_s` again: the server was stopped on purpose until `now_s`."""
        self._progress_s = now_s
