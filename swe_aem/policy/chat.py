"""A policy behind a chat API: OpenAI's, or any that resembles it (vLLM, SGLang, OpenRouter, DeepSeek, ...).

    messages ──> pace of the rate limit ──> POST URL/chat/completions ──> an assistant message, and what it took
                        ▲                        │ 429: wait, which is no failure
                        └────────────────────────┤ 5xx, no connection, a lost answer: again, a few times
                                                 └ 401, 404, ...: the run ends, with what to do

A response is not trained on, so one that was lost may be sampled once more. What the lost one took is counted as if it
had been like the one that came.
"""

import asyncio
import email.utils
import math
import random
import time
import warnings
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any, Protocol
from urllib.parse import urlsplit, urlunsplit

from swe_aem.core import ChatCompletion, SamplingParams, Usage
from swe_aem.errors import PolicyError
from swe_aem.policy.api_key import read_key
from swe_aem.policy.chat_config import ChatConfig, ChatRequests
from swe_aem.policy.chat_wire import Dialect, Unreadable, space_for_response
from swe_aem.policy.errors import AnswersLost, ContextOverflow, NothingSampled, RunRefused
from swe_aem.policy.http import Http, proxy_for
from swe_aem.policy.pace import Pace
from swe_aem.policy.refusals import Answer, KeyUse, listed, why_forbidden, why_not_found, why_refused
from swe_aem.suggest import did_you_mean

_TOO_FAST = frozenset({429, 503, 529})
"""Statuses of a request that came too fast, or to an API that has too many from others."""
_FAILED = frozenset({408, 409, 425, *range(500, 600)}) - _TOO_FAST
"""Statuses of an API that failed, so that the same request may work the next time."""
_LONGEST_BACKOFF_S = 60.0
_CONNECT_TIMEOUT_S = 15.0
_LIST_LIMIT_S = 30.0
_EXACT_SERVERS = frozenset({"vllm", "sglang"})
"""Servers whose list of models names all that requests may ask for; elsewhere there are names that are not listed."""


class Transport(Protocol):
    """How requests reach the API."""

    url: str
    """Where they go, for messages."""
    key: KeyUse

    async def post(self, body: dict[str, Any]) -> Answer:
        """The answer to one request, whatever its status. Raises `NothingSampled` if it did not reach the API, and
        another `PolicyError` if the answer was lost."""
        ...

    async def models(self) -> dict[str, str]:
        """Models that the API lists, with who owns them; empty if it has no list."""
        ...

    async def close(self) -> None:
        """Close all connections; idempotent."""
        ...


class HttpTransport:
    """Requests by HTTP, through the proxy that the environment names."""

    def __init__(self, config: ChatConfig) -> None:
        key = read_key(config.api_key_env)
        self._base = base_url(config.url)
        self.url = endpoint(self._base, "/chat/completions")
        self.key = KeyUse(config.api_key_env, key is not None)
        self._http = Http(
            self.url,
            key=key,
            request_timeout_s=config.request_timeout_s,
            connect_timeout_s=_CONNECT_TIMEOUT_S,
            proxy=proxy_for(config.url),
        )

    async def post(self, body: dict[str, Any]) -> Answer:
        """The answer to one request."""
        return Answer.of(await self._http.send("POST", self.url, body))

    async def models(self) -> dict[str, str]:
        """What GET /models lists. Raises `RunRefused` if the answer shows that nothing else can work either."""
        url = endpoint(self._base, "/models")
        answer = Answer.of(await self._http.send("GET", url, limit_s=_LIST_LIMIT_S))
        why = why_refused(url, answer, self.key)
        if why is not None and not (answer.is_page and answer.status >= 400):
            raise RunRefused(why)
        cards = answer.body.get("data") if answer.status == 200 and isinstance(answer.body, dict) else None
        found = [card for card in cards if isinstance(card, dict)] if isinstance(cards, list) else []
        return {str(card.get("id")).removeprefix("models/"): str(card.get("owned_by")) for card in found}

    async def close(self) -> None:
        """Close all connections."""
        await self._http.close()


class ChatApiPolicy:
    """A policy behind one chat API; any number of requests at once, as many as its rate limit allows."""

    def __init__(self, config: ChatRequests, transport: Transport) -> None:
        self.name: str = config.model
        self._config, self._transport = config, transport
        self._dialect = Dialect(config.model, config.extra_body)
        self._pace = Pace()
        self._served: dict[str, str] = {}
        self._waits: dict[str, str] = {}
        """What the request of a trajectory waits for, until it is answered."""
        self._works = False
        """Was a request answered? Before, a refusal is told as one of the whole run."""
        self._warned = False

    def waits_for(self, trajectory_id: str) -> str | None:
        """What keeps the last request of a trajectory from an answer: a rate limit or a failing API; None if it was
        answered, or is being answered (`core.WaitReporting`)."""
        return self._waits.get(trajectory_id)

    async def open(self) -> None:
        """Ask for the list of models. Raises `UserError` if the API cannot be reached or refuses the key, or the server
        does not have the model. An API without a list is asked at the first request."""
        try:
            self._served = await self._transport.models()
        except NothingSampled as error:
            raise RunRefused(str(error)) from error
        except PolicyError:
            # A list that does not come is no reason to end: the first request tells more.
            return
        if self._served and self.name not in self._served and set(self._served.values()) <= _EXACT_SERVERS:
            meant = did_you_mean(self.name, self._served)
            raise RunRefused(f"{self._transport.url} does not serve {self.name}{meant}{listed(self._served)}")

    async def chat(
        self,
        messages: Sequence[dict[str, Any]],
        tools: Sequence[dict[str, Any]],
        params: SamplingParams,
        *,
        trajectory_id: str,
    ) -> ChatCompletion:
        """Answer messages, as `core.ChatPolicy` says. Raises `RunRefused` if the API would refuse every request."""
        tried = _Tried(trajectory_id, asyncio.get_running_loop().time())
        self._waits.pop(trajectory_id, None)
        while True:
            sent_s = await self._entered(tried)
            body = self._dialect.body(messages, tools, params)
            try:
                answer = _unwrapped(await self._transport.post(body))
            except NothingSampled as error:
                await self._again(tried, str(error), None)
                continue
            except PolicyError as error:
                tried.lost += 1
                tried.lost_usage = self._dialect.estimated(body, self._config.price)
                await self._again(tried, str(error), None)
                continue
            finally:
                self._pace.leave()
            wait_s = retry_after_s(answer)
            if answer.status == 200 and not answer.is_page:
                try:
                    return self._counted(self._dialect.read(answer, body, self._config.price), tried)
                except Unreadable as error:
                    tried.count(error.usage)
                    await self._again(tried, f"{self._transport.url}: {error}", wait_s)
            elif answer.status in _FAILED or (answer.is_page and self._works):
                await self._again(tried, f"{self._transport.url} answers {answer.status}: {answer.message}", wait_s)
            elif not self._too_fast(answer, wait_s, sent_s, tried.since_s):
                params = self._adapted(answer, body, params)

    async def close(self) -> None:
        """Close all connections."""
        await self._transport.close()

    async def _entered(self, tried: "_Tried") -> float:
        """Wait for the turn of a request; when it may be sent, as `Pace.enter`."""
        held = self._pace.holding_back
        if held is not None and not tried.failures:
            self._waits[tried.trajectory_id] = held
        sent_s = await self._pace.enter()
        if not tried.failures:
            self._waits.pop(tried.trajectory_id, None)
        return sent_s

    def _too_fast(self, answer: Answer, wait_s: float | None, sent_s: float, started_s: float) -> bool:
        """Is it the answer to a request that came too fast? Then everything waits. Raises `RunRefused` if the limit
        lasts longer than the run has patience."""
        if answer.status not in _TOO_FAST:
            return False
        url, patience_s = self._transport.url, self._config.patience_s
        if (why := why_refused(url, answer, self._transport.key)) is not None:
            raise RunRefused(why)
        now_s = asyncio.get_running_loop().time()
        refused_s = now_s - started_s
        if (wait_s or 0) > patience_s or (refused_s > patience_s and not self._pace.answered_since(started_s)):
            asks = f"asks to wait {wait_s:.0f} s" if wait_s else f"has answered nothing for {refused_s:.0f} s"
            raise RunRefused(
                f"the rate limit of {url} {asks}, and policy.patience_s is {patience_s:g} ({answer.message}). Repeat "
                "the command later, which resumes"
            )
        pause_s = wait_s if wait_s is not None else self._backoff_s(2)
        self._pace.refused(sent_s, pause_s, f"the rate limit of {url}: {answer.message}")
        return True

    def _adapted(self, answer: Answer, body: dict[str, Any], params: SamplingParams) -> SamplingParams:
        """`params` for another attempt after a refusal that says what the API takes. Raises what the refusal means
        otherwise."""
        url, key = self._transport.url, self._transport.key
        if answer.is_overflow:
            space = space_for_response(answer.message, params.max_tokens)
            if space is None:
                raise ContextOverflow(answer.message)
            return params.model_copy(update={"max_tokens": space})
        if self._dialect.learn(answer, body):
            return params
        why = why_refused(url, answer, key)
        if answer.status == 404 and why is None:
            why = why_not_found(url, answer, self.name, self._served)
        if why is None and not self._works:
            why = (
                why_forbidden(url, answer, key)
                if answer.status == 403
                else f"{url} refuses the first request ({answer.status}: {answer.message}){self._unlisted()}"
            )
        if why is not None:
            raise RunRefused(why)
        raise PolicyError(f"{url} answers {answer.status}: {answer.message}")

    def _unlisted(self) -> str:
        """What is odd about the model's name, for a refusal that may be about it."""
        if not self._served or self.name in self._served:
            return ""
        return f"; it does not list the model {self.name}{did_you_mean(self.name, self._served)}"

    async def _again(self, tried: "_Tried", problem: str, wait_s: float | None) -> None:
        """Count a failed attempt and wait before the next. Raises `PolicyError` after the last one, with what the
        attempts took."""
        tried.failures += 1
        if tried.failures >= self._config.attempts:
            for _ in range(tried.lost):
                tried.count(tried.lost_usage)
            said = f"{problem} ({tried.failures} attempts)"
            raise PolicyError(said) if tried.usage is None else AnswersLost(said, tried.usage)
        # Until the answer: an attempt after a failure has the less time.
        self._waits[tried.trajectory_id] = problem
        await asyncio.sleep(wait_s if wait_s is not None else self._backoff_s(tried.failures))

    def _counted(self, completion: ChatCompletion, tried: "_Tried") -> ChatCompletion:
        """The completion with all that was taken until it came."""
        self._works = True
        self._waits.pop(tried.trajectory_id, None)
        self._pace.answered()
        if not self._dialect.counts_tokens and not self._warned:
            self._warned = True
            warnings.warn(
                f"{self._transport.url} reports no usage: tokens are estimated from the length of texts, and costs too",
                stacklevel=2,
            )
        for _ in range(1 + tried.lost):
            tried.count(completion.usage)
        alone = completion.usage.tokens if tried.usage != completion.usage else 0
        return completion.model_copy(update={"usage": tried.usage, "context_tokens": alone})

    def _backoff_s(self, failures: int) -> float:
        """Seconds before another attempt, different for each request so that they do not all come at once."""
        longest = min(_LONGEST_BACKOFF_S, self._config.backoff_s * 2 ** (failures - 1))
        return longest * random.uniform(0.5, 1)


@asynccontextmanager
async def open_chat(config: ChatConfig) -> AsyncIterator[ChatApiPolicy]:
    """The policy of a chat API that was asked for its models, for the length of an `async with`."""
    policy = ChatApiPolicy(config, HttpTransport(config))
    try:
        await policy.open()
        yield policy
    finally:
        await policy.close()


def base_url(url: str) -> str:
    """The address below which an API has its endpoints: `url` without /chat/completions, and with /v1 if it has no
    path."""
    parts = urlsplit(url)
    path = parts.path.rstrip("/").removesuffix("/chat/completions")
    return urlunsplit(parts._replace(path=path or "/v1", fragment=""))


def endpoint(base: str, path: str) -> str:
    """The URL of one endpoint; the query stays."""
    parts = urlsplit(base)
    return urlunsplit(parts._replace(path=parts.path.rstrip("/") + path))


def retry_after_s(answer: Answer) -> float | None:
    """Seconds that the API asks to wait; None if it does not say."""
    milliseconds, given = answer.headers.get("retry-after-ms"), answer.headers.get("retry-after")
    with suppress(ValueError):
        if milliseconds is not None:
            return max(0.0, float(milliseconds) / 1000)
    if given is None:
        return None
    try:
        wait_s = float(given)
    except ValueError:
        try:
            wait_s = email.utils.parsedate_to_datetime(given).timestamp() - time.time()
        except ValueError:
            return None
    return max(0.0, wait_s) if math.isfinite(wait_s) else None


def _unwrapped(answer: Answer) -> Answer:
    """The answer with the status of an error that came with status 200, as OpenRouter sends those of its providers."""
    if answer.status != 200 or not isinstance(answer.body, dict) or answer.body.get("choices"):
        return answer
    if not answer.body.get("error"):
        return answer
    code = answer.error.get("code")
    return replace(answer, status=code if isinstance(code, int) and 400 <= code < 600 else 502)


@dataclass
class _Tried:
    """The attempts at one response."""

    trajectory_id: str
    since_s: float
    failures: int = 0
    lost: int = 0
    """Answers that were lost, and may have been paid for."""
    lost_usage: Usage | None = None
    """What such an answer takes at least, for its prompt."""
    usage: Usage | None = None
    """What the API says that it took."""

    def count(self, usage: Usage | None) -> None:
        """Add what an answer took."""
        if usage is None or self.usage is None:
            self.usage = self.usage or usage
            return
        costs = [one.cost_usd for one in (self.usage, usage) if one.cost_usd is not None]
        self.usage = Usage(
            prompt_tokens=self.usage.prompt_tokens + usage.prompt_tokens,
            completion_tokens=self.usage.completion_tokens + usage.completion_tokens,
            cached_tokens=self.usage.cached_tokens + usage.cached_tokens,
            cost_usd=sum(costs) if costs else None,
        )
