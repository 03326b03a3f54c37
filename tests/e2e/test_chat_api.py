"""A rollout of a model behind a chat API, with a key that has to stay where it is."""

import json
from pathlib import Path
from typing import Any

import pytest

import swe_aem as sa
from tests.policy.chat_api import USAGE, answer, serving

pytestmark = [pytest.mark.bubblewrap, pytest.mark.usefixtures("require_bubblewrap")]

KEY = "sk-e2e-0123456789"
LOOKS = "env; cat /proc/*/environ /proc/*/cmdline | tr '\\0' '\\n'; echo done"


def looks_and_submits(request: dict[str, Any]) -> dict[str, Any]:
    """A model that looks for the key first."""
    asked = sum(message["role"] == "assistant" for message in request["messages"])
    name, arguments = ("bash", {"command": LOOKS}) if asked == 0 else ("submit", {})
    call = {"id": f"c{asked}", "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
    return answer(None, finish="tool_calls", tool_calls=[call], reasoning="Hm.")


async def test_a_key_reaches_the_api_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    policy = {"type": "chat", "model": "gpt-x", "price": {"input_usd": 1, "output_usd": 2}}
    async with serving() as api:
        api.key, api.reply = KEY, looks_and_submits
        tasks = sa.load_tasks("tasks/micro", limit=1)
        run = await sa.rollout_async(tasks, agent="native", policy=policy | {"url": api.url}, out=tmp_path)
    (trajectory,) = run.trajectories()
    assert (trajectory.model, trajectory.outcome, len(trajectory.responses)) == ("gpt-x", "empty_patch", 2)
    assert [headers["Authorization"] for headers in api.headers] == [f"Bearer {KEY}"] * 2
    (look,) = trajectory.responses[0].tool_calls
    assert "done" in look.observation
    used = [response.usage for response in trajectory.responses]
    assert [one.prompt_tokens for one in used if one is not None] == [USAGE["prompt_tokens"]] * 2
    assert [one.cost_usd for one in used if one is not None] == pytest.approx([120e-6] * 2)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 3
    assert [path.name for path in files if KEY.encode() in path.read_bytes()] == []


async def test_a_wrong_key_ends_the_run_before_a_sandbox_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    async with serving() as api:
        api.key = "another"
        policy = {"type": "chat", "model": "gpt-x", "url": api.url}
        with pytest.raises(sa.errors.UserError, match=r"refuses the key .*\*\*\*.*OPENAI_API_KEY"):
            await sa.rollout_async(sa.load_tasks("tasks/micro", limit=1), agent="native", policy=policy, out=tmp_path)
    assert api.requests == []
