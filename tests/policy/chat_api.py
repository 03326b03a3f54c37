"""A chat API for tests: real sockets, real HTTP, and faults on demand."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

USAGE = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}


def answer(content: Any = "Hello.", *, finish: str = "stop", usage: Any = USAGE, **message: Any) -> dict[str, Any]:
    """A well-formed answer of a chat API."""
    said = {"role": "assistant", "content": content, **message}
    body = {"id": "1", "object": "chat.completion", "choices": [{"index": 0, "message": said, "finish_reason": finish}]}
    return body | ({} if usage is None else {"usage": usage})


class ChatApi:
    """Answers requests with what `script` says, one entry each; the last one repeats. An entry is a body,
    (status, body), (status, body, headers), a function of the request that returns one of these, or a fault: `drop`,
    `truncate`, `page`, `stall`."""

    def __init__(self) -> None:
        self.script: list[Any] = [answer()]
        self.models: Any = {"data": [{"id": "gpt-x", "owned_by": "openai"}, {"id": "gpt-x-mini", "owned_by": "openai"}]}
        self.key: str | None = None
        self.reply: Callable[[dict[str, Any]], dict[str, Any]] | None = None
        self.requests: list[dict[str, Any]] = []
        self.headers: list[Any] = []
        self.arrived = asyncio.Event()
        self.url = ""

    async def list_models(self, request: web.Request) -> web.StreamResponse:
        if self.key is not None and request.headers.get("Authorization") != f"Bearer {self.key}":
            return web.json_response(
                {"error": {"message": f"wrong key {request.headers.get('Authorization')}"}}, status=401
            )
        status, body = self.models if isinstance(self.models, tuple) else (200, self.models)
        return web.json_response(body, status=status)

    async def complete(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(await request.json())
        self.headers.append(request.headers)
        self.arrived.set()
        if self.reply is not None:
            return web.json_response(self.reply(self.requests[-1]))
        entry = self.script[min(len(self.requests), len(self.script)) - 1]
        if callable(entry):
            entry = entry(self.requests[-1])
        if entry == "stall":
            await asyncio.sleep(60)
        if entry in ("drop", "truncate"):
            if entry == "truncate":
                response = web.StreamResponse(headers={"Content-Length": "1000"})
                await response.prepare(request)
                await response.write(b'{"choices": [')
            assert request.transport is not None
            request.transport.close()
            return web.Response()
        if entry == "page":
            return web.Response(text="<html>Welcome</html>", content_type="text/html")
        status, body, headers = (*entry, {})[:3] if isinstance(entry, tuple) else (200, entry, {})
        return web.json_response(body, status=status, headers=headers)


@asynccontextmanager
async def serving() -> AsyncIterator[ChatApi]:
    """A chat API at a port of its own."""
    served = ChatApi()
    app = web.Application()
    app.router.add_get("/v1/models", served.list_models)
    app.router.add_post("/v1/chat/completions", served.complete)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    served.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    yield served
    await runner.cleanup()
