"""`PolicyEndpoint`: an HTTP endpoint in front of a policy of this process, for agents in others.

    async with PolicyEndpoint(policy) as endpoint:
        url = await endpoint.listen("127.0.0.1")          # agents ask it with a `CompletionsPolicy`, with endpoint.key

GET  URL/v1/models           the one model
POST URL/v1/completions      token ids in, sampled ids and log-probabilities out, with the version that sampled them

Whoever does not know the key, which is random, gets nothing.
"""

import asyncio
import hmac
import json
import secrets
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from swe_aem.core import Policy, SamplingParams
from swe_aem.errors import PolicyError, UserError
from swe_aem.policy.completions_wire import VERSION_FIELD
from swe_aem.policy.errors import ContextOverflow

if TYPE_CHECKING:
    from aiohttp import web

_MAX_REQUEST_BYTES = 64 << 20
_SHUTDOWN_S = 2.0


class PolicyEndpoint:
    """Serves one policy. Use as an async context manager."""

    def __init__(self, policy: Policy, *, max_model_tokens: int | None = None) -> None:
        """`max_model_tokens` is what prompt and response may have together."""
        self.key = secrets.token_urlsafe(32)
        """What a request has to bear as its token."""
        self._policy, self._max_model_tokens = policy, max_model_tokens
        self._runner: web.AppRunner | None = None
        self._urls: dict[str, str] = {}
        self._listening = asyncio.Lock()

    async def __aenter__(self) -> "PolicyEndpoint":
        from aiohttp import web

        @web.middleware
        async def for_key_holders(
            request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
        ) -> web.StreamResponse:
            given = request.headers.get("Authorization", "").encode()
            if not hmac.compare_digest(given, f"Bearer {self.key}".encode()):
                return _refusal(401, "no or another key")
            return await handler(request)

        app = web.Application(client_max_size=_MAX_REQUEST_BYTES, middlewares=[for_key_holders])
        app.router.add_get("/v1/models", self._models)
        app.router.add_post("/v1/completions", self._completions)
        # An agent that is gone wants no response: cancelling the handler ends its sampling.
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=_SHUTDOWN_S, handler_cancellation=True)
        await self._runner.setup()
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def listen(self, address: str) -> str:
        """The URL at an address of this host, at a free port; listens there from now on. Raises `UserError` if it is
        none."""
        async with self._listening:
            if address not in self._urls:
                self._urls[address] = await self._new_url(address)
        return self._urls[address]

    async def _new_url(self, address: str) -> str:
        from aiohttp import web

        assert self._runner is not None, "use it as a context manager"
        site = web.TCPSite(self._runner, address, 0)
        try:
            await site.start()
        except OSError as error:
            raise UserError(f"agents cannot be served a policy at {address}: {error}") from error
        assert site._server is not None
        port = site._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]
        return f"http://{f'[{address}]' if ':' in address else address}:{port}"

    async def _models(self, request: "web.Request") -> "web.Response":
        card = {"id": self._policy.name, "owned_by": "swe-aem", "max_model_len": self._max_model_tokens}
        return _json(200, {"data": [card]})

    async def _completions(self, request: "web.Request") -> "web.Response":
        try:
            body = json.loads(await request.read())
            prompt_ids = tuple(map(int, body["prompt"]))
            fields = {name: body[name] for name in SamplingParams.model_fields if name in body}
            params = SamplingParams.model_validate(fields)
        except (ValueError, TypeError, LookupError, ValidationError) as error:
            return _refusal(400, f"this is no request for a completion: {error}")
        try:
            completion = await self._policy.sample(prompt_ids, params, trajectory_id=str(body.get("user", "")))
        except ContextOverflow as error:
            return _refusal(400, str(error), "context_length_exceeded")
        except UserError as error:
            return _refusal(400, str(error))
        except PolicyError as error:
            return _refusal(500, str(error))
        choice = {
            "token_ids": completion.token_ids,
            "logprobs": {"token_logprobs": completion.logprobs},
            "finish_reason": completion.finish_reason,
        }
        return _json(200, {VERSION_FIELD: completion.version, "choices": [choice]})


def _refusal(status: int, message: str, code: str | None = None) -> "web.Response":
    return _json(status, {"error": {"message": message, "code": code}})


def _json(status: int, body: Any) -> "web.Response":
    from aiohttp import web

    return web.Response(status=status, body=json.dumps(body).encode(), content_type="application/json")
