"""`Gateway`: the HTTP server in the event loop of a rollout, on a free port of the loopback interface.

async with Gateway(renderer) as gateway:
    async with gateway.session(task, sample, policy, limits, deadline) as session:
        ...                                    # a client talks to session.url
    trajectory = session.trajectory(...)

POST URL/chat/completions    streaming too
GET  URL/models
"""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import swe_aem.gateway.wire as wire
from swe_aem.agent import TurnLimits, TurnRenderer
from swe_aem.core import AnyPolicy, Deadline, Stop, Task
from swe_aem.gateway.messages import BadRequest
from swe_aem.gateway.session import GatewaySession, SessionEnded

if TYPE_CHECKING:
    from aiohttp import web

_MAX_REQUEST_BYTES = 256 << 20
_SHUTDOWN_S = 2.0


class Gateway:
    """The HTTP server for any number of sessions. Use as an async context manager."""

    def __init__(self, renderer: TurnRenderer | None) -> None:
        """Policies that take token ids need the renderer."""
        self._renderer = renderer
        self.sessions: dict[str, GatewaySession] = {}
        """The open sessions, by id."""
        self._runner: web.AppRunner | None = None
        self._root = ""

    async def __aenter__(self) -> "Gateway":
        from aiohttp import web

        app = web.Application(client_max_size=_MAX_REQUEST_BYTES)
        app.router.add_post("/{session}/v1/chat/completions", self._completions)
        app.router.add_get("/{session}/v1/models", self._models)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=_SHUTDOWN_S)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self._root = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *exc: object) -> None:
        for session in list(self.sessions.values()):
            await session.close()
        if self._runner is not None:
            await self._runner.cleanup()

    @asynccontextmanager
    async def session(
        self, task: Task, sample: int, policy: AnyPolicy, limits: TurnLimits, deadline: Deadline
    ) -> AsyncIterator[GatewaySession]:
        """A session for the length of an `async with`; its trajectory can be read afterwards."""
        session = GatewaySession(task, sample, policy, self._renderer, limits, deadline)
        session.url = f"{self._root}/{session.id}/v1"
        self.sessions[session.id] = session
        try:
            yield session
        finally:
            del self.sessions[session.id]
            await session.close()

    async def _completions(self, request: "web.Request") -> "web.Response":
        session = self.sessions.get(request.match_info["session"])
        if session is None:
            return _refusal(404, "there is no such session, or it is over", "no_session")
        try:
            messages, tools, stream = wire.read_request(_parsed(await request.read()))
            turn = await session.complete(messages, tools)
        except BadRequest as error:
            return _refusal(400, str(error), "bad_request")
        except SessionEnded as error:
            if session.stop is Stop.CONTEXT_LIMIT:
                return _refusal(400, str(error), "context_length_exceeded")
            return _refusal(403, str(error), "session_ended")  # the only status that no client retries
        if stream:
            return _response(200, wire.events(session, turn), "text/event-stream")
        return _json(200, wire.completion(session, turn))

    async def _models(self, request: "web.Request") -> "web.Response":
        session = self.sessions.get(request.match_info["session"])
        if session is None:
            return _refusal(404, "there is no such session, or it is over", "no_session")
        return _json(200, wire.models(session))


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"the body is not JSON: {error}") from error


def _refusal(status: int, message: str, code: str) -> "web.Response":
    return _json(status, wire.failure(message, code))


def _json(status: int, body: Any) -> "web.Response":
    return _response(status, json.dumps(body).encode(), "application/json")


def _response(status: int, body: bytes, content_type: str) -> "web.Response":
    from aiohttp import web

    return web.Response(status=status, body=body, content_type=content_type)
