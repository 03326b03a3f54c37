"""The native agent and its tools in real sandboxes: what the fake cannot show."""

import json

import pytest

from swe_aem.agent import NativeAgent, NativeConfig, TurnRenderer
from swe_aem.core import Deadline, SandboxSpec, Stop
from swe_aem.sandbox import open_backend

LATIN = b"# caf\xe9\r\nx = 1\r\nlast"


def call(tool, **arguments):
    return f"<tool_call>\n{json.dumps({'name': tool, 'arguments': arguments})}\n</tool_call><|im_end|>"


def edit(command, path, **arguments):
    return call("str_replace_editor", command=command, path=path, **arguments)


@pytest.fixture(
    params=[
        pytest.param("bubblewrap", marks=pytest.mark.bubblewrap),
        pytest.param("docker", marks=[pytest.mark.docker, pytest.mark.slow]),
    ]
)
async def sandbox(request, tmp_path):
    request.getfixturevalue(f"require_{request.param}")
    workspace = tmp_path / "workspace"
    (workspace / "src" / "pkg" / "deep").mkdir(parents=True)
    (workspace / "src" / "pkg" / "mod.py").write_bytes(LATIN)
    (workspace / ".git").mkdir()
    async with open_backend(request.param).open(SandboxSpec(image="swe-aem/micro:1", workspace=workspace)) as sandbox:
        yield sandbox


@pytest.fixture
def play(tokenizer, task, make_policy, sandbox):
    async def go(replies, **config):
        agent = NativeAgent(NativeConfig(max_context_tokens=200_000, **config), TurnRenderer(tokenizer))
        policy = make_policy([*replies, call("submit")])
        trajectory = await agent.run(task, sandbox, policy, sample=0, deadline=Deadline.after(120))
        assert trajectory.stop is Stop.SUBMITTED
        return [tool_call for response in trajectory.responses[:-1] for tool_call in response.tool_calls]

    return go


async def test_editing_real_files(play, sandbox):
    shown = await play(
        [
            edit("view", "."),
            edit("view", "src/pkg/mod.py"),
            edit("str_replace", "src/pkg/mod.py", old_str="x = 1\nlast", new_str="x = 2\ny\nlast"),
            edit("create", "src/new dir/it's.py", file_text="a\n"),
            edit("create", "src/new dir/it's.py", file_text="b\n"),
            edit("create", "src/pkg", file_text="b\n"),
            edit("view", "src/absent"),
            edit("view", "src/pkg/mod.py/x"),
            edit("insert", "src/new dir/it's.py", insert_line=1, new_str="b"),
        ]
    )
    observations = [call.observation for call in shown]
    assert "\nsrc/\nsrc/pkg/" in observations[0]
    assert "pkg/deep" not in observations[0]
    assert observations[0].endswith("\nsrc/pkg/")
    assert ".git" not in observations[0]
    assert "     2\tx = 1\n" in observations[1]
    assert await sandbox.read_file("/testbed/src/pkg/mod.py") == b"# caf\xe9\r\nx = 2\r\ny\r\nlast"
    assert observations[3].startswith("Created /testbed/src/new dir/it's.py")
    assert "exists already" in observations[4]
    assert "is a directory" in observations[5]
    assert observations[6] == "Error: src/absent: no such file or directory"
    assert observations[7].startswith("Error: src/pkg/mod.py/x: ")
    assert await sandbox.read_file("/testbed/src/new dir/it's.py") == b"a\nb\n"


async def test_running_real_commands(play):
    quick, slow, big = await play(
        [
            call("bash", command="cd src && pwd; printf '%s' \"$PWD\"; exit 3"),
            call("bash", command="echo before; setsid sleep 60 & sleep 60"),
            call("bash", command="seq 1 100000"),
        ],
        command_timeout_s=1.0,
        max_observation_bytes=400,
    )
    assert (quick.observation, quick.exit_code) == ("/testbed/src\n/testbed/src\n[exit code 3]", 3)
    assert slow.timed_out
    assert slow.observation.startswith("before\n[timed out after 1 s; ")
    assert slow.wall_s < 10
    assert "bytes left out; the whole output is in" in big.observation
    assert len(big.observation) < 600
