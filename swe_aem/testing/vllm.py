"""`SimulatedVllm`: a fake vLLM server on a real socket, with chosen latencies and failures and without a model.

It is for tests of failures that a real server does not show on demand, and for loads that a small machine cannot
sample. It answers a request after `latency_s(request)` seconds with the ids of `tokens(request)`.
"""

import asyncio
import json
import random
from collections.abc import Callable
from typing import Any, Self

_STOP = 258


class SimulatedVllm:
    """A fake server. Use as an async context manager."""

    def __init__(
        self,
        *,
        tokens: Callable[[dict[str, Any]], list[int]] | None = None,
        latency_s: Callable[[dict[str, Any]], float] = lambda body: 0.0,
        top_logprobs: bool = False,
    ) -> None:
        """`tokens` makes the response to a request; by default 8 random ids and a stop token. `top_logprobs`: with the
        alternatives that it asks for."""
        self._tokens = tokens or (lambda body: [*random.choices(range(20, 250), k=8), _STOP])
        self._latency_s = latency_s
        self._top_logprobs = top_logprobs
        self.weights = "default"
        """The weight version in the answer of /weight_info."""
        self.adapters: list[str] = []
        """Adapters that /v1/models lists besides the model."""
        self.statuses: list[int] = []
        """HTTP statuses that the next requests for completions get in place of 200, in this order."""
        self.instead: dict[str, tuple[int, bytes]] = {}
        """Status and body that a path answers with in place of its own."""
        self.key: str | None = None
        """The key without which every path but /health answers 401."""
        self.well = True
        """False makes /health answer 503."""
        self.stuck = False
        """True makes it accept requests and generate no token."""
        self.running = 0
        self.most_running = 0
        self.requests: list[dict[str, Any]] = []
        self.sampled = 0
        self.paused = False
        """What it answers when it is asked whether it is paused."""
        self.updating = False
        """Was a weight update begun and not ended?"""
        self.url = ""
        self._connections: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        await self._listen(0)
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._hang_up()

    async def _listen(self, port: int) -> None:
        self._listener = await asyncio.start_server(self._accept, "127.0.0.1", port, backlog=4096)
        self.url = f"http://127.0.0.1:{self._listener.sockets[0].getsockname()[1]}"

    async def _hang_up(self) -> None:
        """Close the port and all connections."""
        for socket in self._listener.sockets:
            asyncio.get_running_loop().remove_reader(socket.fileno())
        for _ in range(3):  # what is accepted already becomes a connection, which would else never be closed
            await asyncio.sleep(0)
        self._listener.close()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = asyncio.create_task(self._serve(reader, writer))
        self._connections.add(connection)
        connection.add_done_callback(self._connections.discard)
        connection.add_done_callback(lambda _: writer.close())  # also where it is cancelled before it begins

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                line, *headers = head.split("\r\n")
                lengths = [one.split(":")[1] for one in headers if one.lower().startswith("content-length")]
                body = await reader.readexactly(int(lengths[0])) if lengths else b""
                path, _, query = line.split()[1].partition("?")
                may = self._may(path, headers)
                status, answer = await self._answer(path, query, body) if may else (401, {"error": "no"})
                data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                writer.write(f"HTTP/1.1 {status} X\r\ncontent-length: {len(data)}\r\n\r\n".encode() + data)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass

    def _may(self, path: str, headers: list[str]) -> bool:
        given = [one.partition(":")[2].strip() for one in headers if one.lower().startswith("authorization:")]
        return self.key is None or path == "/health" or given == [f"Bearer {self.key}"]

    async def _answer(self, path: str, query: str, body: bytes) -> tuple[int, Any]:
        if path in self.instead:
            return self.instead[path]
        match path:
            case "/health":
                return (200 if self.well else 503), {}
            case "/metrics":
                return 200, self._metrics()
            case "/v1/models":
                card = {"root": "m", "owned_by": "vllm", "max_model_len": 32768}
                return 200, {"data": [{"id": name, **card} for name in ("policy", *self.adapters)]}
            case "/v1/load_lora_adapter":
                self.adapters.append(json.loads(body)["lora_name"])
                return 200, {}
            case "/v1/unload_lora_adapter":
                name = json.loads(body)["lora_name"]
                if name not in self.adapters:
                    return 404, {"error": {"message": f"The lora adapter '{name}' cannot be found."}}
                self.adapters.remove(name)
                return 200, {}
            case "/get_world_size":
                return 200, {"world_size": 1}
            case "/is_paused":
                return 200, {"is_paused": self.paused}
            case "/pause" | "/resume" | "/init_weight_transfer_engine":
                return 200, {}
            case "/start_weight_update" | "/update_weights" | "/finish_weight_update":
                if self.updating != (path != "/start_weight_update"):
                    return 500, {"error": f"{path} while an update is {'' if self.updating else 'not '}active"}
                self.updating = path != "/finish_weight_update"
                if not self.updating and body:
                    self.weights = json.loads(body)["weight_version"]
                return 200, {}
            case "/weight_info":
                return 200, {"weight_version": self.weights}
            case "/v1/completions":
                return await self._complete(json.loads(body))
        return 404, {}

    async def _complete(self, body: dict[str, Any]) -> tuple[int, Any]:
        if self.statuses:
            return self.statuses.pop(0), {"error": {"message": "asked for by a test"}}
        self.requests.append({name: value for name, value in body.items() if name != "prompt"})
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            ids = self._tokens(body)
            await asyncio.sleep(1e6 if self.stuck else self._latency_s(body))
            self.sampled += len(ids)
        finally:
            self.running -= 1
        asked = body.get("logprobs") or 0
        alternatives = {f"token_id:{n}": -3.0 - n for n in range(asked)}
        top = [alternatives] * len(ids) if self._top_logprobs and asked else None
        logprobs = {"token_logprobs": [-0.5] * len(ids), "tokens": [""] * len(ids), "top_logprobs": top}
        return 200, {"choices": [{"token_ids": ids, "logprobs": logprobs, "finish_reason": "stop", "text": ""}]}

    def _metrics(self) -> bytes:
        figures = {
            "num_requests_running": self.running,
            "num_requests_waiting": 0,
            "kv_cache_usage_perc": 0.1,
            "generation_tokens_total": self.sampled,
        }
        return "".join(f'vllm:{name}{{engine="0"}} {value}\n' for name, value in figures.items()).encode()
