"""The host's end of a worker process, without the process."""

import base64

import pytest

from swe_aem.core import Deadline, SandboxSpec
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
