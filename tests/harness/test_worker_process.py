"""The host's end of a worker process, without the process."""

import base64
from typing import Any

import pytest

from swe_aem.core import Deadline, ExecResult, SandboxSpec
from swe_aem.errors import HarnessError
from swe_aem.harness.worker_process import HostConversation
from swe_aem.testing.sandbox import FakeSandbox

WRITE = {"path": "/a", "data": base64.b64encode(b"x").decode()}


async def test_an_unknown_file_operation_writes_nothing() -> None:
    sandbox = FakeSandbox("fake", SandboxSpec(image="i"))
    conversation = HostConversation(sandbox, Deadline.after(60))
    with pytest.raises(HarnessError, match="no method 'append_file': it has run, read_file and write_file"):
        await conversation.answer("append_file", WRITE)
    assert sandbox.files == {}
    await conversation.answer("write_file", WRITE)
    assert sandbox.files == {"/a": b"x"}


@pytest.mark.parametrize(("inside", "limit_s"), [(False, 60.0), (True, 5000.0)])
async def test_a_command_has_the_time_that_is_left_unless_it_is_the_agent(inside: bool, limit_s: float) -> None:
    asked: dict[str, float] = {}

    class Noting(FakeSandbox):
        async def run(self, command: str, **options: Any) -> ExecResult:
            asked.update(options)
            return await super().run(command, **options)

    sandbox = Noting("fake", SandboxSpec(image="i"), lambda sandbox, command: (0, b""))
    conversation = HostConversation(sandbox, Deadline.after(60, lambda: 0.0), inside=inside)
    await conversation.answer("run", {"command": "ls", "timeout_s": 5000.0})
    assert asked == {"timeout_s": limit_s, "wall_s": 10 * limit_s}
