"""`Doorway`: one session's gateway for the programs in its sandbox, which has no network.

    in the sandbox    http://127.0.0.1:PORT ──forward──> INSIDE/socket
    on this host      DIRECTORY, mounted read-only at INSIDE ──> the one session

The socket leads to its session alone: requests name no session, and nothing else is served. Whatever runs in the
sandbox can connect to it, the policy's own commands too. So it bounds what they can take of this host, and the session
tells apart what they ask (`GatewaySession.reachable`).
"""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from swe_aem.gateway.server import MAX_REQUEST_BYTES, respond
from swe_aem.gateway.server_log import server_log
from swe_aem.gateway.session import GatewaySession

if TYPE_CHECKING:
    from aiohttp import web

INSIDE = "/.swe-aem-gateway"
"""Where the sandbox sees the directory."""
PORT = 8377
"""The port of the sandbox's loopback interface that leads to the gateway while `FORWARD COMMAND...` runs."""
ROOT_URL = f"http://127.0.0.1:{PORT}"
"""Base URL for Anthropic's clients in the sandbox; OpenAI's take it with `/v1`."""
FORWARD = f"{INSIDE}/forward forward {PORT} {INSIDE}/socket"
"""The beginning of a command line for the sandbox; a program with its path and arguments follow."""
MOST_CONNECTIONS = 64
"""Connections at once; a further one is closed. Each costs this process a descriptor."""
_MOST_BODIES = 4
"""Bodies that are read at once."""
_BYTES_PER_TOKEN = 32
"""No prompt has more bytes per token, so a longer body cannot fit the context."""
_SHUTDOWN_S = 2.0


class Doorway:
    """A directory of this host with the session's socket and the forwarder."""

    def __init__(self, directory: Path, forwarder: Path) -> None:
        """`directory` exists and is empty; nobody else may reach its parent. `forwarder` is a static program of the
        sandbox's architecture: `forward PORT SOCKET COMMAND...` runs COMMAND, and connects PORT to SOCKET until it
        ends."""
        self.directory = directory
        directory.chmod(0o755)
        shutil.copyfile(forwarder, directory / "forward")
        (directory / "forward").chmod(0o755)

    @asynccontextmanager
    async def serving(self, session: GatewaySession) -> AsyncIterator[None]:
        """Serve the session for the length of an `async with`."""
        from aiohttp import web

        session.reachable = True
        bodies = asyncio.Semaphore(_MOST_BODIES)

        async def handle(request: web.Request) -> web.Response:
            return await respond(session, request, reading=bodies)

        most_bytes = session.limits.max_context_tokens * _BYTES_PER_TOKEN + (1 << 20)
        app = web.Application(client_max_size=min(MAX_REQUEST_BYTES, most_bytes))
        app.router.add_route("*", "/v1/{path:.+}", handle)
        runner = web.AppRunner(app, access_log=None, logger=server_log(), shutdown_timeout=_SHUTDOWN_S)
        await runner.setup()
        try:
            listening = await self._listen(runner)
            try:
                yield
            finally:
                listening.close()
        finally:
            await runner.cleanup()

    async def _listen(self, runner: "web.AppRunner") -> asyncio.Server:
        assert runner.server is not None
        server = runner.server

        def accept() -> asyncio.Protocol:
            return server() if len(server.connections) < MOST_CONNECTIONS else _Full()

        at = os.open(self.directory, os.O_PATH | os.O_DIRECTORY)
        try:  # by the descriptor: a socket's path may have 107 characters
            path = f"/proc/self/fd/{at}/socket"
            listening = await asyncio.get_running_loop().create_unix_server(accept, path)
            os.chmod(path, 0o666)
        finally:
            os.close(at)
        return listening


class _Full(asyncio.Protocol):
    """Closes a connection that is one too many."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio."""
        transport.close()
