"""The host's end of the control channel, against a warden that is played over a socket pair."""

import asyncio
import contextlib
import socket
import struct
import tracemalloc
from collections.abc import Iterator

import pytest

from swe_aem.sandbox.channel import MAGIC, Channel, Operation

HEADER = struct.Struct("<IIII")


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    host, warden = socket.socketpair()
    with contextlib.closing(host), contextlib.closing(warden):
        yield host, warden


def reply(id: int, payload: bytes = b"") -> bytes:
    return HEADER.pack(MAGIC, id, 0, len(payload)) + payload


@pytest.mark.parametrize("first", ["cancellation", "reply"])
async def test_a_reply_in_the_turn_of_the_cancellation_is_the_last_of_its_request(
    ends: tuple[socket.socket, socket.socket], first: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reply may be read before the caller hears of its cancellation: no second reply may be waited for."""
    monkeypatch.setattr("swe_aem.sandbox.channel.CANCEL_GRACE_S", 0.2)
    channel = await Channel.connect(ends[0])
    call = asyncio.create_task(channel.request(Operation.RUN, b"", timeout_s=5))
    await asyncio.sleep(0)
    steps = [call.cancel, lambda: channel.data_received(reply(1))]
    for step in steps if first == "cancellation" else reversed(steps):
        step()
    await asyncio.wait([call])
    assert call.cancelled()
    assert channel.dead is None
    answer = asyncio.create_task(channel.request(Operation.PING, b"", timeout_s=5))
    await asyncio.sleep(0)
    ends[1].sendall(reply(2, b"pong"))
    assert await answer == b"pong"
    channel.give_up("done")


async def test_a_long_reply_is_copied_once(ends: tuple[socket.socket, socket.socket]) -> None:
    channel = await Channel.connect(ends[0])
    call = asyncio.create_task(channel.request(Operation.LIST_TREE, b"", timeout_s=60))
    await asyncio.sleep(0)
    part = bytes(1 << 20)
    tracemalloc.start()
    try:
        channel.data_received(HEADER.pack(MAGIC, 1, 0, 64 << 20))
        for _ in range(64):
            channel.data_received(part)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(await call) == 64 << 20
    assert peak < 2.5 * (64 << 20)
    channel.give_up("done")


async def test_a_cancelled_command_is_waited_for(ends: tuple[socket.socket, socket.socket]) -> None:
    channel = await Channel.connect(ends[0])
    call = asyncio.create_task(channel.request(Operation.RUN, b"", timeout_s=5))
    await asyncio.sleep(0)
    call.cancel()
    await asyncio.sleep(0.05)
    assert not call.done()
    asked = ends[1].recv(4096)
    starts = (0, HEADER.size)
    assert [HEADER.unpack_from(asked, at)[1:3] for at in starts] == [
        (Operation.RUN, 1),
        (Operation.CANCEL, 1),
    ]
    ends[1].sendall(reply(1))
    await asyncio.wait([call])
    assert call.cancelled()
    assert channel.dead is None
    channel.give_up("done")
