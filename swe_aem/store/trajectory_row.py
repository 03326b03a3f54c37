"""A trajectory as one row of the store: flat columns whose types never depend on a trajectory's content.

Maps with free keys (tool arguments, test statuses, timings, the rest of a chat message) become JSON strings, so that
Arrow sees one schema for every store. Per-token columns (`sampled_mask`, `logprobs`) are as long as `token_ids`. Where
tokens went in a mixture of experts is base64, a byte or two for each chosen expert.
"""

import json
from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypedDict

from swe_aem.core import Branch, Response, RoutedExperts, ToolCall, Trajectory, Usage, Verdict
from swe_aem.store.surrogates import escape, unescape
from swe_aem.store.upgrade import FORMAT


class ToolCallRow(TypedDict):
    """One tool call; `arguments` is JSON."""

    name: str
    arguments: str
    status: str
    converted: int
    observation: str
    exit_code: int | None
    timed_out: bool
    wall_s: float


class UsageRow(TypedDict):
    """What a chat API reported of one response."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    cost_usd: float | None


class VersionSpanRow(TypedDict):
    """A later version of the weights, and the place in the response from which on it sampled."""

    start: int
    version: int


class ResponseRow(TypedDict):
    """One response: a half-open span of `token_ids`. Its log-probabilities are in the row's own column."""

    start: int
    end: int
    version: int
    spans: list[VersionSpanRow]
    finish_reason: str
    sample_s: float
    entropy: float | None
    entropy_estimator: str | None
    tool_calls: list[ToolCallRow]
    usage: UsageRow | None


class RoutedExpertsRow(TypedDict):
    """To which experts the tokens went from which one response was sampled; `ids` is base64 of `RoutedExperts.ids`."""

    response: int
    layers: int
    experts_per_token: int
    id_bytes: int
    ids: str


class MessageRow(TypedDict):
    """One chat message; `extra` is JSON of everything but text `role` and `content`."""

    role: str | None
    content: str | None
    extra: str


class VerdictRow(TypedDict):
    """A verdict; `fail_to_pass` and `pass_to_pass` are JSON."""

    resolved: bool
    official_resolved: bool | None
    patch_applied: bool
    timed_out: bool
    fail_to_pass: str
    pass_to_pass: str
    fail_to_pass_fraction: float
    pass_to_pass_fraction: float
    stripped_files: list[str]
    integrity: list[str]
    twinned: list[str]
    twin_s: float
    odd_once: list[str]
    cause: str
    exit_code: int | None
    test_exit_code: int | None
    eval_s: float
    starved_s: float
    cpu_s: float | None
    wall_s: float
    log_tail: str


class TrajectoryRow(TypedDict):
    """The row, in the order in which it is written: `store.py` finds a record's key in its first five members.

    `timings_s`, `reward_terms` and `branches` are JSON. The dataset card declares these columns.
    """

    format: int
    task_id: str
    sample: int
    attempt: int
    outcome: str | None
    reward: float | None
    response_rewards: list[float] | None
    reward_terms: str
    weight: float
    agent: str
    model: str
    stop: str | None
    error: str | None
    patch: str
    timings_s: str
    verdict: VerdictRow | None
    messages: list[MessageRow]
    responses: list[ResponseRow]
    token_ids: list[int]
    sampled_mask: list[bool]
    logprobs: list[float]
    routed_experts: list[RoutedExpertsRow]
    branches: str


def to_row(trajectory: Trajectory) -> TrajectoryRow:
    """The trajectory as a row, its strings escaped."""
    logprobs = [0.0] * len(trajectory.token_ids)
    for response in trajectory.responses:
        logprobs[response.start : response.end] = response.logprobs
    return {
        "format": FORMAT,
        "task_id": escape(trajectory.task_id),
        "sample": trajectory.sample,
        "attempt": trajectory.attempt,
        "outcome": trajectory.outcome,
        "reward": trajectory.reward,
        "response_rewards": None if trajectory.response_rewards is None else list(trajectory.response_rewards),
        "reward_terms": _pack(trajectory.reward_terms),
        "weight": trajectory.weight,
        "agent": escape(trajectory.agent),
        "model": escape(trajectory.model),
        "stop": trajectory.stop,
        "error": None if trajectory.error is None else escape(trajectory.error),
        "patch": escape(trajectory.patch),
        "timings_s": _pack(trajectory.timings_s),
        "verdict": None if trajectory.verdict is None else _verdict_to_row(trajectory.verdict),
        "messages": [_message_to_row(message) for message in trajectory.messages],
        "responses": [_response_to_row(response) for response in trajectory.responses],
        "token_ids": list(trajectory.token_ids),
        "sampled_mask": trajectory.sampled_mask,
        "logprobs": logprobs,
        "routed_experts": [
            _routed_to_row(number, response.routed_experts)
            for number, response in enumerate(trajectory.responses)
            if response.routed_experts is not None
        ],
        "branches": _pack([branch.model_dump() for branch in trajectory.branches]),
    }


def from_row(row: Mapping[str, Any]) -> Trajectory:
    """The trajectory that `to_row` was given."""
    routed = {one["response"]: _routed_from_row(one) for one in row["routed_experts"]}
    return Trajectory(
        task_id=unescape(row["task_id"]),
        sample=row["sample"],
        attempt=row["attempt"],
        agent=unescape(row["agent"]),
        model=unescape(row["model"]),
        token_ids=row["token_ids"],
        responses=tuple(
            _response_from_row(response, row["logprobs"], routed.get(number))
            for number, response in enumerate(row["responses"])
        ),
        branches=tuple(Branch.model_validate(branch) for branch in _unpack(row["branches"])),
        messages=tuple(_message_from_row(message) for message in row["messages"]),
        stop=row["stop"],
        patch=unescape(row["patch"]),
        outcome=row["outcome"],
        reward=row["reward"],
        response_rewards=row["response_rewards"],
        reward_terms=_unpack(row["reward_terms"]),
        weight=row["weight"],
        verdict=None if row["verdict"] is None else _verdict_from_row(row["verdict"]),
        error=None if row["error"] is None else unescape(row["error"]),
        timings_s=_unpack(row["timings_s"]),
    )


def without_tokens(row: Mapping[str, Any]) -> Trajectory:
    """The trajectory that `to_row` was given, but for token ids, log-probabilities and routed experts, which are most
    of a row and may be missing in this one. The spans of its responses are those of what is left out."""
    responses = tuple(_response_from_row(response, []) for response in row["responses"])
    left_out = {"token_ids": (), "logprobs": [], "routed_experts": [], "responses": (), "response_rewards": None}
    plain = from_row({**row, **left_out})
    return plain.model_copy(update={"responses": responses, "response_rewards": row["response_rewards"]})


MOST_ITEMS = 1_000
"""Responses and tool calls of a row that are read as a whole in any case."""


class Excerpt(NamedTuple):
    """A trajectory with the texts of some of its turns."""

    trajectory: Trajectory
    """Outside of those turns responses have no tool calls, and messages their role alone."""
    is_whole: bool
    """Is nothing left out?"""
    tools_s: float
    """Seconds of the tool calls of its responses, of those that are left out too."""


def excerpt(row: Mapping[str, Any], turns: range) -> Excerpt:
    """The trajectory that `to_row` was given; where it has very many turns, with the texts of the prompt, of `turns`,
    counted from 0, and of as many last ones only. Branches are whole."""
    responses, messages = row["responses"], row["messages"]
    tools_s = float(sum(call["wall_s"] for response in responses for call in response["tool_calls"]))
    if len(responses) + sum(len(response["tool_calls"]) for response in responses) <= MOST_ITEMS:
        return Excerpt(from_row(row), is_whole=True, tools_s=tools_s)
    places = turn_places(messages, len(responses))
    count = max(len(places), len(responses))
    kept = {*turns, *range(max(0, count - len(turns)), count)}
    shown = set(range(places[0] if places else len(messages)))
    for n in kept & set(range(len(places))):
        shown.update(range(places[n], places[n + 1] if n + 1 < len(places) else len(messages)))
    cut = {
        **row,
        "responses": [one if n in kept else {**one, "tool_calls": ()} for n, one in enumerate(responses)],
        "messages": [
            one if n in shown or one["role"] is None else {"role": one["role"], "content": None, "extra": "{}"}
            for n, one in enumerate(messages)
        ],
    }
    return Excerpt(from_row(cut), is_whole=False, tools_s=tools_s)


def turn_places(messages: Sequence[Mapping[str, Any]], responses: int) -> list[int]:
    """The indexes of the messages that are a stream's turns, in a row or in a trajectory. The n-th response is the n-th
    assistant message; where there are more messages than that, the first ones are part of the prompt."""
    places = [at for at, message in enumerate(messages) if message.get("role") == "assistant"]
    return places[max(0, len(places) - responses) :] if responses else places


def _pack(value: Any) -> str:
    """JSON made from Python's own values: pydantic's JSON would lose lone surrogates. Bytes are base64."""
    return escape(json.dumps(value, ensure_ascii=False, default=lambda given: b64encode(given).decode("ascii")))


def _unpack(text: str) -> Any:
    return json.loads(unescape(text))


def _message_to_row(message: dict[str, Any]) -> MessageRow:
    plain = {name: value for name in ("role", "content") if isinstance(value := message.get(name), str)}
    extra = {name: value for name, value in message.items() if name not in plain}
    return {
        "role": escape(plain["role"]) if "role" in plain else None,
        "content": escape(plain["content"]) if "content" in plain else None,
        "extra": _pack(extra),
    }


def _message_from_row(row: Mapping[str, Any]) -> dict[str, Any]:
    plain = {name: unescape(row[name]) for name in ("role", "content") if row[name] is not None}
    return plain | _unpack(row["extra"])


def _response_to_row(response: Response) -> ResponseRow:
    return {
        "start": response.start,
        "end": response.end,
        "version": response.version,
        "spans": [{"start": span.start, "version": span.version} for span in response.spans],
        "finish_reason": response.finish_reason,
        "sample_s": response.sample_s,
        "entropy": response.entropy,
        "entropy_estimator": response.entropy_estimator,
        "tool_calls": [_call_to_row(call) for call in response.tool_calls],
        "usage": None if response.usage is None else _usage_to_row(response.usage),
    }


def _routed_to_row(response: int, routed: RoutedExperts) -> RoutedExpertsRow:
    return {
        "response": response,
        "layers": routed.layers,
        "experts_per_token": routed.experts_per_token,
        "id_bytes": routed.id_bytes,
        "ids": b64encode(routed.ids).decode("ascii"),
    }


def _routed_from_row(row: Mapping[str, Any]) -> RoutedExperts:
    return RoutedExperts.model_validate({name: value for name, value in row.items() if name != "response"})


def _usage_to_row(usage: Usage) -> UsageRow:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "cached_tokens": usage.cached_tokens,
        "cost_usd": usage.cost_usd,
    }


def _response_from_row(row: Mapping[str, Any], logprobs: list[float], routed: RoutedExperts | None = None) -> Response:
    calls = tuple(_call_from_row(call) for call in row["tool_calls"])
    own = {"tool_calls": calls, "logprobs": logprobs[row["start"] : row["end"]], "routed_experts": routed}
    return Response(**{**row, **own})


def _call_to_row(call: ToolCall) -> ToolCallRow:
    return {
        "name": escape(call.name),
        "arguments": _pack(call.arguments),
        "status": call.status,
        "converted": call.converted,
        "observation": escape(call.observation),
        "exit_code": call.exit_code,
        "timed_out": call.timed_out,
        "wall_s": call.wall_s,
    }


def _call_from_row(row: Mapping[str, Any]) -> ToolCall:
    return ToolCall(
        **{
            **row,
            "name": unescape(row["name"]),
            "arguments": _unpack(row["arguments"]),
            "observation": unescape(row["observation"]),
        }
    )


def _verdict_to_row(verdict: Verdict) -> VerdictRow:
    return {
        "resolved": verdict.resolved,
        "official_resolved": verdict.official_resolved,
        "patch_applied": verdict.patch_applied,
        "timed_out": verdict.timed_out,
        "fail_to_pass": _pack(verdict.fail_to_pass),
        "pass_to_pass": _pack(verdict.pass_to_pass),
        "fail_to_pass_fraction": verdict.fail_to_pass_fraction,
        "pass_to_pass_fraction": verdict.pass_to_pass_fraction,
        "stripped_files": [escape(path) for path in verdict.stripped_files],
        "integrity": [escape(line) for line in verdict.integrity],
        "twinned": [escape(test) for test in verdict.twinned],
        "twin_s": verdict.twin_s,
        "odd_once": [escape(line) for line in verdict.odd_once],
        "cause": escape(verdict.cause),
        "exit_code": verdict.exit_code,
        "test_exit_code": verdict.test_exit_code,
        "eval_s": verdict.eval_s,
        "starved_s": verdict.starved_s,
        "cpu_s": verdict.cpu_s,
        "wall_s": verdict.wall_s,
        "log_tail": escape(verdict.log_tail),
    }


def _verdict_from_row(row: Mapping[str, Any]) -> Verdict:
    return Verdict(
        **{
            **row,
            "fail_to_pass": _unpack(row["fail_to_pass"]),
            "pass_to_pass": _unpack(row["pass_to_pass"]),
            "stripped_files": tuple(unescape(path) for path in row["stripped_files"]),
            "integrity": tuple(unescape(line) for line in row["integrity"]),
            "twinned": tuple(unescape(test) for test in row["twinned"]),
            "odd_once": tuple(unescape(line) for line in row["odd_once"]),
            "cause": unescape(row["cause"]),
            "log_tail": unescape(row["log_tail"]),
        }
    )
