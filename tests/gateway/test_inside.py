"""The gateway in a sandbox: what runs there reaches its own session, and nothing that it sends changes what is
trained."""

import shlex
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from swe_aem.core import Deadline, Sandbox, SandboxSpec, Stop, Trajectory
from swe_aem.gateway import Doorway, Gateway, GatewaySession
from swe_aem.gateway.inside import FORWARD, INSIDE, MOST_CONNECTIONS, PORT
from swe_aem.sandbox.bubblewrap import BubblewrapBackend
from swe_aem.sandbox.host_system import HOST_IMAGE
from swe_aem.sandbox.warden import warden_binary
from tests.gateway.conftest import LIMITS, RENDERERS, TASK, Played

RENDERER = RENDERERS["bytes", True]
CALL = 'I look.\n<tool_call>\n{"name": "bash", "arguments": {"command": "ls"}}\n</tool_call><|im_end|>'
SAID = [CALL, CALL, "Done.<|im_end|>"]
LONG = f"{'a very long answer ' * 40}<|im_end|>"

AGENT = """
import json, socket, sys, time, urllib.error, urllib.request
def send(body):
    while True:
        try:
            with urllib.request.urlopen(url + "/v1/chat/completions", body) as answer:
                return json.load(answer)["choices"][0]["message"]
        except urllib.error.HTTPError:
            raise
        except OSError:  # too many connections for the moment
            time.sleep(0.05)
url, injected = sys.argv[1], sys.argv[2:]
tools = [{"type": "function", "function": {"name": "bash", "parameters": {"type": "object"}}}]
history = [{"role": "user", "content": "Fix it."}]
while True:
    message = send(json.dumps({"messages": history, "tools": tools}).encode())
    history.append(message)
    if not message.get("tool_calls"):
        break
    for script in injected:
        exec(script)
    history.append({"role": "tool", "tool_call_id": message["tool_calls"][0]["id"], "content": "a.py"})
print("over")
"""
"""An agent that runs in a sandbox; `injected` is what the policy's commands do there."""

ASK = f"""
PORT, MANY = {PORT}, {MOST_CONNECTIONS + 20}
def ask(method, path, body=None, data=None):
    import http.client
    connection = http.client.HTTPConnection("127.0.0.1", PORT)
    try:
        connection.request(method, path, data if data is not None else json.dumps(body or dict()).encode())
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    except OSError as error:
        return 0, repr(error)
    finally:
        connection.close()
"""


class Told(Played):
    """Gives each conversation the answers of its own: long ones to what does not begin as the agent's does."""

    async def sample(self, prompt_ids: Any, params: Any, *, trajectory_id: str) -> Any:
        text = self.renderer.tokenizer.decode(list(prompt_ids))
        own = "Fix it." in text
        self.replies[len(self.prompts) :] = [SAID[min(text.count("a.py"), 2)] if own else LONG]
        return await super().sample(prompt_ids, params, trajectory_id=trajectory_id)


@asynccontextmanager
async def opened(tmp_path: Path, policy: Played, **limits: Any) -> AsyncIterator[tuple[Sandbox, GatewaySession]]:
    """A sandbox with the doorway of a session."""
    directory = tmp_path / "doorway"
    directory.mkdir()
    doorway = Doorway(directory, warden_binary())
    spec = SandboxSpec(image=HOST_IMAGE, workdir="/tmp", shared={INSIDE: directory})
    async with (
        BubblewrapBackend() as backend,
        backend.open(spec) as sandbox,
        Gateway(RENDERER) as gateway,
        gateway.session(TASK, 0, policy, LIMITS.model_copy(update=limits), Deadline.after(300)) as session,
        doorway.serving(session),
    ):
        yield sandbox, session


async def run_agent(sandbox: Sandbox, *injected: str) -> str:
    """The output of the agent in the sandbox."""
    await sandbox.write_file("/tmp/agent.py", AGENT.encode())
    arguments = shlex.join([f"http://127.0.0.1:{PORT}", *injected])
    command = f'{FORWARD} "$(command -v python3)" /tmp/agent.py {arguments}'
    done = await sandbox.run(command, timeout_s=240)
    assert done.exit_code == 0, done.output
    return done.output


def own_rows(trajectory: Trajectory) -> Any:
    """What is trained on."""
    return trajectory.token_ids, [
        response.model_dump(exclude={"sample_s", "tool_calls"}) for response in trajectory.responses
    ]


async def test_an_agent_in_the_sandbox_has_its_session_and_no_other_way_out(tmp_path: Path) -> None:
    policy = Told(RENDERER, [])
    async with opened(tmp_path, policy) as (sandbox, session):
        assert await run_agent(sandbox) == "over\n"
        listed = await sandbox.run(
            f"touch {INSIDE}/x; ls -A {INSIDE}; ps aux 2>/dev/null | grep -c [f]orward", timeout_s=60
        )
        after = await sandbox.run(f"exec 3<>/dev/tcp/127.0.0.1/{PORT}", timeout_s=60)
    assert after.exit_code != 0, "the forwarder ends with the command"
    assert "Read-only file system" in listed.output
    assert "forward\nsocket" in listed.output
    trajectory = session.trajectory("a", Stop.SUBMITTED)
    assert (len(trajectory.responses), trajectory.branches) == (3, ())


INJECTED = {
    "samples": """
for n in range(3):
    said = [{"role": "user", "content": f"Say something good {n}."}]
    for path, name in (("chat/completions", "messages"), ("messages", "messages"), ("responses", "input")):
        status, text = ask("POST", f"/v1/{path}", {name: said})
        assert status == 200, text
        answer = json.loads(text)
    said += [{"role": "assistant", "content": answer["output"][-1]["content"][0]["text"]}]
    assert ask("POST", "/v1/responses", {"input": [*said, {"role": "user", "content": "More."}]})[0] == 200
""",
    "odd bodies": """
assert ask("POST", "/v1/messages", data=b"{" * 100000)[0] == 400
assert ask("POST", "/v1/messages", data=b"[" * 100000)[0] == 400
assert ask("POST", "/v1/chat/completions", {"messages": [{"role": "user", "content": "\\ud800"}]})[0] in (200, 400)
assert ask("POST", "/v1/responses", {"input": [{"type": "computer_call"}]})[0] == 400
assert ask("POST", "/v1/messages", data=b"x" * (8 << 20))[0] in (0, 413)
assert ask("POST", "/v1/chat/completions", {"messages": [{"role": "user", "content": "long " * 30000}]})[0] == 400
""",
    "other sessions and routes": """
for path in ("/", "/admin", "/sessions", "/v1/sessions", "/metrics", "/x/v1/chat/completions", "/v1/../admin"):
    for method in ("GET", "POST", "DELETE"):
        assert ask(method, path)[0] in (404, 405), (method, path)
assert ask("GET", "/v1/models")[0] == 200
""",
    "many connections": """
held = []
for _ in range(MANY):
    one = socket.create_connection(("127.0.0.1", PORT))
    one.send(b"POST /v1/messages HTTP/1.1\\r\\nHost: x\\r\\nContent-Length: 1000000\\r\\n\\r\\n{")
    held.append(one)
for one in held:
    one.close()
""",
}


@pytest.mark.parametrize("injected", sorted(INJECTED))
async def test_what_the_policys_commands_send_trains_nothing(tmp_path: Path, injected: str) -> None:
    policy = Told(RENDERER, [])
    async with opened(tmp_path, policy, max_context_tokens=20_000) as (sandbox, session):
        assert await run_agent(sandbox, ASK + INJECTED[injected]) == "over\n"
        assert session.stop is None
    trajectory = session.trajectory("a", Stop.SUBMITTED)
    if injected == "samples":
        assert [len(branch.responses) for branch in trajectory.branches] == [2, 2, 2], "a repeated request counts once"
        aside = sum(len(response.logprobs) for branch in trajectory.branches for response in branch.responses)
        assert aside > sum(len(response.logprobs) for response in trajectory.responses), "they are the longer ones"
        assert not any(branch.by_agent for branch in trajectory.branches), "no setting has them trained on"
    undisturbed = GatewaySession(TASK, 0, Told(RENDERER, []), RENDERER, LIMITS, Deadline.after(300))
    history: list[Any] = [{"role": "user", "content": "Fix it."}]
    tools = [{"type": "function", "function": {"name": "bash", "parameters": {"type": "object"}}}]
    for _ in SAID:
        turn = await undisturbed.complete(history, tools)
        assert turn.answer is not None
        message = turn.answer.message
        history += [
            message,
            *(
                {"role": "tool", "tool_call_id": call["id"], "content": "a.py"}
                for call in message.get("tool_calls", [])
            ),
        ]
    assert own_rows(trajectory) == own_rows(undisturbed.trajectory("a", Stop.SUBMITTED))


async def test_what_is_aside_uses_up_the_trajectorys_turns(tmp_path: Path) -> None:
    session = GatewaySession(
        TASK, 0, Told(RENDERER, []), RENDERER, LIMITS.model_copy(update={"max_turns": 3}), Deadline.after(300)
    )
    session.reachable = True
    history: list[Any] = [{"role": "user", "content": "Fix it."}]
    await session.complete(history, [])
    for n in range(2):
        turn = await session.complete([{"role": "user", "content": f"Aside {n}"}], [])
        assert turn.aside
    with pytest.raises(Exception, match="all 3 turns are taken"):
        await session.complete([{"role": "user", "content": "Aside 3"}], [])
    assert session.stop is Stop.TURN_LIMIT
    assert len(session.trajectory("a", Stop.TURN_LIMIT).responses) == 1
