"""A completions server for tests: real sockets, real HTTP, and faults on demand."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

MODEL = {"id": "tiny", "max_model_len": 1000}
STOP = 258


def choice(**changes: Any) -> dict[str, Any]:
    """A well-formed choice: 7, 8 and the stop token."""
    logprobs = {"token_logprobs": [-0.5, -1.5, -0.25], "tokens": ["a", "b", ""]}
    return {"token_ids": [7, 8, STOP], "logprobs": logprobs, "finish_reason": "stop", "text": "ignored"} | changes


class FaultyServer:
    """Answers requests with what `script` says, one entry per completion request; the last entry repeats.

    An entry is a dict (answered with 200), a (status, dict) pair, or the name of a fault: `stall`, `drop` (close
    without an answer), `truncate` (half a body), `garbage` (200, not JSON).
    """

    def __init__(self) -> None:
        self.script: list[Any] = [{"choices": [choice()]}]
        self.models: Any = {"data": [MODEL]}
        self.answer: Callable[[dict[str, Any]], dict[str, Any]] | None = None
        self.requests: list[dict[str, Any]] = []
        self.heads: list[str] = []
        self.connections = 0
        self.requested = asyncio.Event()
        self.disconnected = asyncio.Event()
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        self.connections += 1
        try:
            while await self._request(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            self.disconnected.set()
        finally:
            writer.close()

    async def _request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.heads.append(head)
        lengths = [line.split(":")[1] for line in head.split("\r\n") if line.lower().startswith("content-length")]
        body = await reader.readexactly(int(lengths[0])) if lengths else b""
        if "/v1/models" in head.split("\r\n")[0]:
            return await self._send(writer, 200, self.models)
        self.requests.append(json.loads(body))
        self.requested.set()
        if self.answer is not None:
            return await self._send(writer, 200, self.answer(self.requests[-1]))
        entry = self.script[min(len(self.requests), len(self.script)) - 1]
        if entry == "stall":
            if not await reader.read(1):
                self.disconnected.set()
            return False
        if entry == "drop":
            return False
        if entry == "truncate":
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n" + b'{"choices": [')
            await writer.drain()
            return False
        if entry == "garbage":
            return await self._send(writer, 200, "<html>", raw=True)
        status, answer = entry if isinstance(entry, tuple) else (200, entry)
        return await self._send(writer, status, answer)

    async def _send(self, writer: asyncio.StreamWriter, status: int, answer: Any, raw: bool = False) -> bool:
        data = (answer if raw else json.dumps(answer)).encode()
        writer.write(f"HTTP/1.1 {status} X\r\ncontent-length: {len(data)}\r\n\r\n".encode() + data)
        await writer.drain()
        return True


@pytest.fixture
async def server() -> AsyncIterator[FaultyServer]:
    faulty = FaultyServer()
    listener = await asyncio.start_server(faulty.serve, "127.0.0.1", 0)
    faulty.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    yield faulty
    listener.close()


@pytest.fixture
def make_choice() -> Callable[..., dict[str, Any]]:
    """Builds a choice of a completion answer; keywords change its fields."""
    return choice
