"""The host's end of the control channel to a warden (`sandboxes/warden/warden.c` is the other end).

One connection per sandbox for its whole life. A request is {magic, operation, id, payload bytes} and the payload, a
reply {magic, id, errno, payload bytes} and the payload, little-endian. One request is under way at a time; a request
whose caller is cancelled is cancelled in the sandbox too, so that no command keeps running unobserved.
"""

import asyncio
import os
import socket
import struct
from enum import IntEnum

from swe_aem.errors import SandboxDead

MAGIC = 0x44525721
_REQUEST = struct.Struct("<IIII")
_REPLY = struct.Struct("<IIII")
_DOCKER_HEADER = struct.Struct(">BxxxI")
_STDOUT = 1

CANCEL_GRACE_S = 5.0
"""How long a cancelled command may take to die before the whole sandbox is given up."""


class Operation(IntEnum):
    """The requests that a warden understands."""

    RUN = 1
    READ = 2
    WRITE = 3
    CANCEL = 4
    PING = 5
    SETTLE = 6
    LIST_TREE = 7
    READ_TREE = 8
    CHANGE_TREE = 9
    READ_OUTPUT = 10


class Channel(asyncio.Protocol):
    """Framed requests over a stream socket; `multiplexed` strips the engine's attach headers (docker without a TTY)."""

    def __init__(self, *, multiplexed: bool = False) -> None:
        self._multiplexed = multiplexed
        self._raw = bytearray()
        self._frames = bytearray()
        self._complaints = bytearray()
        self._transport: asyncio.Transport | None = None
        self._reply: asyncio.Future[tuple[int, bytes]] | None = None
        self._lock = asyncio.Lock()
        self._requests = 0
        self._answered = 0
        self._dead: str | None = None

    @classmethod
    async def connect(cls, connection: socket.socket, *, multiplexed: bool = False) -> "Channel":
        """Take over a connected socket."""
        connection.setblocking(False)
        loop = asyncio.get_running_loop()
        _, channel = await loop.create_connection(lambda: cls(multiplexed=multiplexed), sock=connection)
        return channel

    @property
    def dead(self) -> str | None:
        """Why the connection can no longer be used; None while it can."""
        return self._dead

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Called by asyncio: collect bytes, finish the reply that is waited for."""
        if self._multiplexed:
            self._raw += data
            self._demultiplex()
        else:
            self._frames += data
        if len(self._frames) < _REPLY.size:
            return
        magic, id, error, size = _REPLY.unpack_from(self._frames)
        if magic != MAGIC:
            self.give_up(f"the warden sent no frame but {bytes(self._frames[:200])!r}")
            return
        if len(self._frames) < _REPLY.size + size:
            return
        with memoryview(self._frames) as frames:  # a slice of the array would be one more copy of all
            payload = bytes(frames[_REPLY.size : _REPLY.size + size])
        del self._frames[: _REPLY.size + size]
        if id != self._requests:
            self.give_up(f"the warden answered request {id} instead of {self._requests}")
            return
        self._answered = id
        if self._reply and not self._reply.done():
            self._reply.set_result((error, payload))

    def _demultiplex(self) -> None:
        while len(self._raw) >= _DOCKER_HEADER.size:
            stream, size = _DOCKER_HEADER.unpack_from(self._raw)
            end = _DOCKER_HEADER.size + size
            if len(self._raw) < end:
                return
            target = self._frames if stream == _STDOUT else self._complaints
            target += self._raw[_DOCKER_HEADER.size : end]
            del self._raw[:end]

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by asyncio: the sandbox has ended."""
        said = self._complaints.decode("utf-8", "replace").strip()
        self.give_up(said or (f"connection lost: {exc}" if exc else "it ended"))

    def give_up(self, why: str) -> None:
        """Close the connection (the warden then ends its sandbox); pending and later requests raise `SandboxDead`."""
        self._dead = self._dead or why
        if self._transport:
            self._transport.abort()
        if self._reply and not self._reply.done():
            self._reply.set_exception(SandboxDead(self._dead))

    async def request(self, operation: Operation, payload: bytes, *, timeout_s: float) -> bytes:
        """Ask and wait for the reply's payload.

        `timeout_s` is the host's own guard: a warden that is silent for longer is dead. Raises `SandboxDead`, or the
        `OSError` subclass of the errno that the warden reports, with the path that it is about where that is said.
        """
        async with self._lock:
            if self._dead is not None or self._transport is None or self._transport.is_closing():
                raise SandboxDead(self._dead or "it has closed its connection")
            self._requests += 1
            self._reply = asyncio.get_running_loop().create_future()
            header = _REQUEST.pack(MAGIC, operation, self._requests, len(payload))
            self._transport.write(header + payload)
            try:
                async with asyncio.timeout(timeout_s):
                    error, answer = await self._reply
            except TimeoutError:
                self.give_up(f"no answer within {timeout_s:.0f} s")
                raise SandboxDead(self._dead or "") from None
            except asyncio.CancelledError:
                await self._cancel(operation)
                raise
            if error:
                raise OSError(error, os.strerror(error), *([os.fsdecode(answer)] if answer else []))
            return answer

    async def _cancel(self, operation: Operation) -> None:
        """Let the warden kill the command of a cancelled request and wait for its (unwanted) reply."""
        assert self._transport is not None
        if self._answered == self._requests:
            return  # the reply arrived together with the cancellation
        self._reply = asyncio.get_running_loop().create_future()
        try:
            if operation is Operation.RUN:
                self._transport.write(_REQUEST.pack(MAGIC, Operation.CANCEL, self._requests, 0))
            async with asyncio.timeout(CANCEL_GRACE_S):
                await self._reply
        except (TimeoutError, SandboxDead, asyncio.CancelledError):
            self.give_up("a cancelled command could not be ended")
