"""A policy behind an OpenAI-compatible `/v1/completions` server that takes and reports token ids (vLLM >= 0.10.2).

Prompts are sent as ids and responses come back as the ids that the server sampled; text is never tokenised here. A
failure is retried only if the server cannot have sampled anything (no connection, 429, 503). After any other failure
the request has failed, and the caller decides.

    vllm serve MODEL --logprobs-mode processed_logprobs        # log-probabilities have to be temperature-scaled
"""

import asyncio
import itertools
import warnings
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Annotated, Any

from pydantic import Field
from pydantic_core import to_json

from swe_aem.core import Completion, SamplingParams
from swe_aem.core.base import Frozen
from swe_aem.errors import PolicyError, UserError
from swe_aem.policy.api_key import read_key
from swe_aem.policy.completions_wire import (
    Unsuitable,
    probe_body,
    read_completion,
    read_probe,
    read_version,
    request_body,
)
from swe_aem.policy.entropy import TOP
from swe_aem.policy.errors import Aborted, ContextOverflow, NothingSampled, RunRefused
from swe_aem.policy.http import Http
from swe_aem.policy.refusals import Answer, KeyUse, listed, why_forbidden, why_refused
from swe_aem.suggest import did_you_mean

_LIST_LIMIT_S = 30.0
_NOTHING_SAMPLED = frozenset({429, 503})
_CERTAIN_LOGPROB = -1e-4
"""A best token with a log-probability above this is so likely that the temperature hardly changes it."""
_PROBES_UNTIL_WARNING = 8
_CHAT_INSTEAD = "an API that takes messages and no token ids is evaluated with --policy chat:URL --model NAME"


class CompletionsConfig(Frozen):
    """How to reach the server."""

    url: str
    """`http://host:port`, with or without `/v1`."""
    model: str | None = None
    """Served name of the model. None takes the only model that the server lists, not counting adapters, which name a
    parent."""
    api_key_env: str | None = None
    """The environment variable that holds the key, which is sent as a bearer token."""
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
    seeded: bool = True
    """Send each request's seed; otherwise the server's own generator draws for all of them."""
    routed_experts: bool = False
    """Ask to which experts of a mixture the tokens went. A server that does not tell is refused."""
    endpoint: bool = False
    """The server is a `PolicyEndpoint`: an answer says which version of the weights sampled it, its log-probabilities
    are the policy's own, and it has no estimates of the entropy."""


class CompletionsPolicy:
    """A policy on one server; any number of requests at once, which the server batches."""

    def __init__(self, config: CompletionsConfig, *, key: str | None = None) -> None:
        """`key` is the server's, where no environment variable holds it."""
        key = key or read_key(config.api_key_env)
        self._key = KeyUse(config.api_key_env, key is not None)
        self._root = _root(config.url)
        self._http = Http(
            config.url,
            key=key,
            request_timeout_s=config.request_timeout_s,
            connect_timeout_s=config.connect_timeout_s,
        )
        self.config = config
        self.name: str = config.model or ""
        self.version = 0
        """Version of the weights, set by the caller that updates them. A completion gets the version at which its
        request was sent."""
        self.engine: str | None = None
        """What the server says it is, e.g. vllm."""
        self.max_model_tokens: int | None = None
        """Tokens that prompt and response may have together; None where that is not known."""
        self._seeds = itertools.count()
        self._scaling_checked: set[float] = {0.0, 1.0}
        self._scaling_lock = asyncio.Lock()
        self._inconclusive_probes = 0
        self._works = False
        """Was a request answered? Before, a refusal is told as one of the whole run."""

    async def open(self) -> None:
        """Ask the server for its models. Raises `UserError` if it cannot be reached or does not have the model."""
        url = f"{self._root}/v1/models"
        try:
            answer = await self._send("GET", "/v1/models", attempts=1, limit_s=_LIST_LIMIT_S)
        except PolicyError as error:
            raise RunRefused(f"no completions server at {self.config.url}: {error}") from error
        if (why := self._why_refused(url, answer)) is not None:
            raise RunRefused(why)
        try:
            cards = {card["id"]: card for card in answer.body["data"]} if answer.status == 200 else None
        except (KeyError, TypeError) as error:
            raise RunRefused(
                f"no completions server at {self.config.url}: {url} lists no models: {answer.message}"
            ) from error
        if cards is None:
            raise RunRefused(
                f"no completions server at {self.config.url}: {url} answers {answer.status}: {answer.message}; "
                f"{_CHAT_INSTEAD}"
            )
        ours = self.config.model
        wanted = [name for name, card in cards.items() if (name == ours if ours else not card.get("parent"))]
        if len(wanted) != 1:
            wanted_model = f"the model {ours}{did_you_mean(ours, cards)}" if ours else "one model"
            which = "" if ours else "; choose one with --model NAME"
            raise RunRefused(f"{self.config.url} does not serve {wanted_model}{listed(cards)}{which}")
        self.name = wanted[0]
        self.engine = cards[self.name].get("owned_by")
        self.max_model_tokens = cards[self.name].get("max_model_len")

    async def sample(
        self, prompt_ids: Sequence[int], params: SamplingParams, *, trajectory_id: str, limit_s: float | None = None
    ) -> Completion:
        """Sample one response, as `core.Policy` says. `limit_s` replaces the configuration's `request_timeout_s`.

        Raises `ContextOverflow` if the prompt fills the model's context, `Aborted` if somebody has paused the server,
        and `UserError` if the log-probabilities would not be those of the whole, scaled distribution.
        """
        if params.top_p != 1:
            raise UserError(
                f"a completions server's log-probabilities with top_p {params.top_p:g} are those of the nucleus alone; "
                "sample with top_p 1, as training needs it, or give --policy the directory of the model"
            )
        params = self._fitted(prompt_ids, params)
        version = self.version
        request = self._request(prompt_ids, params)
        response = await self._send("POST", "/v1/completions", to_json(request), limit_s=limit_s)
        try:
            body = self._body(response)
            completion = read_completion(body, params, version, routed_experts=self.config.routed_experts)
        except Unsuitable as error:
            raise RunRefused(f"{self._root}/v1/completions: {error}; {_CHAT_INSTEAD}") from error
        self._works = True
        if self.config.endpoint:
            own = {"version": read_version(body), "entropies": None, "entropy_estimator": None}
            return completion.model_copy(update=own)
        with suppress(NothingSampled, Aborted):  # then the next response is checked
            await self._check_scaling(params.temperature, prompt_ids, completion)
        return completion

    async def close(self) -> None:
        """Close all connections."""
        await self._http.close()

    def _request(self, prompt_ids: Sequence[int], params: SamplingParams) -> dict[str, Any]:
        config = self.config
        return request_body(
            self.name,
            prompt_ids,
            params,
            top_logprobs=config.top_logprobs,
            routed_experts=config.routed_experts,
        )

    def _fitted(self, prompt_ids: Sequence[int], params: SamplingParams) -> SamplingParams:
        """`params` with a seed, unless none are sent, and with no more tokens than the model's context allows."""
        seed = next(self._seeds) if params.seed is None else params.seed
        if not self.config.seeded:
            seed = None
        max_tokens = params.max_tokens
        if self.max_model_tokens is not None:
            max_tokens = min(max_tokens, self.max_model_tokens - len(prompt_ids))
        if max_tokens < 1:
            raise ContextOverflow(f"{len(prompt_ids)} prompt tokens fill the model's {self.max_model_tokens}")
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

    def _body(self, answer: Answer) -> Any:
        """The JSON of a successful answer."""
        if answer.is_overflow:
            raise ContextOverflow(answer.message)
        if answer.status != 200:
            said = f"{self._root}/v1/completions answers {answer.status}: {answer.message}"
            if (why := self._why_refused(f"{self._root}/v1/completions", answer)) is not None:
                raise RunRefused(why)
            if not self._works and answer.status in (400, 403, 404, 405, 422) and not self._is_of_model(answer):
                raise RunRefused(f"{said}; {_CHAT_INSTEAD}" if answer.status in (404, 405) else said)
            raise PolicyError(said)
        if answer.body is None:
            raise PolicyError(f"{self.config.url} sent a body that is not JSON: {answer.message}")
        return answer.body

    def _why_refused(self, url: str, answer: Answer) -> str | None:
        """Why the server would refuse every request; None if it is not known to."""
        if answer.status == 403 and not self._works:
            return why_forbidden(url, answer, self._key)
        return why_refused(url, answer, self._key) if not (answer.is_page and self._works) else None

    def _is_of_model(self, answer: Answer) -> bool:
        """Does the server lack the model, as one that was restarted lacks an adapter? It may get it again."""
        return answer.status == 404 and bool(self.name) and self.name in answer.message

    async def _send(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | bytes | None = None,
        *,
        attempts: int | None = None,
        limit_s: float | None = None,
    ) -> Answer:
        """Send one request; it is retried only if nothing can have been sampled. `attempts`: those at a connection;
        `limit_s`: how long an answer may take, where that is less than a response."""
        problem, made = "", 0
        while made < self.config.attempts:
            made += 1
            try:
                answer = Answer.of(await self._http.send(method, self._root + path, body, limit_s=limit_s))
            except NothingSampled as error:
                problem = str(error)
                if made == attempts:
                    raise
            else:
                if answer.status not in _NOTHING_SAMPLED:
                    return answer
                problem = f"{self.config.url}: status {answer.status}: {answer.message}"
            if made < self.config.attempts:
                await asyncio.sleep(min(10.0, self.config.backoff_s * 2 ** (made - 1)))
        raise NothingSampled(f"{problem} ({made} attempts)")


@asynccontextmanager
async def open_completions(config: CompletionsConfig) -> AsyncIterator[CompletionsPolicy]:
    """A policy whose server was checked, for the length of an `async with`."""
    policy = CompletionsPolicy(config)
    try:
        await policy.open()
        yield policy
    finally:
        await policy.close()


def _root(url: str) -> str:
    return url.rstrip("/").removesuffix("/completions").removesuffix("/v1")
