"""What clients that break their connections leave in the log: one line, and no traceback."""

import asyncio
import logging
import socket
from pathlib import Path
from typing import Any

import pytest

from swe_aem.core import Deadline
from swe_aem.gateway import Doorway, Gateway
from swe_aem.sandbox.warden import warden_binary
from tests.gateway.conftest import LIMITS, RENDERERS, TASK, Played

RENDERER = RENDERERS["bytes", True]
HEAD = b"POST /v1/messages HTTP/1.1\r\nHost: x\r\n"
BROKEN = {
    "a body that ends early": HEAD + b"Content-Length: 1000000\r\n\r\n{",
    "a chunk that ends early": HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nab",
    "a chunk without a length": HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nab\r\n",
    "no header": HEAD + b"No header\r\n\r\n",
    "a long header": HEAD + b"Long: " + b"x" * 20_000 + b"\r\n\r\n",
    "no HTTP": b"\x00\x01 nothing\r\n\r\n",
    "TLS": bytes.fromhex("16030100a5010000a10303"),
    "no gzip": HEAD + b"Content-Encoding: gzip\r\nContent-Length: 5\r\n\r\nabcde",
}


async def send(path: Path, data: bytes) -> bytes:
    """Send bytes and no more; what came back before the end."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(connection, str(path))
        await loop.sock_sendall(connection, data)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while got := await loop.sock_recv(connection, 1 << 16):
            answer += got
        return answer


async def test_a_broken_connection_is_one_quiet_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    doorway = Doorway(tmp_path, warden_binary())
    async with (
        Gateway(RENDERER) as gateway,
        gateway.session(TASK, 0, Played(RENDERER, []), LIMITS, Deadline.after(300)) as session,
        doorway.serving(session),
    ):
        for data in BROKEN.values():
            await send(tmp_path / "socket", data)
    lines = [record for record in caplog.records if record.name.startswith(("swe_aem.gateway", "aiohttp"))]
    assert [(line.levelname, line.exc_info) for line in lines] == [("INFO", None)]
    assert lines[0].getMessage().startswith("a client broke its connection: ")


async def test_a_failure_of_ours_keeps_its_traceback(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*given: Any) -> None:
        raise LookupError("a fault of ours")

    doorway = Doorway(tmp_path, warden_binary())
    async with (
        Gateway(RENDERER) as gateway,
        gateway.session(TASK, 0, Played(RENDERER, []), LIMITS, Deadline.after(300)) as session,
        doorway.serving(session),
    ):
        monkeypatch.setattr(session, "complete", fail)
        body = b'{"messages": [{"role": "user", "content": "x"}]}'
        answer = await send(tmp_path / "socket", HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body)
    assert b" 500 " in answer
    assert "a fault of ours" in caplog.text
    assert "Traceback" in caplog.text
