"""A policy behind an OpenAI-compatible `/v1/completions` server that takes and reports token ids (vLLM >= 0.10.2).

Prompts are sent as ids and responses come back as the ids that the server sampled; text is never tokenised here. A
failure is retried only if the server cannot have sampled anything (no connection, 429, 503). After any other failure
the request has failed, and the caller decides.

    vllm serve MODEL --logprobs-mode processed_logprobs        # log-probabilities have to be temperature-scaled
"""

import asyncio
import itertools
import json
import ssl
import warnings
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from swe_aem.core import Completion, SamplingParams
from swe_aem.core.base import Frozen
from swe_aem.errors import PolicyError, UserError
from swe_aem.policy.completions_wire import probe_body, read_completion, read_probe, request_body
from swe_aem.policy.entropy import TOP
from swe_aem.policy.errors import ContextOverflow, NothingSampled

if TYPE_CHECKING:
    import httpx

_NOTHING_SAMPLED = frozenset({429, 503})
_CERTAIN_LOGPROB = -1e-4
"""A best token with a log-probability above this is so likely that the temperature hardly changes it."""
_PROBES_UNTIL_WARNING = 8
_KEEPALIVE_S = 2.0
"""Shorter than the servers' own limit (uvicorn: 5 s), so that no request uses a connection that is being closed."""
_CLIENTS = 32
"""HTTP clients that requests take turns at: a client walks through all of its connections at every request, so one
client with hundreds of connections is slow."""


class CompletionsConfig(Frozen):
    """How to reach the server."""

    url: str
    """`http://host:port`, with or without `/v1`."""
    model: str | None = None
    """Served name of the model. None takes the only model that the server lists, not counting adapters, which name a
    parent."""
    api_key: str | None = None
    """Sent as a bearer token."""
    request_timeout_s: Annotated[float, Field(gt=0)] = 1800.0
    """Seconds that one attempt may take from sending to the last byte."""
    connect_timeout_s: Annotated[float, Field(gt=0)] = 10.0
    """Seconds that making a connection may take."""
    attempts: Annotated[int, Field(ge=1)] = 6
    """Attempts per request, if none of them can have sampled anything; then `NothingSampled` is raised."""
    backoff_s: Annotated[float, Field(gt=0)] = 0.5
    """Wait before the second attempt; doubled for each further one, at most 10 s."""
    top_logprobs: Annotated[int, Field(ge=0, le=TOP)] = 0
    """Alternatives to ask for at each token, for estimates of the entropy; 20 for `top20`."""


class CompletionsPolicy:
    """A policy on one server; any number of requests at once, which the server batches."""

    def __init__(self, config: CompletionsConfig) -> None:
        import httpx

        try:
            root = httpx.URL(_root(config.url))
        except httpx.InvalidURL as error:
            raise UserError(f"{config.url}: not a URL: {error}") from error
        self.config = config
        self.name: str = config.model or ""
        self.version = 0
        """Version of the weights, set by the caller that updates them. A completion gets the version at which its
        request was sent."""
        self.engine: str | None = None
        """What the server says it is, e.g. vllm."""
        self._max_model_tokens: int | None = None
        self._seeds = itertools.count()
        self._scaling_checked: set[float] = {0.0, 1.0}
        self._scaling_lock = asyncio.Lock()
        self._inconclusive_probes = 0
        headers = {"Authorization": f"Bearer {config.api_key}"} if config.api_key else {}
        trusted = ssl.create_default_context()
        self._clients = [
            httpx.AsyncClient(
                base_url=root,
                headers=headers,
                timeout=httpx.Timeout(None, connect=config.connect_timeout_s),
                limits=httpx.Limits(max_connections=None, keepalive_expiry=_KEEPALIVE_S),
                verify=trusted,
                trust_env=False,
            )
            for _ in range(_CLIENTS)
        ]
        self._turn = itertools.cycle(self._clients)

    async def open(self) -> None:
        """Ask the server for its models. Raises `UserError` if it cannot be reached or does not have the model."""
        try:
            response = await self._send("GET", "/v1/models")
            cards = {card["id"]: card for card in response.json()["data"]} if response.status_code == 200 else None
        except (PolicyError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"no completions server at {self.config.url}: {error}") from error
        if cards is None:
            raise UserError(f"{self.config.url}/v1/models answers {response.status_code}: {_message(response)}")
        ours = self.config.model
        wanted = [name for name, card in cards.items() if (name == ours if ours else not card.get("parent"))]
        if len(wanted) != 1:
            wanted_model = f"a model {ours}" if ours else "exactly one model (adapters do not count)"
            raise UserError(
                f"{self.config.url} serves {', '.join(cards) or 'no model'}; it has to serve {wanted_model}"
            )
        self.name = wanted[0]
        self.engine = cards[self.name].get("owned_by")
        self._max_model_tokens = cards[self.name].get("max_model_len")

    async def sample(self, prompt_ids: Sequence[int], params: SamplingParams, *, trajectory_id: str) -> Completion:
        """Sample one response, as `core.Policy` says. Raises `ContextOverflow` if the prompt fills the model's context,
        and `UserError` if the log-probabilities would not be those of the whole, scaled distribution."""
        if params.top_p != 1:
            raise UserError(
                f"a completions server's log-probabilities with top_p {params.top_p:g} are those of the nucleus alone; "
                "sample with top_p 1, as training needs it, or give --policy the directory of the model"
            )
        params = self._fitted(prompt_ids, params)
        version = self.version
        response = await self._send("POST", "/v1/completions", self._request(prompt_ids, params))
        completion = read_completion(self._body(response), params, version)
        with suppress(NothingSampled):  # then the next response is checked
            await self._check_scaling(params.temperature, prompt_ids, completion)
        return completion

    async def close(self) -> None:
        """Close all connections."""
        for client in self._clients:
            await client.aclose()

    def _request(self, prompt_ids: Sequence[int], params: SamplingParams) -> dict[str, Any]:
        return request_body(self.name, prompt_ids, params, top_logprobs=self.config.top_logprobs)

    def _fitted(self, prompt_ids: Sequence[int], params: SamplingParams) -> SamplingParams:
        """`params` with a seed, and with no more tokens than the model's context allows."""
        seed = next(self._seeds) if params.seed is None else params.seed
        max_tokens = params.max_tokens
        if self._max_model_tokens is not None:
            max_tokens = min(max_tokens, self._max_model_tokens - len(prompt_ids))
        if max_tokens < 1:
            raise ContextOverflow(f"{len(prompt_ids)} prompt tokens fill the model's {self._max_model_tokens}")
        return params.model_copy(update={"seed": seed, "max_tokens": max_tokens})

    async def _check_scaling(self, temperature: float, prompt_ids: Sequence[int], completion: Completion) -> None:
        """Check, once per temperature, that the reported log-probabilities are those of the scaled distribution.

        Where the response was least certain, the best next token's log-probability at this temperature is compared with
        that at 1. If they are equal although the token is not certain, the server reports the unscaled distribution,
        and training on it would be wrong. If the token is certain, the next response is checked.
        """
        async with self._scaling_lock:
            if temperature in self._scaling_checked:
                return
            least_certain = completion.logprobs.index(min(completion.logprobs))
            before = [*prompt_ids, *completion.token_ids[:least_certain]]
            best = []
            for value in (1.0, temperature):
                response = await self._send("POST", "/v1/completions", probe_body(self.name, before, value))
                best.append(read_probe(self._body(response)))
            if best[0] >= _CERTAIN_LOGPROB:
                self._inconclusive(temperature)
                return
            if abs(best[0] - best[1]) < 1e-7:
                raise UserError(
                    f"{self.config.url} reports log-probabilities that ignore the temperature {temperature:g}; start "
                    "vLLM with --logprobs-mode processed_logprobs, or sample with temperature 1"
                )
            self._scaling_checked.add(temperature)

    def _inconclusive(self, temperature: float) -> None:
        self._inconclusive_probes += 1
        if self._inconclusive_probes == _PROBES_UNTIL_WARNING:
            warnings.warn(
                f"{self.config.url}: {_PROBES_UNTIL_WARNING} responses were too certain to tell whether their "
                f"log-probabilities follow the temperature {temperature:g}; was the server started with "
                "--logprobs-mode processed_logprobs?",
                stacklevel=2,
            )

    def _body(self, response: "httpx.Response") -> Any:
        """The JSON of a successful answer."""
        if response.status_code == 400 and _is_overflow(_message(response)):
            raise ContextOverflow(_message(response))
        if response.status_code != 200:
            raise PolicyError(f"{self.config.url} answers {response.status_code}: {_message(response)}")
        try:
            return response.json()
        except ValueError as error:
            raise PolicyError(f"{self.config.url} sent a body that is not JSON: {error}") from error

    async def _send(self, method: str, path: str, body: dict[str, Any] | None = None) -> "httpx.Response":
        """Send one request; it is retried only if nothing can have been sampled."""
        problem = ""
        for attempt in range(1, self.config.attempts + 1):
            try:
                response = await self._attempt(method, path, body)
            except _NotConnected as error:
                problem = str(error)
            else:
                if response.status_code not in _NOTHING_SAMPLED:
                    return response
                problem = f"status {response.status_code}: {_message(response)}"
            if attempt < self.config.attempts:
                await asyncio.sleep(min(10.0, self.config.backoff_s * 2 ** (attempt - 1)))
        raise NothingSampled(f"{self.config.url}: {problem} ({self.config.attempts} attempts)")

    async def _attempt(self, method: str, path: str, body: dict[str, Any] | None) -> "httpx.Response":
        import httpx

        limit = asyncio.timeout(self.config.request_timeout_s)
        try:
            async with limit:
                return await next(self._turn).request(method, path, json=body)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise _NotConnected(f"cannot connect: {error}") from error
        except httpx.HTTPError as error:
            raise PolicyError(f"the request to {self.config.url} failed: {type(error).__name__}: {error}") from error
        except TimeoutError as error:
            if limit.expired():
                raise PolicyError(f"{self.config.url} gave no answer in {self.config.request_timeout_s:g} s") from error
            raise


class _NotConnected(Exception):
    """No connection was made, so the server did not get the request."""


@asynccontextmanager
async def open_completions(url: str) -> AsyncIterator[CompletionsPolicy]:
    """A policy whose server was checked, for the length of an `async with`."""
    policy = CompletionsPolicy(CompletionsConfig(url=url))
    try:
        await policy.open()
        yield policy
    finally:
        await policy.close()


def _root(url: str) -> str:
    return url.rstrip("/").removesuffix("/completions").removesuffix("/v1")


def _message(response: "httpx.Response") -> str:
    """The server's error message, cut to 500 characters."""
    try:
        body = response.json()
    except ValueError:
        return response.text[:500]
    error = body.get("error", body) if isinstance(body, dict) else body
    message = error.get("message", error) if isinstance(error, dict) else error
    return (message if isinstance(message, str) else json.dumps(message))[:500]


def _is_overflow(message: str) -> bool:
    """Does a server's 400 say that the prompt is too long? The API has no code for that, so its words are searched."""
    words = message.lower()
    return any(phrase in words for phrase in ("context length", "context window", "max_model_len", "model length"))
