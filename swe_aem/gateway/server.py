"""`Gateway`: the HTTP server in the event loop of a rollout, on a free port of the loopback interface.

async with Gateway(renderer) as gateway:
    async with gateway.session(task, sample, policy, limits, deadline) as session:
        ...                                    # a client talks to session.url
    trajectory = session.trajectory(...)

POST URL/chat/completions, URL/responses, URL/messages    streaming too
POST URL/messages/count_tokens
GET  URL/models
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from swe_aem.agent import TurnLimits, TurnRenderer
from swe_aem.core import AnyPolicy, Deadline, Stop, Task
from swe_aem.gateway import anthropic_wire, chat_wire, responses_wire
from swe_aem.gateway.messages import BadRequest
from swe_aem.gateway.server_log import server_log
from swe_aem.gateway.session import GatewaySession, SessionEnded
from swe_aem.gateway.wire import Refusal, Wire

if TYPE_CHECKING:
    from aiohttp import web

MAX_REQUEST_BYTES = 256 << 20
_SHUTDOWN_S = 2.0
_WIRES: MappingProxyType[str, Wire] = MappingProxyType(
    {"chat/completions": chat_wire, "responses": responses_wire, "messages": anthropic_wire}
)
"""The protocol of each path below a session's URL."""
_COUNT = "messages/count_tokens"


class Refused(Exception):
    """A request that gets no answer."""

    def __init__(self, refusal: Refusal, why: str) -> None:
        super().__init__(why)
        self.refusal = refusal


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

        app = web.Application(client_max_size=MAX_REQUEST_BYTES)
        app.router.add_route("*", "/{session}/v1/{path:.+}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, logger=server_log(), shutdown_timeout=_SHUTDOWN_S)
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

    async def _handle(self, request: "web.Request") -> "web.Response":
        return await respond(self.sessions.get(request.match_info["session"]), request)


async def respond(
    session: GatewaySession | None, request: "web.Request", *, reading: asyncio.Semaphore | None = None
) -> "web.Response":
    """The response of a session to one HTTP request, whose path below the session's URL is `path`; `reading` bounds how
    many bodies are read at once."""
    path = request.match_info["path"]
    wire = _WIRES.get(path.removesuffix("/count_tokens"), chat_wire)
    try:
        return await _answer(_open(session), request, path, wire, reading)
    except Refused as refused:
        return _json(refused.refusal.status, wire.failure(refused.refusal, str(refused)))


async def _answer(
    session: GatewaySession, request: "web.Request", path: str, wire: Wire, reading: asyncio.Semaphore | None
) -> "web.Response":
    """The answer to one request; raises `Refused`."""
    try:
        if (request.method, path) == ("GET", "models"):
            return _json(200, _models(session))
        if request.method != "POST" or (path not in _WIRES and path != _COUNT):
            served = ", ".join(f"POST {name}" for name in (*_WIRES, _COUNT))
            raise Refused(Refusal.NO_ROUTE, f"no {request.method} {path[:200]} here: there are {served}, GET models")
        async with reading or nullcontext():
            asked = wire.read_request(await _body(request))
        if path == _COUNT:
            return _json(200, {"input_tokens": session.count_tokens(asked.messages, asked.tools)})
        turn = await session.complete(asked.messages, asked.tools)
    except BadRequest as error:
        raise Refused(Refusal.BAD_REQUEST, str(error)) from error
    except SessionEnded as error:
        full = error.stop is Stop.CONTEXT_LIMIT
        raise Refused(Refusal.CONTEXT_LIMIT if full else Refusal.SESSION_ENDED, str(error)) from error
    if asked.stream:
        return _response(200, wire.events(session.policy.name, turn), "text/event-stream")
    return _json(200, wire.answer(session.policy.name, turn))


def _open(session: GatewaySession | None) -> GatewaySession:
    if session is None:
        raise Refused(Refusal.NO_SESSION, "there is no such session, or it is over")
    return session


async def _body(request: "web.Request") -> Any:
    """The JSON body of a request; raises `BadRequest`, and `Refused` for one that is too large."""
    from aiohttp import web

    try:
        return json.loads(await request.read())
    except web.HTTPRequestEntityTooLarge as error:
        raise Refused(Refusal.TOO_LARGE, f"the body is too large: {error.text}") from error
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"the body is not JSON: {error}") from error


def _models(session: GatewaySession) -> dict[str, Any]:
    """The list of models as OpenAI's and Anthropic's clients read it; the policy alone is in it."""
    name = session.policy.name
    card = {"id": name, "object": "model", "created": 0, "owned_by": "swe-aem", "type": "model"}
    card |= {"display_name": name, "created_at": "1970-01-01T00:00:00Z"}
    card |= {"max_model_len": session.limits.max_context_tokens}
    return {"object": "list", "data": [card], "has_more": False, "first_id": name, "last_id": name}


def _json(status: int, body: Any) -> "web.Response":
    return _response(status, json.dumps(body).encode(), "application/json")


def _response(status: int, body: bytes, content_type: str) -> "web.Response":
    from aiohttp import web

    return web.Response(status=status, body=body, content_type=content_type)
