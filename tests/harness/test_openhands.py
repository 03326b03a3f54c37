"""OpenHands' tools in real sandboxes: a scripted policy uses them, and reads what the stock tools would say."""

from typing import Any

import pytest

from swe_aem.core import Deadline, SandboxSpec, Stop, Task
from swe_aem.harness.agent import open_harness
from swe_aem.harness.config import HarnessConfig
from swe_aem.harness.spec import read_harness_spec
from swe_aem.sandbox import open_backend
from swe_aem.sandbox.host_system import HOST_IMAGE
from tests.conftest import MICRO_IMAGE, require_harness
from tests.harness.conftest import LIMITS, RENDERER, Played, called
from tests.harness.newest import NEWEST, install_newest

pytestmark = [pytest.mark.slow]

IMAGES = {"bubblewrap": HOST_IMAGE, "docker": MICRO_IMAGE}
LONG = "x" * 9000
SHADOW = "swe-aem-harness"
TODO = {"title": "t", "notes": "", "status": "todo"}


def terminal(command: str, **more: Any) -> list[int]:
    return called("terminal", command=command, **more)


def edit(command: str, path: str, **more: Any) -> list[int]:
    return called("file_editor", command=command, path=path, **more)


SCRIPT: list[tuple[list[int], list[str], list[str]]] = [
    (terminal("pwd && echo $((6 * 7))"), ["/tmp/w\n42", "exit code 0", "directory: /tmp/w]"], ["base64", "script"]),
    (terminal("cd /tmp && export COLOUR=blue"), ["exit code 0", "directory: /tmp]"], []),
    (terminal("echo $COLOUR; false"), ["blue", "exit code 1", "directory: /tmp]"], []),
    (terminal("cat <<'END'\none\n\t$HOME\nEND"), ["one\n\t$HOME", "exit code 0"], ["END", "OH_COMMAND"]),
    (terminal("for n in 1 2 3; do\n  echo line $n\ndone"), ["line 1\nline 2\nline 3"], []),
    (terminal(f"echo {LONG} | wc -c"), ["9001", "exit code 0"], []),
    (terminal("seq 20000"), ["19999\n20000", "clipped", "exit code 0"], []),
    (terminal("sleep 60", timeout=3), ["timed out after 3", "C-c"], []),  # started, on a busy machine too
    (terminal("C-c", is_input=True), ["exit code 130", "CTRL+C was sent"], []),
    (terminal("cat", timeout=1), ["timed out after 1"], []),
    (terminal("hello", is_input=True, timeout=1), ["hello"], []),
    (terminal("C-d", is_input=True), ["exit code 0"], []),
    (terminal("echo a\necho b"), ["Cannot execute multiple commands"], []),
    (terminal("exit 3"), ["started again"], []),
    (terminal("pwd; echo [$COLOUR]"), ["/tmp/w\n[]"], []),
    (terminal("", reset=True), ["has been reset"], []),
    (edit("create", "/tmp/w/new/a.py", file_text=""), ["No such file or directory"], [SHADOW]),
    (terminal("mkdir new"), ["exit code 0"], []),
    (edit("create", "/tmp/w/new/a.py", file_text="one\ntwo\n"), ["File created successfully at: /tmp/w/new/a.py"], []),
    (edit("view", "/tmp/w"), ["2 levels deep in /tmp/w", "/tmp/w/new/\n/tmp/w/new/a.py"], [SHADOW]),
    (edit("view", "/tmp/w/new/a.py", view_range=[2, 2]), ["     2\ttwo"], ["one"]),
    (edit("str_replace", "/tmp/w/new/a.py", old_str="two", new_str="zwei"), ["has been edited", "zwei"], [SHADOW]),
    (terminal("cat new/a.py; stat -c %a new/a.py"), ["one\nzwei\n644"], []),
    (edit("insert", "/tmp/w/new/a.py", insert_line=0, new_str="null"), ["     1\tnull"], []),
    (edit("undo_edit", "/tmp/w/new/a.py"), ["undone successfully"], []),
    (terminal("chmod 755 new/a.py && ln -s a.py new/link"), ["exit code 0"], []),
    (edit("str_replace", "/tmp/w/new/link", old_str="one", new_str="eins"), ["has been edited"], []),
    (terminal("stat -c '%A %N' new/*; cat new/a.py"), ["-rwxr-xr-x", "'new/link' -> 'a.py'", "eins\nzwei"], []),
    (edit("create", "/tmp/w/new/a.py", file_text=""), ["File already exists at: /tmp/w/new/a.py"], [SHADOW]),
    (edit("view", "new/a.py"), ["should be an absolute path", "Maybe you meant /tmp/w/new/a.py?"], []),
    (edit("view", "/nowhere/x"), ["The path /nowhere/x does not exist"], []),
    (edit("str_replace", "/tmp/w/new/a.py", old_str="three", new_str="3"), ["did not appear verbatim"], []),
    (terminal("head -c 11000000 /dev/zero >big; head -c 9000 /bin/bash >bin"), ["exit code 0"], []),
    (edit("view", "/tmp/w/big"), ["too large (10.5MB)"], []),
    (edit("view", "/tmp/w/bin"), ["binary"], []),
    (called("task_tracker", command="plan", task_list=[TODO]), ["1 item(s)"], []),
    (called("nonsense", x=1), ["nonsense' not found"], []),
    (called("terminal"), ["command"], []),
    (called("finish", message="done"), [], []),
]  # fmt: skip
"""A call, what its observation holds, and what it does not."""


@pytest.fixture
def kind(request: pytest.FixtureRequest) -> str:
    request.getfixturevalue(f"require_{request.param}")
    require_harness("openhands")
    return request.param


@pytest.mark.parametrize(
    "kind",
    [pytest.param("bubblewrap", marks=pytest.mark.bubblewrap), pytest.param("docker", marks=pytest.mark.docker)],
    indirect=True,
)
async def test_every_tool_says_what_the_stock_tool_says(kind: str) -> None:
    await play_script(kind)


@pytest.mark.nightly
@pytest.mark.timeout(1200)
async def test_with_the_newest_sdk_they_do_too(require_bubblewrap: None) -> None:
    """Whatever the package registry has by now: it fails where a release needs another adapter."""
    install_newest()
    await play_script("bubblewrap", NEWEST)


async def play_script(kind: str, pins: tuple[str, ...] = ()) -> None:
    """Play `SCRIPT` in a sandbox, and look at every observation."""
    task = Task(id="t", repo="o/r", base_commit="HEAD", problem_statement="P", image=IMAGES[kind], workdir="/tmp/w")
    policy = Played([reply for reply, _, _ in SCRIPT])
    spec = SandboxSpec(image=task.image, workdir="/tmp")
    limits = LIMITS.model_copy(update={"max_turns": 100})
    async with (
        open_harness(
            read_harness_spec("openhands"), HarnessConfig(options={"no_change_timeout_s": 5}, pins=pins), RENDERER
        ) as agents,
        open_backend(kind).open(spec) as sandbox,
    ):
        await sandbox.run("mkdir /tmp/w", timeout_s=60)
        trajectory = await agents(limits).run(task, sandbox, policy, sample=0, deadline=Deadline.after(240))
    assert trajectory.stop is Stop.SUBMITTED
    assert trajectory.branches == ()
    prompt = RENDERER.tokenizer.decode(policy.prompts[0])
    assert all(f'"name": "{tool}"' in prompt for tool in ("terminal", "file_editor", "task_tracker", "finish", "think"))
    assert SHADOW not in prompt, "a directory of this host shows"
    assert "The directory /tmp/w holds the repository of a Python project." in prompt
    seen = [response.tool_calls[0].observation for response in trajectory.responses]
    wrong = [
        (RENDERER.tokenizer.decode(call), observation)
        for (call, there, not_there), observation in zip(SCRIPT, seen, strict=True)
        if not all(text in observation for text in there) or any(text in observation for text in not_there)
    ]
    assert not wrong, "\n\n".join(f"{call}\n{observation}" for call, observation in wrong)
