"""`Control`: the endpoints of one vLLM server beside generation: health, figures, and those for new weights.

    POST /pause?mode=wait -> /start_weight_update -> /update_weights -> /finish_weight_update -> /resume

The last five exist where the server was started with VLLM_SERVER_DEV_MODE=1 and a --weight-transfer-config, as
`swe-aem serve` starts it. A pause that waits also empties the prefix cache.
"""

from typing import TYPE_CHECKING, Any

from swe_aem.errors import PolicyError
from swe_aem.nouns.base import Frozen
from swe_aem.policy.slots import Load

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


class Identity(Frozen):
    """What a server serves; another one after a restart with other weights."""

    root: str
    """Where it loaded the model from."""
    weights: str | None
    """The version that whoever updated it last gave it; None if it has no such endpoint."""
    names: tuple[str, ...]
    """Names that requests may ask for: the model and its adapters."""


class Control:
    """One server. Every method raises `PolicyError` with the server's own words if it does not do as asked."""

    def __init__(self, url: str, *, api_key: str | None = None, limit_s: float = 10.0) -> None:
        """`limit_s` bounds a look at the server; what changes it may take as long as its caller says."""
        import httpx

        self.url = url.rstrip("/").removesuffix("/v1")
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._limit_s = limit_s
        # A look must not reuse a connection: it would hang on one to a process that is gone.
        limits = httpx.Limits(max_keepalive_connections=0)
        self._client = httpx.AsyncClient(base_url=self.url, headers=headers, limits=limits, trust_env=False)

    async def close(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    async def load(self) -> Load:
        """The server's figures, which it has only while it is healthy."""
        await self._answer("GET", "/health")
        return read_load((await self._answer("GET", "/metrics")).text)

    async def identity(self) -> Identity:
        """What it serves now."""
        cards = (await self._answer("GET", "/v1/models")).json()["data"]
        response = await self._send("GET", "/weight_info", {}, None, self._limit_s)
        weights = response.json()["weight_version"] if response.status_code == 200 else None
        return Identity(
            root=cards[0].get("root") or cards[0]["id"], weights=weights, names=tuple(c["id"] for c in cards)
        )

    async def world_size(self) -> int:
        """Worker processes that hold weights."""
        return int((await self._answer("GET", "/get_world_size")).json()["world_size"])

    async def post(
        self, path: str, body: Any = None, *, limit_s: float, query: dict[str, str] | None = None
    ) -> "httpx.Response":
        """One change of the server's state."""
        return await self._answer("POST", path, query or {}, body, limit_s)

    async def _answer(
        self,
        method: str,
        path: str,
        query: dict[str, str] | None = None,
        body: Any = None,
        limit_s: float | None = None,
    ) -> "httpx.Response":
        response = await self._send(method, path, query or {}, body, limit_s or self._limit_s)
        if response.status_code != 200:
            raise PolicyError(f"{self.url}{path} answers {response.status_code}: {response.text[:500]}")
        return response

    async def _send(self, method: str, path: str, query: dict[str, str], body: Any, limit_s: float) -> "httpx.Response":
        import httpx

        try:
            return await self._client.request(method, path, params=query, json=body, timeout=limit_s)
        except httpx.TimeoutException as error:
            raise PolicyError(f"{self.url}{path} gave no answer in {limit_s:g} s") from error
        except httpx.HTTPError as error:
            raise PolicyError(f"{self.url}{path}: {type(error).__name__}: {error}") from error


def read_load(metrics: str) -> Load:
    """The figures in a server's /metrics (Prometheus text), added up over its engines; those it does not have are 0."""
    found = dict.fromkeys(_FIGURES.values(), 0.0)
    for line in metrics.splitlines():
        name, _, rest = line.partition("{")
        if name in _FIGURES and rest:
            found[_FIGURES[name]] += float(rest.rpartition(" ")[2])
    whole = {name: int(value) for name, value in found.items() if name != "cache_usage"}
    return Load(cache_usage=min(1.0, found["cache_usage"]), **whole)
