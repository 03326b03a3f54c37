"""`ServerControl`: the endpoints of a vLLM server other than generation: health, metrics, and those for new weights.

    POST /pause?mode=wait -> /start_weight_update -> /update_weights -> /finish_weight_update -> /resume

The last five exist where the server was started with VLLM_SERVER_DEV_MODE=1 and a --weight-transfer-config, as
`swe-aem serve` starts it. A pause that waits also empties the prefix cache.
"""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from swe_aem.core.base import Frozen
from swe_aem.errors import PolicyError
from swe_aem.policy.slots import ServerLoad

if TYPE_CHECKING:
    import httpx

_FIGURES = {
    "vllm:num_requests_running": "running",
    "vllm:num_requests_waiting": "waiting",
    "vllm:kv_cache_usage_perc": "cache_usage",
    "vllm:num_preemptions_total": "preemptions",
    "vllm:prompt_tokens_total": "tokens",
    "vllm:generation_tokens_total": "tokens",
}


class ServedModel(Frozen):
    """The model and weights that a server serves; different after a restart with other weights."""

    root: str
    """The directory that it loaded the model from."""
    weights: str | None
    """The label that the last update gave its weights; None if it has no such endpoint."""
    names: tuple[str, ...]
    """Names that requests may use: those of the model and its adapters."""


class ServerControl:
    """A client of those endpoints. Every method raises `PolicyError` with the server's message if a call fails."""

    def __init__(self, url: str, *, api_key: str | None = None, limit_s: float = 10.0) -> None:
        """`limit_s` bounds calls that only read. Calls that change the server's state have a limit of their own."""
        import httpx

        self.url = url.rstrip("/").removesuffix("/v1")
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._limit_s = limit_s
        # A health check must not reuse a connection: it would hang if the process behind it is gone.
        limits = httpx.Limits(max_keepalive_connections=0)
        self._client = httpx.AsyncClient(base_url=self.url, headers=headers, limits=limits, trust_env=False)

    async def close(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    async def load(self) -> ServerLoad:
        """The server's figures; fails if the server is not healthy."""
        await self._answer("GET", "/health")
        metrics = await self._answer("GET", "/metrics")
        with self._reading("/metrics"):
            return read_load(metrics.text)

    async def served_model(self) -> ServedModel:
        """The model and weights that it serves now."""
        models = await self._answer("GET", "/v1/models")
        info = await self._answer("GET", "/weight_info", accepted=(200, 404))
        with self._reading("/v1/models and /weight_info"):
            cards = models.json()["data"]
            return ServedModel(
                root=cards[0].get("root") or cards[0]["id"],
                weights=info.json()["weight_version"] if info.status_code == 200 else None,
                names=tuple(card["id"] for card in cards),
            )

    async def is_paused(self) -> bool:
        """Was its generation paused, and not resumed?"""
        answer = await self._answer("GET", "/is_paused")
        with self._reading("/is_paused"):
            return bool(answer.json()["is_paused"])

    async def world_size(self) -> int:
        """Number of worker processes that hold weights."""
        answer = await self._answer("GET", "/get_world_size")
        with self._reading("/get_world_size"):
            return int(answer.json()["world_size"])

    async def unload_adapter(self, name: str, *, limit_s: float) -> None:
        """Unload an adapter. A server that does not have it, for example after a restart, is left alone."""
        body = {"lora_name": name}
        await self._answer("POST", "/v1/unload_lora_adapter", {}, body, limit_s, accepted=(200, 404))

    async def post(
        self, path: str, body: Any = None, *, limit_s: float, query: dict[str, str] | None = None
    ) -> "httpx.Response":
        """Change the server's state by one call that may take `limit_s` seconds."""
        return await self._answer("POST", path, query or {}, body, limit_s)

    async def _answer(
        self,
        method: str,
        path: str,
        query: dict[str, str] | None = None,
        body: Any = None,
        limit_s: float | None = None,
        *,
        accepted: Collection[int] = (200,),
    ) -> "httpx.Response":
        response = await self._send(method, path, query or {}, body, limit_s or self._limit_s)
        if response.status_code not in accepted:
            raise PolicyError(f"{self.url}{path} answers {response.status_code}: {response.text[:500]}")
        return response

    @contextmanager
    def _reading(self, path: str) -> Iterator[None]:
        """Turn errors of reading an answer into `PolicyError`: a proxy in front of the server may send anything."""
        try:
            yield
        except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError) as error:
            raise PolicyError(
                f"{self.url}{path} gave an answer that vLLM does not give: {type(error).__name__}: {error}"
            ) from error

    async def _send(self, method: str, path: str, query: dict[str, str], body: Any, limit_s: float) -> "httpx.Response":
        import httpx

        try:
            return await self._client.request(method, path, params=query, json=body, timeout=limit_s)
        except httpx.TimeoutException as error:
            raise PolicyError(f"{self.url}{path} gave no answer in {limit_s:g} s") from error
        except httpx.HTTPError as error:
            raise PolicyError(f"{self.url}{path}: {type(error).__name__}: {error}") from error


def read_load(metrics: str) -> ServerLoad:
    """The figures in a server's /metrics (Prometheus text), summed over its engines; missing figures are 0."""
    found = dict.fromkeys(_FIGURES.values(), 0.0)
    for line in metrics.splitlines():
        name, _, rest = line.partition("{")
        if name in _FIGURES and rest:
            found[_FIGURES[name]] += float(rest.rpartition(" ")[2])
    whole = {name: int(value) for name, value in found.items() if name != "cache_usage"}
    return ServerLoad(cache_usage=min(1.0, found["cache_usage"]), **whole)
