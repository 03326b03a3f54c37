"""`FakeTaggingVllm`: a fake vLLM server whose every token says which weights sampled it, as no real server's does.

    token id 3017     sampled by the weights of version 3
    log p -0.5        after a prefix that these weights have read; -99 after a cached prefix of other weights
    experts (3, 17)   of the place before the token: the version, and that token's id modulo 256

It generates one token per request and tick, can be paused, updated, told to fail, killed and restarted, and keeps a
prefix cache that an update alone does not empty, like vLLM's. What a policy stamps on a token can so be compared with
what is true.
"""

import asyncio
import io
import json
import random
from base64 import b64encode
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any, Self

from swe_aem.testing.vllm import SimulatedVllm

UNSENT = 900
"""The version of weights that nobody has sent, such as those of a restarted server."""
STOPS = tuple(1000 * version + 999 for version in (*range(100), UNSENT))
"""The stop tokens of all versions."""
_BLOCK = 16
_OF_ANOTHER_VERSION = -99.0


def version_of(token: int) -> int:
    """The version of the weights that sampled a token."""
    return token // 1000


def routes_of(version: int, token: int) -> list[list[int]]:
    """(layers, experts per token): where weights of that version send a token."""
    return [[version % 256], [token % 256]]


def routed_experts(routes: Sequence[Sequence[Sequence[int]]], dtype: str = "uint8") -> str:
    """Routes, (tokens, layers, experts per token), as vLLM puts them into an answer."""
    import numpy as np

    file = io.BytesIO()
    np.save(file, np.asarray(routes, dtype=dtype), allow_pickle=False)
    return b64encode(file.getvalue()).decode("ascii")


@dataclass(eq=False)
class FakeRequest:
    """One request, and what was sampled for it."""

    prompt: tuple[int, ...]
    max_tokens: int
    stops: frozenset[int]
    seed: int | None
    routed_from: int | None = None
    """The first place of the prompt whose experts are wanted; None if none are."""
    tokens: list[int] = field(default_factory=list)
    logprob: float | None = None
    """Log-probability of all its tokens; None until its prompt is read."""

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def end(self, reason: str) -> None:
        """Answer it; its client may be gone."""
        if not self.ended.done():
            self.ended.set_result(reason)


class FakeTaggingVllm(SimulatedVllm):
    """A fake server. Use as an async context manager."""

    def __init__(self, *, tick_s: float = 0.001, stop_share: float = 0.02) -> None:
        """`stop_share` of the tokens are stop tokens."""
        super().__init__()
        self.asked: list[FakeRequest] = []
        """Every request for a completion."""
        self.failing_updates = 0
        """How many of the next updates it fails to load."""
        self.dies_at = ""
        """Path of the next call that kills it; with a + behind it, after it has done what the call asks for."""
        self.receive: Callable[[], Awaitable[object]] | None = None
        """Waits for the tensors of an update, where they do not come in a file. Raises `ConnectionError`."""
        self.deaths = 0
        """How often it was killed."""
        self.faults: list[str] = []
        """What was done to it that gives a real server wrong tokens."""
        self._tick_s, self._stop_share = tick_s, stop_share
        self._fresh()

    def _fresh(self) -> None:
        self.weights, self._version, self._paused, self.updating = "default", UNSENT, False, False
        self._in_flight: list[FakeRequest] = []
        self._cache: dict[tuple[int, ...], int] = {}

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        self._engine = asyncio.create_task(self._generate())
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._engine.cancel()
        await super().__aexit__(*exc)

    @property
    def lives(self) -> bool:
        """Does it listen at its port?"""
        return self._listener.is_serving()

    @property
    def is_idle(self) -> bool:
        """Has it no request, and would it begin one?"""
        return not self._in_flight and not self._paused

    async def kill(self) -> None:
        """Close the port and every connection, and forget everything."""
        self.deaths += 1
        await self._hang_up()
        self._fresh()

    async def restart(self) -> None:
        """Listen at the same port again, with weights that nobody has sent."""
        await self._listen(int(self.url.rpartition(":")[2]))

    async def _answer(self, path: str, query: str, body: bytes) -> tuple[int, Any]:
        if self.dies_at == path:
            await self._die()
        answer = await self._done(path, query, body)
        if self.dies_at == f"{path}+":
            await self._die()
        return answer

    async def _die(self) -> None:
        """Be killed in the middle of a call."""
        self.dies_at = ""
        self._dying = asyncio.create_task(self.kill())
        await asyncio.Event().wait()

    async def _done(self, path: str, query: str, body: bytes) -> tuple[int, Any]:
        match path:
            case _ if path in self.instead:
                return self.instead[path]
            case "/pause":
                await self._pause(abort="mode=abort" in query)
            case "/resume":
                self._paused = False
            case "/start_weight_update":
                if any(request.logprob is not None for request in self._in_flight):
                    self.faults.append("an update began while requests were generating")
                return await super()._answer(path, query, body)
            case "/update_weights" if self.updating:
                try:
                    if self.receive is not None:
                        await self.receive()
                    if self.failing_updates:
                        self.failing_updates -= 1
                        raise ConnectionError("asked for by a test")
                except ConnectionError as error:
                    self.updating = False
                    return 500, {"error": str(error)}
                directory = PurePath(json.loads(body)["update_info"]["path"])
                self._version = int(directory.suffix.removeprefix("."))
            case _:
                return await super()._answer(path, query, body)
        return 200, {}

    async def _pause(self, *, abort: bool) -> None:
        self._paused = True
        if abort:
            for request in self._in_flight:
                request.end("abort")
            self._in_flight.clear()
        await asyncio.gather(*(request.ended for request in self._in_flight if request.logprob is not None))
        self._cache.clear()

    async def _complete(self, body: dict[str, Any]) -> tuple[int, Any]:
        stops = frozenset(body["stop_token_ids"])
        request = FakeRequest(
            tuple(body["prompt"]),
            body["max_tokens"],
            stops,
            body.get("seed"),
            routed_from=body.get("routed_experts_prompt_start"),
        )
        self.asked.append(request)
        self._in_flight.append(request)
        try:
            reason = await request.ended
        finally:
            with suppress(ValueError):
                self._in_flight.remove(request)
        logprobs = {"token_logprobs": [request.logprob] * len(request.tokens), "tokens": [], "top_logprobs": None}
        choice = {"token_ids": request.tokens, "logprobs": logprobs, "finish_reason": reason}
        if request.routed_from is not None and request.tokens:
            read = (*request.prompt, *request.tokens[:-1])[request.routed_from :]
            choice["routed_experts"] = routed_experts([routes_of(version_of(request.tokens[0]), one) for one in read])
        return 200, {"choices": [choice]}

    async def _generate(self) -> None:
        while True:
            await asyncio.sleep(self._tick_s)
            self.running = len(self._in_flight)
            for request in [*self._in_flight]:
                if request.logprob is None and not self._paused:
                    request.logprob = self._read(request.prompt)
                if request.logprob is not None:
                    self._sample(request)

    def _read(self, prompt: tuple[int, ...]) -> float:
        """The log-probability after this prompt, of which whole blocks may be cached."""
        is_known = True
        cached = set()
        for end in range(_BLOCK, len(prompt), _BLOCK):
            is_known = is_known and prompt[:end] in self._cache
            if is_known:
                cached.add(self._cache[prompt[:end]])
            else:
                self._cache[prompt[:end]] = self._version
        return -0.5 if cached <= {self._version} else _OF_ANOTHER_VERSION

    def _sample(self, request: FakeRequest) -> None:
        stops = request.random.random() < self._stop_share
        request.tokens.append(1000 * self._version + (999 if stops else request.random.randrange(900)))
        self.sampled += 1
        whole = (*request.prompt, *request.tokens)
        if len(whole) % _BLOCK == 0:
            self._cache[whole] = self._version
        if request.tokens[-1] in request.stops:
            self._end(request, "stop")
        elif len(request.tokens) >= request.max_tokens:
            self._end(request, "length")

    def _end(self, request: FakeRequest, reason: str) -> None:
        self._in_flight.remove(request)
        request.end(reason)
