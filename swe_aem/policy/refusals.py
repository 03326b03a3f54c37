"""What a server's refusal means and what to do about it, the same for chat APIs, completions servers and vLLM.

Each explanation names the URL, what the server said, and the fix.
"""

import json
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pydantic_core import from_json

from swe_aem.runlog.secrets import without_keys
from swe_aem.suggest import did_you_mean

if TYPE_CHECKING:
    import httpx

_MOST_NAMES = 10
"""Models that an error lists."""
_OVERFLOW = (
    "context length",
    "context window",
    "context_length",
    "context_window",
    "max_model_len",
    "model length",
    "context size",
    "prompt is too long",
    "input is too long",
    "exceeds the maximum number of tokens",
)
"""Words in which servers say that the messages are too long. The API has a code for it, which few send."""


@dataclass(frozen=True)
class Answer:
    """What a server answered."""

    status: int
    text: str
    """Empty where a request succeeded with JSON."""
    body: Any = None
    """The JSON that was sent; None if it was none."""
    headers: dict[str, str] = field(default_factory=dict)
    """By names in lower case."""

    @staticmethod
    def of(response: "httpx.Response") -> "Answer":
        """The answer in an HTTP response."""
        try:
            body = from_json(response.content)  # several times as fast as `json`
        except ValueError:
            body = _other_json(response)
        headers = {name.lower(): value for name, value in response.headers.items()}
        text = "" if response.status_code == 200 and body else response.text
        return Answer(response.status_code, text, body, headers)

    @property
    def error(self) -> dict[str, Any]:
        """The error object in the body, or an empty one."""
        found = self.body.get("error", self.body) if isinstance(self.body, dict) else self.body
        return found if isinstance(found, dict) else {"message": found} if isinstance(found, str) else {}

    @property
    def message(self) -> str:
        """The server's words, cut to 500 characters, without keys."""
        said = self.error.get("message") or self.error.get("detail") or self.body
        text = said if isinstance(said, str) else json.dumps(said) if said else self.text
        return without_keys(" ".join(text.split()))[:500]

    @property
    def is_page(self) -> bool:
        """Is it a web page?"""
        return self.body is None and (
            "text/html" in self.headers.get("content-type", "") or self.text.lstrip()[:1] == "<"
        )

    @property
    def is_overflow(self) -> bool:
        """Does it say that the messages or the prompt are too long for the model?"""
        words = f"{self.error.get('code', '')} {self.error.get('type', '')} {self.message}".lower()
        return self.status in (400, 413, 422) and any(one in words for one in _OVERFLOW)


@dataclass(frozen=True)
class KeyUse:
    """Which key requests carry."""

    variable: str | None
    """The environment variable that is to hold it."""
    given: bool
    """Does it hold one?"""

    @property
    def fix(self) -> str:
        """How to give the right key."""
        if self.given:
            return f"is the value of {self.variable} its key? Set it, or name another variable with --api-key-env"
        if self.variable:
            return f"the environment variable {self.variable} is empty: set it, or name another with --api-key-env"
        return "name the environment variable that holds the key with --api-key-env"


def why_refused(url: str, answer: Answer, key: KeyUse) -> str | None:
    """Why a server refuses every request, and what to do; None where only this request may be refused."""
    said = f"{answer.status}: {answer.message}" if answer.message and not answer.is_page else str(answer.status)
    status = answer.status
    if 300 <= status < 400:
        return f"{url} redirects to {answer.headers.get('location', 'another address')}: give that address"
    if "plain http request" in answer.text.lower():
        return f"{url} speaks https: write https:// in place of http://"
    if status == 407:
        return f"the proxy on the way to {url} wants a login ({said}): put it into the proxy's URL (HTTPS_PROXY)"
    if answer.is_page:
        return (
            f"{url} answers with a web page ({status}) and not with JSON: it is no API's address (most end in /v1), or "
            "a proxy answers in its place (NO_PROXY names hosts to reach without one)"
        )
    if status == 401:
        return f"{url} refuses the key ({said}): {key.fix}"
    if status == 402 or answer.error.get("code") == "insufficient_quota":
        return f"{url}: the account has no credit left ({said}). Top it up and repeat the command, which resumes"
    return None


def why_forbidden(url: str, answer: Answer, key: KeyUse) -> str:
    """What to do about a status 403."""
    return f"{url} forbids the request ({answer.status}: {answer.message}): {key.fix}"


def why_not_found(url: str, answer: Answer, model: str, served: Collection[str]) -> str:
    """What to do about a status 404: the model is not served, or there is nothing at the URL. `served`: the models that
    the server lists."""
    said = answer.message or "nothing"
    if model in served or not (served or "model" in said.lower()):
        return (
            f"{url} does not exist ({answer.status}: {said}): give the API's address without /chat/completions; most "
            "end in /v1"
        )
    meant = did_you_mean(model, served)
    return f"{url} does not serve the model {model}{meant} ({answer.status}: {said}){listed(served)}"


def listed(served: Collection[str]) -> str:
    """`; it serves A, B`, with the first ten; empty if the models are not known."""
    shown = ", ".join(sorted(served)[:_MOST_NAMES])
    more = f" and {len(served) - _MOST_NAMES} more" if len(served) > _MOST_NAMES else ""
    return f"; it serves {shown}{more}" if served else ""


def why_not_connected(url: str, error: Exception, proxy: str | None) -> str:
    """Why no connection to a server was made, and what to do."""
    import httpx

    said = str(error) or type(error).__name__
    if isinstance(error, httpx.UnsupportedProtocol):
        return f"{url}: a server's URL begins with http:// or https://"
    if isinstance(error, httpx.ProxyError) or proxy is not None:
        return (
            f"{url} cannot be reached through the proxy that the environment names (HTTPS_PROXY, HTTP_PROXY): "
            f"{without_keys(said)}; name the host in NO_PROXY to reach it without one"
        )
    if "WRONG_VERSION_NUMBER" in said or "RECORD_LAYER_FAILURE" in said or "packet length too long" in said.lower():
        return f"{url} speaks plain http: write http:// in place of https://"
    if "CERTIFICATE_VERIFY_FAILED" in said:
        return f"{url}: its certificate is not trusted ({said}); SSL_CERT_FILE names a file with its authority"
    return f"{url}: cannot connect: {said}; is the server running, and are host and port right?"


def _other_json(response: "httpx.Response") -> Any:
    """JSON that the fast reader refuses, such as lone surrogates or another encoding; None for what is no JSON."""
    try:
        return response.json()
    except (ValueError, RecursionError):
        return None
