"""The body of a completions request, and strict parsing of the answer."""

import math
from collections.abc import Sequence
from typing import Any

from swe_aem.core import Completion, SamplingParams
from swe_aem.errors import PolicyError
from swe_aem.policy.entropy import estimated
from swe_aem.policy.errors import Aborted

_TOKEN_PREFIX = "token_id:"


class Unsuitable(Exception):
    """The server does not report what token-exact rollouts need: no answer of it will do."""


def request_body(
    model: str, prompt_ids: Sequence[int], params: SamplingParams, *, top_logprobs: int = 0
) -> dict[str, Any]:
    """A request for one completion with its token ids, in both forms in which servers report them, and with the
    log-probabilities of `top_logprobs` alternatives at each token. Only the given stop tokens end it: `ignore_eos`
    keeps the server from adding those of the model's configuration."""
    seed = {} if params.seed is None else {"seed": params.seed}
    return {
        "model": model,
        "prompt": list(prompt_ids),
        "max_tokens": params.max_tokens,
        "temperature": params.temperature,
        "top_p": params.top_p,
        "stop_token_ids": list(params.stop_token_ids),
        "ignore_eos": True,
        **seed,
        "n": 1,
        "stream": False,
        "logprobs": top_logprobs,
        "skip_special_tokens": False,
        "return_token_ids": True,
        "return_tokens_as_token_ids": True,
    }


def read_completion(body: Any, params: SamplingParams, version: int) -> Completion:
    """The completion in a server's answer; raises `PolicyError` if anything is missing or inconsistent, `Aborted` if
    the server was told to end it, and `Unsuitable` if it has no log-probabilities or token ids at all."""
    choice = _only_choice(body)
    finish_reason, logprobs = choice.get("finish_reason"), choice.get("logprobs")
    aborted = finish_reason == "abort"
    if aborted and not choice.get("token_ids") and not (isinstance(logprobs, dict) and logprobs.get("tokens")):
        raise Aborted(_ended_for(finish_reason), None)
    if not isinstance(logprobs, dict):
        raise Unsuitable("the answer has no log-probabilities; the server must support `logprobs`")
    token_ids = _token_ids(choice, logprobs)
    values = logprobs.get("token_logprobs")
    if not isinstance(values, list) or not all(_is_logprob(value) for value in values):
        raise PolicyError("the answer's token_logprobs are not a list of finite numbers")
    if len(values) != len(token_ids):
        raise PolicyError(f"the answer has {len(values)} log-probabilities for {len(token_ids)} token ids")
    if aborted:
        finish_reason = "stop" if token_ids[-1] in params.stop_token_ids else "length"
    if finish_reason not in ("stop", "length"):
        raise PolicyError(_ended_for(finish_reason))
    if not 1 <= len(token_ids) <= params.max_tokens:
        raise PolicyError(f"the answer has {len(token_ids)} tokens, not between 1 and {params.max_tokens}")
    if finish_reason == "stop" and params.stop_token_ids and token_ids[-1] not in params.stop_token_ids:
        raise PolicyError(
            f"the response stopped, but its last token {token_ids[-1]} is not one of the stop tokens "
            f"{list(params.stop_token_ids)}: the server must include the stop token in what it returns"
        )
    entropies, estimator = estimated(logprobs.get("top_logprobs"), values)
    completion = Completion(
        token_ids=tuple(token_ids),
        logprobs=tuple(map(float, values)),
        finish_reason=finish_reason,
        version=version,
        entropies=entropies,
        entropy_estimator=estimator,
    )
    if aborted:
        raise Aborted(_ended_for("abort"), completion)
    return completion


def _ended_for(reason: object) -> str:
    return f"the server ended the response for the reason {reason!r}"


def probe_body(model: str, prompt_ids: Sequence[int], temperature: float) -> dict[str, Any]:
    """A request for the best next token and its log-probability."""
    params = SamplingParams(max_tokens=1, temperature=temperature, seed=0)
    return request_body(model, prompt_ids, params, top_logprobs=1)


def read_probe(body: Any) -> float:
    """The highest log-probability in the answer to a probe. Raises `Aborted` if the server was told to end it."""
    choice = _only_choice(body)
    if choice.get("finish_reason") == "abort":
        raise Aborted(_ended_for("abort"), None)
    logprobs = choice.get("logprobs")
    top = logprobs.get("top_logprobs") if isinstance(logprobs, dict) else None
    if (
        not isinstance(top, list)
        or not top
        or not isinstance(top[0], dict)
        or not all(map(_is_logprob, top[0].values()))
    ):
        raise PolicyError("the answer has no top_logprobs, so it cannot be checked whether they follow the temperature")
    return max(top[0].values())


def _only_choice(body: Any) -> dict[str, Any]:
    choices = body.get("choices") if isinstance(body, dict) else None
    if not isinstance(choices, list) or len(choices) != 1 or not isinstance(choices[0], dict):
        raise PolicyError("the answer does not have exactly one choice")
    return choices[0]


def _token_ids(choice: dict[str, Any], logprobs: dict[str, Any]) -> list[int]:
    """The token ids that the server sampled; the text of the answer is never read."""
    ids = choice.get("token_ids")
    if ids is None:
        tokens = logprobs.get("tokens")
        if not isinstance(tokens, list) or not all(isinstance(t, str) and t.startswith(_TOKEN_PREFIX) for t in tokens):
            raise Unsuitable(
                "the answer has no token ids: the server must honour `return_token_ids` (vLLM 0.10.2 or later) or "
                "`return_tokens_as_token_ids` (for older ones start it with --return-tokens-as-token-ids)"
            )
        ids = [_number(token.removeprefix(_TOKEN_PREFIX)) for token in tokens]
    if not isinstance(ids, list) or not all(type(token) is int and token >= 0 for token in ids):
        raise PolicyError("the answer's token ids are not a list of non-negative integers")
    return ids


def _number(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise PolicyError(f"the answer has the token id {text!r}")
    return int(text)


def _is_logprob(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
