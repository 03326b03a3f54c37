"""The body of a chat request and the reading of its answer, for OpenAI's API and those that resemble it.

They differ in names of fields and in what they take. What an API refuses by name is left out of later requests, if it
says no more than the API's own default does; otherwise it is an error. What it calls the text of its reasoning is kept,
so that an assistant message goes back as it came.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from swe_aem.core import ChatCompletion, SamplingParams, Usage
from swe_aem.errors import UserError
from swe_aem.policy.chat_config import Price
from swe_aem.policy.refusals import Answer

if TYPE_CHECKING:
    from typing_extensions import TypeIs

_REASONING = ("reasoning_content", "reasoning")
"""Names for the text of the reasoning: DeepSeek's and SGLang's, vLLM's and OpenRouter's."""
_LIMITS = ("max_tokens", "max_completion_tokens")
"""Names for the most tokens of a response: everybody's, and that of OpenAI's newer models."""
_NOT_TAKEN = re.compile(
    r"support|unrecogni[sz]ed|unknown|unexpected|extra|not permitted|not allowed|deprecated|invalid"
)
_ENDS: Mapping[str, Literal["stop", "length"]] = {
    "stop": "stop",
    "tool_calls": "stop",
    "function_call": "stop",
    "content_filter": "stop",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "eos": "stop",
    "length": "length",
    "max_tokens": "length",
    "model_length": "length",
}
"""Reasons for which a response ends. A filter that withholds an answer belongs to the policy that is evaluated."""
_DROPPED = frozenset({"refusal", "annotations", "audio", "function_call"})
"""Fields of an assistant message that are not sent back."""
_SHORTEST_RESPONSE_TOKENS = 32
"""A response for which there is less space is not asked for: the messages fill the model's context."""
_MOST = 1e12
"""A larger number of tokens or dollars is none."""
_BYTES_PER_TOKEN = 3
"""Bytes of text that make a token, at most, where an API does not count them."""


class Dialect:
    """What one API takes, as far as its answers have told."""

    def __init__(self, model: str, extra: Mapping[str, Any]) -> None:
        """`extra`: further fields of every request."""
        self._model, self._extra = model, dict(extra)
        self._limit_field = "max_tokens"
        self._most_tokens: int | None = None
        self._left_out: set[str] = set()
        self._reasoning: str | None = None
        self._takes_reasoning = True
        self.counts_tokens = True
        """Does it report usage?"""

    def body(
        self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]], params: SamplingParams
    ) -> dict[str, Any]:
        """The request for one response."""
        body: dict[str, Any] = {
            "model": self._model,
            "messages": [self._outgoing(message) for message in messages],
            "temperature": params.temperature,
            "top_p": params.top_p,
            "stream": False,
            self._limit_field: min(params.max_tokens, self._most_tokens or params.max_tokens),
        }
        if tools:
            body["tools"] = list(tools)
        if params.seed is not None:
            body["seed"] = params.seed & 0x7FFFFFFF  # some APIs read 32 bits
        return {name: value for name, value in body.items() if name not in self._left_out} | self._extra

    def learn(self, answer: Answer, body: Mapping[str, Any]) -> bool:
        """Adapt to a refusal of a field of `body`; true if the request may be sent again.

        Raises `UserError` if the API refuses a setting that asks for something else than its default.
        """
        if answer.status not in (400, 422):
            return False
        thoughts = any(name in message for message in body["messages"] for name in _REASONING)
        if thoughts and any(name in answer.message for name in _REASONING):
            self._takes_reasoning = False
            return True
        name = self._refused_field(answer, body)
        if name is None:
            return False
        if name in _LIMITS:
            return self._learn_limit(answer.message, name, body[name])
        if name in ("temperature", "top_p") and body[name] != 1:
            raise UserError(f"the model {self._model} takes no {name} {body[name]:g}: sample with 1 ({answer.message})")
        self._left_out.add(name)
        return True

    def read(self, answer: Answer, body: Mapping[str, Any], price: Price | None) -> ChatCompletion:
        """The completion in an answer. Raises `Unreadable` if there is none."""
        usage = self._usage(answer, body, price)
        choices = answer.body.get("choices") if isinstance(answer.body, dict) else None
        choice = choices[0] if isinstance(choices, list) and choices else None
        message = choice.get("message") if isinstance(choice, dict) else None
        if not isinstance(choice, dict) or not isinstance(message, dict):
            raise Unreadable(f"the answer has no message: {answer.message or 'it is empty'}", None)
        reason = choice.get("finish_reason") or "stop"
        end = _ENDS.get(reason) if isinstance(reason, str) else None
        if end is None:
            raise Unreadable(f"the API ended the response for the reason {reason!r}", usage)
        read = self._incoming(message)
        if reason == "content_filter" and not read["content"]:
            read["content"] = "(The content filter of the API withheld the answer.)"
        return ChatCompletion(message=read, finish_reason=end, usage=usage)

    def estimated(self, body: Mapping[str, Any], price: Price | None) -> Usage:
        """What the prompt of a request takes, from its length."""
        prompt = _estimated({"messages": body["messages"], "tools": body.get("tools")})
        cost_usd = None if price is None else price.cost_usd(prompt, 0, 0)
        return Usage(prompt_tokens=prompt, completion_tokens=0, cached_tokens=0, cost_usd=cost_usd)

    def _refused_field(self, answer: Answer, body: Mapping[str, Any]) -> str | None:
        """The field of the request that a refusal is about."""
        words = answer.message
        ours = [name for name in (*_LIMITS, "seed", "top_p", "temperature") if name in body]
        if answer.error.get("param") in ours:
            return answer.error["param"]
        if not _NOT_TAKEN.search(words.lower()) and not any(name in words for name in _LIMITS):
            return None
        return next((name for name in ours if re.search(rf"\b{name}\b", words)), None)

    def _learn_limit(self, message: str, name: str, asked: int) -> bool:
        """The API calls the limit of a response otherwise, or has a lower one, which its message names."""
        lower = [number for number in _counts(message) if 1 <= number < asked]
        if "max_completion_tokens" in message and name == "max_tokens":
            self._limit_field = "max_completion_tokens"
        elif lower:
            self._most_tokens = max(lower)
        else:
            return False
        return True

    def _outgoing(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """A message as the API takes it."""
        sent = {name: value for name, value in message.items() if value is not None and name != "reasoning_content"}
        if self._reasoning is not None and self._takes_reasoning and message.get("reasoning_content"):
            sent[self._reasoning] = message["reasoning_content"]
        if calls := sent.get("tool_calls"):
            sent["tool_calls"] = [_parsable(call) for call in calls]
            sent["content"] = sent.get("content") or None
        return sent

    def _incoming(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """An assistant message with `content`, `reasoning_content` and `tool_calls` as OpenAI has them. Fields that
        only this API has are kept, since it may want them back."""
        read = {name: value for name, value in message.items() if value is not None and name not in _DROPPED}
        text, thought = _parts(message.get("content"))
        for name in _REASONING:
            if isinstance(said := read.pop(name, None), str) and said:
                self._reasoning = self._reasoning or name
                thought = thought or said
        read |= {"role": "assistant", "content": text or _text(message.get("refusal"))}
        if thought:
            read["reasoning_content"] = thought
        calls = message.get("tool_calls")
        if isinstance(calls, list) and calls:
            read["tool_calls"] = [_call(call, number) for number, call in enumerate(calls)]
        else:
            read.pop("tool_calls", None)
        return read

    def _usage(self, answer: Answer, body: Mapping[str, Any], price: Price | None) -> Usage:
        given = answer.body.get("usage") if isinstance(answer.body, dict) else None
        usage = given if isinstance(given, dict) else {}
        prompt, completion = _count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens"))
        self.counts_tokens = bool(prompt)
        if not prompt:
            prompt = _estimated({"messages": body["messages"], "tools": body.get("tools")})
            completion = completion or _estimated(answer.body)
        completion = max(completion, _count(usage.get("total_tokens")) - prompt)  # some leave the reasoning out
        details = usage.get("prompt_tokens_details")
        cached = _count(details.get("cached_tokens")) if isinstance(details, dict) else 0
        cached = cached or _count(usage.get("prompt_cache_hit_tokens")) or _count(usage.get("cached_tokens"))
        cached, said = min(cached, prompt), usage.get("cost")
        cost = float(said) if _is_amount(said) else None
        return Usage(
            prompt_tokens=prompt,
            completion_tokens=completion,
            cached_tokens=cached,
            cost_usd=cost if price is None else price.cost_usd(prompt, completion, cached),
        )


class Unreadable(Exception):
    """An answer without a response in it; `usage` is what it took, if it says so."""

    def __init__(self, why: str, usage: Usage | None) -> None:
        super().__init__(why)
        self.usage = usage


def space_for_response(message: str, asked: int) -> int | None:
    """How many tokens a response may have, where a server says that messages and `asked` tokens of response together
    are too many for the model; None where the messages alone are, or it does not say."""
    whole = re.search(r"cannot be greater than max_model_len=(\d+)", message)
    if whole is not None and 0 < int(whole[1]) < asked:
        return int(whole[1])
    if re.search(r"at least \d+ input tokens|contains \d+ characters", message):
        # vLLM counts a prompt only as far as it could fit beside the response, so that half as long a one is tried.
        return asked // 2 if asked // 2 >= _SHORTEST_RESPONSE_TOKENS else None
    longest = re.search(r"context length (?:is|of) (?:only )?(\d+)", message)
    prompt = re.search(r"(\d+) (?:tokens )?(?:in|from|of)? ?(?:the|your)? ?(?:input|messages|prompt)", message)
    if longest is None or prompt is None:
        return None
    space = int(longest[1]) - int(prompt[1])
    return space if 0 < space < asked else None


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _parts(content: Any) -> tuple[str, str]:
    """Text and reasoning of a message's content, which is a text or a list of parts."""
    if not isinstance(content, list):
        return _text(content), ""
    parts = [part for part in content if isinstance(part, dict)]
    thought = [part.get("thinking") for part in parts if part.get("type") == "thinking"]
    return "".join(_text(part.get("text")) for part in parts), "".join(_parts(one)[0] or _text(one) for one in thought)


def _call(call: Any, number: int) -> dict[str, Any]:
    """A tool call with an id, and with its arguments as text."""
    call = call if isinstance(call, dict) else {}
    given = call.get("function")
    function = given if isinstance(given, dict) else {}
    arguments = function.get("arguments")
    text = arguments if isinstance(arguments, str) else json.dumps(arguments or {})
    return call | {
        "id": call.get("id") or f"call_{number}",
        "type": "function",
        "function": function | {"name": _text(function.get("name")), "arguments": text or "{}"},
    }


def _parsable(call: Mapping[str, Any]) -> dict[str, Any]:
    """A call of an earlier response. Arguments that are no JSON object go back as the text `raw` of one: some servers
    refuse the whole conversation otherwise."""
    function = call["function"]
    try:
        fits = isinstance(json.loads(function["arguments"]), dict)
    except (ValueError, RecursionError):
        fits = False
    if fits:
        return dict(call)
    return {**call, "function": {**function, "arguments": json.dumps({"raw": function["arguments"]})}}


def _counts(text: str) -> list[int]:
    """The whole numbers of a text that stand by themselves: none of a date, a time, a version or a name."""
    without_commas = re.sub(r"(?<=\d),(?=\d{3}\b)", "", text)
    return [int(number) for number in re.findall(r"(?<![\w.:/-])\d+(?![\w:/-]|\.\d)", without_commas)]


def _count(value: Any) -> int:
    """A number of tokens; 0 for what is none."""
    return int(value) if _is_amount(value) else 0


def _is_amount(value: Any) -> "TypeIs[int | float]":
    """Is it a number that can be counted with? JSON has numbers that are too large for one, and servers write NaN."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= _MOST


def _estimated(value: Any) -> int:
    """Tokens of something that is sent as JSON, too many rather than too few."""
    return -(-len(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")) // _BYTES_PER_TOKEN)
