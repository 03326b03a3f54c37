"""Scripted policies played by the native agent: gold solves, noop submits, a replay repeats token by token."""

import shutil
import subprocess

import pytest

from swe_aem.agent import NativeAgent, NativeConfig
from swe_aem.core import AnswerKey, Deadline, Stop, Task, TaskRecord
from swe_aem.policy import open_policy_factory

BEFORE = {"a.py": b"def f():\n    return 1\n", "dos.txt": b"one\r\ntwo\r\n", "end": b"no end"}
AFTER = {"a.py": b"def f():\n    return '$HOME' \"`\\\n", "dos.txt": b"one\r\n2\r\n", "end": b"<|im_end|> </tool_call>"}


def git(directory, *arguments):
    return subprocess.run(["git", *arguments], cwd=directory, check=True, capture_output=True).stdout


@pytest.fixture
def repository(tmp_path):
    """A repository at `BEFORE`, and the patch that makes it `AFTER`."""
    directory = tmp_path / "repo"
    directory.mkdir()
    git(directory, "init", "-q")
    for content in (BEFORE, AFTER):
        for name, data in content.items():
            (directory / name).write_bytes(data)
        if content is BEFORE:
            git(directory, "add", ".")
    patch = git(directory, "diff").decode()
    git(directory, "checkout", "-q", ".")
    return directory, patch


@pytest.fixture
def record(repository):
    task = Task(id="o__r-1", repo="o/r", base_commit="c", problem_statement="p", image="i")
    key = AnswerKey(
        task_id=task.id,
        repo="o/r",
        version="1",
        gold_patch=repository[1],
        test_patch="",
        eval_script="",
        log_parser="",
        eval_type="",
        fail_to_pass=(),
        pass_to_pass=(),
    )
    return TaskRecord(task=task, key=key)


@pytest.fixture
def sandbox(repository, make_sandbox, host_run):
    """Commands run in the repository on the host; the patch that was written into the sandbox is put there first."""
    directory = repository[0]

    def handle(sandbox, command):
        for path, data in sandbox.files.items():
            (directory.parent / path.rpartition("/")[2]).write_bytes(data)
        return host_run(directory)(sandbox, command.replace("/tmp/", f"{directory.parent}/"))

    assert shutil.which("git")
    return make_sandbox(handle)


async def play(renderer, record, sandbox, policy):
    agent = NativeAgent(NativeConfig(), renderer)
    return await agent.run(record.task, sandbox, policy, sample=0, deadline=Deadline.after(60))


async def test_gold_applies_the_patch_and_submits(renderer, record, sandbox, repository):
    async with open_policy_factory("gold", renderer) as factory:
        trajectory = await play(renderer, record, sandbox, factory(record, 0))
    assert trajectory.stop is Stop.SUBMITTED
    assert trajectory.model == "gold"
    assert [call.exit_code for response in trajectory.responses for call in response.tool_calls] == [None, 0, None]
    for name, data in AFTER.items():
        assert (repository[0] / name).read_bytes() == data
    assert not (repository[0].parent / "gold.patch").exists(), "nothing is left behind"


async def test_noop_does_nothing(renderer, record, sandbox, repository):
    async with open_policy_factory("noop", renderer) as factory:
        trajectory = await play(renderer, record, sandbox, factory(record, 0))
    assert (trajectory.stop, len(trajectory.responses), sandbox.commands) == (Stop.SUBMITTED, 1, [])


async def test_a_replay_repeats_a_trajectory(renderer, record, sandbox, make_policy, make_sandbox):
    call = '<tool_call>{"name":"bash",  "arguments":{"command":"echo hi"}}</tool_call><|im_end|>'
    replies = ["<think>hm</think>" + call, "no call<|im_end|>", "cut off", "<tool_call>{</tool_call><|im_end|>", call]
    submit = '<tool_call>{"name": "submit", "arguments": {}}</tool_call><|im_end|>'
    original = await play(
        renderer, record, make_sandbox(), make_policy([*replies[:2], call, *replies[2:4], call, submit])
    )
    assert original.stop is Stop.SUBMITTED
    async with open_policy_factory("replay", renderer, replay_from={original.key: original}) as factory:
        again = await play(renderer, record, make_sandbox(), factory(record, 0))
    assert again.token_ids == original.token_ids
    assert [r.logprobs for r in again.responses] == [r.logprobs for r in original.responses]
    assert again.messages == original.messages
    assert (again.stop, again.model) == (original.stop, original.model)
