"""Some trajectories of a training run as plain text, for a page that stands alone."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from swe_aem.core import Trajectory
from swe_aem.view.training_run import Example, examples

SHOWN_CHARACTERS = 4000
"""Characters shown of one message; the middle of a longer one is left out."""
SHOWN_MESSAGES = 60
"""Messages shown of one trajectory."""


def conversations(directory: Path) -> list[dict[str, Any]]:
    """Title and messages of up to three trajectories of a training run; raises `UserError` for a damaged store."""
    return [_shown(one) for one in examples(directory)]


def conversation(trajectory: Trajectory) -> Iterator[tuple[str, str]]:
    """(speaker, text) of the messages of a trajectory, long ones cut in the middle; its patch last.

    Text is what the policy and its commands wrote: the template must escape it.
    """
    for n, message in enumerate(trajectory.messages):
        if n == SHOWN_MESSAGES:
            yield "…", f"{len(trajectory.messages) - n} messages left out"
            break
        yield str(message.get("role", "?")), _cut("\n".join(_parts(message)))
    if trajectory.patch:
        yield "patch", _cut(trajectory.patch)
    if trajectory.error:
        yield "error", _cut(trajectory.error)


def _parts(message: dict[str, Any]) -> Iterator[str]:
    if message.get("reasoning_content"):
        yield f"(thinks) {message['reasoning_content']}"
    content = message.get("content")
    if content:
        yield content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
    calls = message.get("tool_calls")
    for call in calls if isinstance(calls, list | tuple) else ():
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict):  # as an API wrote it
            yield f"→ {call if isinstance(call, str) else json.dumps(call, ensure_ascii=False, default=str)}"
            continue
        yield f"→ {function.get('name', '?')} {_arguments(function.get('arguments', ''))}"


def _arguments(text: Any) -> str:
    """Arguments of a call for a person: strings with their line breaks, one argument a line if there are several."""
    try:
        found = json.loads(text)
    except (TypeError, ValueError):
        return str(text)  # malformed: as the policy wrote it
    if not isinstance(found, dict):
        return str(text)
    shown = [value if isinstance(value, str) else json.dumps(value, ensure_ascii=False) for value in found.values()]
    if len(shown) == 1:
        return shown[0]
    return "".join(f"\n    {name}: {value}" for name, value in zip(found, shown, strict=True))


def _shown(example: Example) -> dict[str, Any]:
    one = example.trajectory
    turns = len(one.responses)
    tokens = sum(response.used.completion_tokens for response in one.responses)
    version = f", weight version {one.responses[-1].last_version}" if one.responses else ""
    title = (
        f"{example.what}: {one.task_id}, sample {one.sample}: {one.outcome}, {turns} turns, {tokens:,} tokens{version}"
    )
    return {"title": title, "messages": list(conversation(one))}


def _cut(text: str) -> str:
    if len(text) <= SHOWN_CHARACTERS:
        return text
    half = SHOWN_CHARACTERS // 2
    return f"{text[:half]}\n[… {len(text) - 2 * half:,} characters left out …]\n{text[-half:]}"
