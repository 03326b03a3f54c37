"""Many requests to fake servers whose tokens say which weights sampled them, and what has to be true of the answers."""

import asyncio
import random
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import torch

from swe_aem.core import SamplingParams
from swe_aem.errors import PolicyError
from swe_aem.policy.vllm import VllmClientConfig, VllmPolicy
from swe_aem.serve.planes import Parcel
from swe_aem.serve.sync import WeightSync
from swe_aem.serve.transport import FileTransport
from swe_aem.testing.tagging_vllm import STOPS, routes_of, version_of
from tests.serve.updating import Updating

WEIGHTS = {"layer.weight": torch.ones(2, 2)}
CALLS = ("/pause", "/start_weight_update", "/update_weights", "/finish_weight_update", "/resume")
PHASES = tuple(f"{call}{when}" for call in CALLS for when in ("", "+"))
"""Moments of an update at which a server can be killed: as it gets a call, and before it answers it."""


@asynccontextmanager
async def opened(fakes, directory, *, transport=None, **changes):
    """Policy and sync over these servers, which have version 1; by files, if no transport is given."""
    settings = {
        "probe_s": 0.02, "probe_limit_s": 60.0, "probes_until_down": 2, "in_flight": "interrupt",
        "routed_experts": True, **changes,
    }  # fmt: skip
    async with AsyncExitStack() as stack:
        for fake in fakes:
            await stack.enter_async_context(fake)
        config = VllmClientConfig(urls=tuple(fake.url for fake in fakes), **settings)
        policy = await stack.enter_async_context(VllmPolicy(config))
        sync = Updating(WeightSync(policy), transport or FileTransport(directory))
        await sync.open()
        stack.push_async_callback(sync.close)
        await sync.update(WEIGHTS, 1)
        yield policy, sync


def stamped(completion):
    """The version that each token bears."""
    starts = [(0, completion.version), *((span.start, span.version) for span in completion.spans)]
    return [max(one for one in starts if one[0] <= place)[1] for place in range(len(completion.token_ids))]


def routes(prompt, completion):
    """The bytes of `routes_of` for the token before each sampled one, by the weights that sampled it."""
    before = (prompt[-1], *completion.token_ids[:-1])
    pairs = zip(true_versions(completion), before, strict=True)
    return bytes(expert for version, token in pairs for (expert,) in routes_of(version, token))


def true_versions(completion):
    return [version_of(token) for token in completion.token_ids]


class Broadcast:
    """A broadcast to fake servers, which receive once `transmit` is through, and fail if a member of the group dies."""

    early = False

    def __init__(self, fakes, loop):
        """`loop` is the event loop of the servers."""
        self.groups = 0
        self.dies = None
        """The fake that is killed while tensors are sent."""
        self._loop = loop
        self._fakes = fakes
        self._group = None
        self._sent = None

    def open(self, control):
        control.join([{} for _ in control.world_sizes()])
        self.groups += 1
        self._sent = self._loop.create_future()
        self._group = {fake: fake.deaths for fake in self._fakes if fake.lives}

    def leave(self):
        self._group = None
        self._end(False)

    def announce(self, tensors, version, tag):
        if self._sent is None or self._sent.done():
            self._sent = self._loop.create_future()
        for fake in self._fakes:
            fake.receive = lambda: self._received(self._sent)
        return Parcel(f"{tag}.{version}", version, {"path": f"x.{version}"}, atomic=True, again=False)

    async def _received(self, sent):
        if not await asyncio.shield(sent):
            raise ConnectionError("connection closed by peer")

    def transmit(self, parcel, tensors):
        for _ in tensors:
            if self.dies is not None:
                asyncio.run_coroutine_threadsafe(self.dies.kill(), self._loop).result()
                self.dies = None
        whole = self._group == {fake: fake.deaths for fake in self._group}
        self._end(whole)
        if not whole:
            raise ConnectionError("connection closed by peer")

    def _end(self, whole):
        def end(sent=self._sent):
            if sent is not None and not sent.done():
                sent.set_result(whole)

        self._loop.call_soon_threadsafe(end)

    def settled(self, parcel, *, delivered):
        pass

    def close(self):
        pass


class Trajectories:
    """Many trajectories of a few turns each, one after the other; where an attempt fails, the next begins."""

    def __init__(self, policy, seed):
        self.answered = []
        """(prompt, parameters, completion) of each response."""
        self.enough = asyncio.Event()
        self._policy = policy
        self._random = random.Random(seed)
        self._prompts = 0

    async def run(self, count):
        """Run `count` at a time until it is `enough`; those that have begun end."""
        await asyncio.gather(*(self._one_by_one(f"t.{n}") for n in range(count)))

    async def _one_by_one(self, id):
        while not self.enough.is_set():
            with suppress(PolicyError):
                await self._attempt(id, turns=4)

    async def _attempt(self, id, turns):
        self._prompts += 1
        prompt = [self._prompts // 900, self._prompts % 900, *self._random.choices(range(900), k=40)]
        for _ in range(turns):
            length = self._random.choice((1, 20, 80))
            params = SamplingParams(max_tokens=length, seed=self._random.getrandbits(48), stop_token_ids=STOPS)
            completion = await self._policy.sample(prompt, params, trajectory_id=id)
            self.answered.append((tuple(prompt), params, completion))
            prompt = [*prompt, *completion.token_ids, *self._random.choices(range(900), k=5)]


def check_against_servers(answered, fakes):
    """Every token of every response was sampled once, by the version that it bears, after a prefix of that version, and
    its routed experts are those of that version at the token before it."""
    requests = {}
    for request in (request for fake in fakes for request in fake.asked if request.tokens):
        requests.setdefault(request.prompt, []).append(request)
    for prompt, params, completion in answered:
        assert stamped(completion) == true_versions(completion)
        assert completion.routed_experts.ids == routes(prompt, completion)
        assert set(completion.logprobs) == {-0.5}
        ids, sampled, seeds = completion.token_ids, 0, set()
        while sampled < len(ids):
            (request,) = requests[(*prompt, *ids[:sampled])]
            assert request.max_tokens == params.max_tokens - sampled
            assert request.seed not in seeds
            assert tuple(request.tokens) == ids[sampled : sampled + len(request.tokens)]
            seeds.add(request.seed)
            sampled += len(request.tokens)
        assert completion.finish_reason == ("stop" if ids[-1] in params.stop_token_ids else "length")
        assert completion.finish_reason == "stop" or len(ids) == params.max_tokens
        assert not set(ids[:-1]) & set(params.stop_token_ids)
