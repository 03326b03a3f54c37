"""The body of a completions request, and strict parsing of the answer."""

import binascii
import io
from collections.abc import Sequence
from typing import Any

from swe_aem.core import Completion, RoutedExperts, SamplingParams
from swe_aem.errors import PolicyError
from swe_aem.policy.entropy import are_logprobs, estimated
from swe_aem.policy.errors import Aborted

VERSION_FIELD = "weight_version"
"""Where the answer of a `PolicyEndpoint` says which weights sampled it."""
_TOKEN_PREFIX = "token_id:"
_MOST_DIGITS = 18
"""A token id has fewer; Python refuses to read numbers of thousands."""


class Unsuitable(Exception):
    """The server does not report what token-exact rollouts need: no answer of it will do."""


def request_body(
    model: str,
    prompt_ids: Sequence[int],
    params: SamplingParams,
    *,
    top_logprobs: int = 0,
    routed_experts: bool = False,
) -> dict[str, Any]:
    """A request for one completion with its token ids, in both forms in which servers report them, and with the
    log-probabilities of `top_logprobs` alternatives at each token. Only the given stop tokens end it: `ignore_eos`
    keeps the server from adding those of the model's configuration. With `routed_experts` a vLLM server that returns
    them leaves out those of the prompt's tokens but the last, from which the first token is sampled."""
    seed = {} if params.seed is None else {"seed": params.seed}
    routed = {"routed_experts_prompt_start": len(prompt_ids) - 1} if routed_experts else {}
    return {
        "model": model,
        "prompt": list(prompt_ids),
        "max_tokens": params.max_tokens,
        "temperature": params.temperature,
        "top_p": params.top_p,
        "stop_token_ids": list(params.stop_token_ids),
        "ignore_eos": True,
        **seed,
        **routed,
        "n": 1,
        "stream": False,
        "logprobs": top_logprobs,
        "skip_special_tokens": False,
        "return_token_ids": True,
        "return_tokens_as_token_ids": True,
    }


def read_completion(body: Any, params: SamplingParams, version: int, *, routed_experts: bool = False) -> Completion:
    """The completion in a server's answer, with `routed_experts` if they were asked for; raises `PolicyError` if
    anything is missing or inconsistent, `Aborted` if the server was told to end it, and `Unsuitable` if what has to be
    in any answer is not in it at all."""
    choice = _only_choice(body)
    finish_reason, logprobs = choice.get("finish_reason"), choice.get("logprobs")
    aborted = finish_reason == "abort"
    if aborted and not choice.get("token_ids") and not (isinstance(logprobs, dict) and logprobs.get("tokens")):
        raise Aborted(_ended_for(finish_reason), None)
    if not isinstance(logprobs, dict):
        raise Unsuitable("the answer has no log-probabilities; the server must support `logprobs`")
    token_ids = _token_ids(choice, logprobs)
    values = logprobs.get("token_logprobs")
    if not isinstance(values, list) or not are_logprobs(values):
        raise PolicyError("the answer's token_logprobs are not a list of finite numbers")
    if len(values) != len(token_ids):
        raise PolicyError(f"the answer has {len(values)} log-probabilities for {len(token_ids)} token ids")
    if aborted:
        finish_reason = "stop" if token_ids and token_ids[-1] in params.stop_token_ids else "length"
    if finish_reason not in ("stop", "length"):
        raise PolicyError(_ended_for(finish_reason))
    if not 1 <= len(token_ids) <= params.max_tokens:
        raise PolicyError(f"the answer has {len(token_ids)} tokens, not between 1 and {params.max_tokens}")
    if finish_reason == "stop" and params.stop_token_ids and token_ids[-1] not in params.stop_token_ids:
        raise PolicyError(
            f"the response stopped, but its last token {token_ids[-1]} is not one of the stop tokens "
            f"{list(params.stop_token_ids)}: the server must include the stop token in what it returns"
        )
    chosen = tuple(map(float, values))
    entropies, estimator = estimated(logprobs.get("top_logprobs"), chosen)
    completion = Completion(
        token_ids=tuple(token_ids),
        logprobs=chosen,
        finish_reason=finish_reason,
        version=version,
        entropies=entropies,
        entropy_estimator=estimator,
        routed_experts=_routed_experts(choice, len(token_ids)) if routed_experts else None,
    )
    if aborted:
        raise Aborted(_ended_for("abort"), completion)
    return completion


def read_version(body: Any) -> int:
    """The version that the answer of a `PolicyEndpoint` bears."""
    version = body.get(VERSION_FIELD) if isinstance(body, dict) else None
    if type(version) is not int or version < 0:
        raise PolicyError(f"the answer has no version of the weights, but {version!r:.40}")
    return version


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
    best = top[0] if isinstance(top, list) and top else None
    if not isinstance(best, dict) or not best or not are_logprobs(best.values()):
        raise PolicyError("the answer has no top_logprobs, so it cannot be checked whether they follow the temperature")
    return max(best.values())


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
    if not isinstance(ids, list) or (ids and (set(map(type, ids)) != {int} or min(ids) < 0)):
        raise PolicyError("the answer's token ids are not a list of non-negative integers")
    return ids


def _routed_experts(choice: dict[str, Any], tokens: int) -> RoutedExperts:
    """vLLM sends a `.npy` file in base64: (tokens, layers, experts per token)."""
    text = choice.get("routed_experts")
    if text is None:
        raise Unsuitable(
            "the answer has no routed_experts, which routing_replay needs: start vLLM with "
            "--enable-return-routed-experts, as swe-aem serve does for a run with routing_replay"
        )
    try:
        found = _npy_array(binascii.a2b_base64(text, strict_mode=True))
    except Exception as error:  # numpy lets out whatever Python's own parser raises for a header
        raise PolicyError(f"the answer's routed_experts are not an array in base64: {error}") from error
    if found.ndim != 3 or found.shape[0] != tokens or not found.size or found.dtype.kind not in "iu":
        raise PolicyError(
            f"the answer's routed_experts are {found.dtype} of the shape {found.shape}, for {tokens} tokens; whole "
            "numbers of the shape (tokens, layers, experts per token) are expected"
        )
    if int(found.min()) < 0 or int(found.max()) >= 1 << 16:
        raise PolicyError(f"the answer's routed_experts go from {found.min()} to {found.max()}")
    id_bytes = 1 if found.dtype == "uint8" else 2
    return RoutedExperts(
        layers=found.shape[1],
        experts_per_token=found.shape[2],
        id_bytes=id_bytes,
        ids=found.astype(f"<u{id_bytes}").tobytes(),
    )


def _npy_array(data: bytes) -> Any:
    """The array of numbers in a `.npy` file. Nothing is unpickled, and no memory is taken for a shape that the bytes do
    not fill."""
    import numpy as np
    from numpy.lib import format as npy

    file = io.BytesIO(data)
    read_header = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}[npy.read_magic(file)]
    shape, by_columns, dtype = read_header(file)
    if dtype.kind not in "biufc":
        raise ValueError(f"it is of {dtype}, and not of numbers")
    return np.frombuffer(data, dtype, offset=file.tell()).reshape(shape, order="F" if by_columns else "C")


def _number(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > _MOST_DIGITS:
        raise PolicyError(f"the answer has the token id {text[:40]!r}")
    return int(text)
