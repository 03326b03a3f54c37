"""Fake vLLM servers without sockets, so that they and their clients run in virtual time."""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from swe_aem.testing.tagging_vllm import FakeTaggingVllm

_SERVERS: dict[str, "InMemoryVllm"] = {}
_NUMBERS = itertools.count()


class InMemoryVllm(FakeTaggingVllm):
    """A server that clients reach inside `in_memory`."""

    async def _listen(self, port: int) -> None:
        name = f"server-{next(_NUMBERS)}"
        _SERVERS[name] = self
        self.url = f"http://{name}"

    async def _hang_up(self) -> None:
        """No connection is open."""


@contextmanager
def in_memory() -> Iterator[None]:
    """Requests of httpx are answered in this process."""

    async def answer(_: Any, request: httpx.Request) -> httpx.Response:
        body = await request.aread()
        url = request.url
        status, answer = await _SERVERS[url.host]._answer(url.path, url.query.decode(), body)
        if isinstance(answer, bytes):
            return httpx.Response(status, content=answer)
        return httpx.Response(status, json=answer)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(httpx.AsyncHTTPTransport, "handle_async_request", answer)
        yield
