"""`Trajectory` to and from a row of the store: flat columns whose types never depend on a trajectory's content.

Maps with free keys (tool arguments, test statuses, timings, the rest of a chat message) become JSON strings, so that
Arrow sees one schema for every store. Per-token columns (`sampled_mask`, `logprobs`) are as long as `token_ids`.
"""

import json
from typing import Any

from swe_aem.core import Chain, Response, ToolCall, Trajectory, Verdict
from swe_aem.store.text import escape, unescape

FORMAT = 3
"""Version of the row's layout; a store of another version is refused."""

Row = dict[str, Any]


def to_row(trajectory: Trajectory) -> Row:
    """The trajectory as a row, strings escaped. Keep the order: `store.py` looks for a record's key at its start."""
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
        "side_chains": _pack([chain.model_dump(mode="json") for chain in trajectory.side_chains]),
    }


def from_row(row: Row) -> Trajectory:
    """The trajectory that `to_row` was given."""
    return Trajectory(
        task_id=unescape(row["task_id"]),
        sample=row["sample"],
        attempt=row["attempt"],
        agent=unescape(row["agent"]),
        model=unescape(row["model"]),
        token_ids=row["token_ids"],
        responses=tuple(_response_from_row(response, row["logprobs"]) for response in row["responses"]),
        side_chains=tuple(Chain.model_validate(chain) for chain in _unpack(row["side_chains"])),
        messages=tuple(_message_from_row(message) for message in row["messages"]),
        stop=row["stop"],
        patch=unescape(row["patch"]),
        outcome=row["outcome"],
        reward=row["reward"],
        weight=row["weight"],
        verdict=None if row["verdict"] is None else _verdict_from_row(row["verdict"]),
        error=None if row["error"] is None else unescape(row["error"]),
        timings_s=_unpack(row["timings_s"]),
    )


def _pack(value: Any) -> str:
    return escape(json.dumps(value, ensure_ascii=False))


def _unpack(text: str) -> Any:
    return json.loads(unescape(text))


def _message_to_row(message: dict[str, Any]) -> Row:
    plain = {name: value for name in ("role", "content") if isinstance(value := message.get(name), str)}
    extra = {name: value for name, value in message.items() if name not in plain}
    return {
        "role": escape(plain["role"]) if "role" in plain else None,
        "content": escape(plain["content"]) if "content" in plain else None,
        "extra": _pack(extra),
    }


def _message_from_row(row: Row) -> dict[str, Any]:
    plain = {name: unescape(row[name]) for name in ("role", "content") if row[name] is not None}
    return plain | _unpack(row["extra"])


def _response_to_row(response: Response) -> Row:
    return {
        "start": response.start,
        "end": response.end,
        "version": response.version,
        "finish_reason": response.finish_reason,
        "sample_s": response.sample_s,
        "entropy": response.entropy,
        "entropy_estimator": response.entropy_estimator,
        "tool_calls": [_call_to_row(call) for call in response.tool_calls],
    }


def _response_from_row(row: Row, logprobs: list[float]) -> Response:
    calls = tuple(_call_from_row(call) for call in row["tool_calls"])
    return Response(**{**row, "tool_calls": calls, "logprobs": logprobs[row["start"] : row["end"]]})


def _call_to_row(call: ToolCall) -> Row:
    return {
        **call.model_dump(),
        "name": escape(call.name),
        "arguments": _pack(call.arguments),
        "observation": escape(call.observation),
    }


def _call_from_row(row: Row) -> ToolCall:
    return ToolCall(
        **{
            **row,
            "name": unescape(row["name"]),
            "arguments": _unpack(row["arguments"]),
            "observation": unescape(row["observation"]),
        }
    )


def _verdict_to_row(verdict: Verdict) -> Row:
    return {
        **verdict.model_dump(),
        "fail_to_pass": _pack(verdict.fail_to_pass),
        "pass_to_pass": _pack(verdict.pass_to_pass),
        "stripped_files": [escape(path) for path in verdict.stripped_files],
        "integrity": [escape(line) for line in verdict.integrity],
        "log_tail": escape(verdict.log_tail),
    }


def _verdict_from_row(row: Row) -> Verdict:
    return Verdict(
        **{
            **row,
            "fail_to_pass": _unpack(row["fail_to_pass"]),
            "pass_to_pass": _unpack(row["pass_to_pass"]),
            "stripped_files": tuple(unescape(path) for path in row["stripped_files"]),
            "integrity": tuple(unescape(line) for line in row["integrity"]),
            "log_tail": unescape(row["log_tail"]),
        }
    )
