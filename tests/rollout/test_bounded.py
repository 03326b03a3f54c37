"""Waits that end by a deadline."""

import asyncio

import pytest

from swe_aem.core import Deadline, SandboxSpec
from swe_aem.errors import StartError
from swe_aem.rollout.bounded import bounded
from swe_aem.rollout.gate import Gate
from swe_aem.testing.sandbox import FakeBackend


async def test_what_takes_too_long_is_named() -> None:
    with pytest.raises(StartError, match=r"starting took longer than 0\.0 s"):
        async with bounded("starting", Deadline.after(0.01), StartError):
            await asyncio.sleep(10)


async def test_an_expired_deadline_does_not_let_the_body_wait() -> None:
    with pytest.raises(StartError):
        async with bounded("starting", Deadline.after(-1), StartError):
            await asyncio.sleep(10)


async def test_a_timeout_of_the_body_itself_is_not_ours() -> None:
    with pytest.raises(TimeoutError, match="somebody else's"):
        async with bounded("working", Deadline.after(10)):
            raise TimeoutError("somebody else's")


async def test_the_gate_shows_the_backend_behind_it() -> None:
    backend = FakeBackend()
    gate = Gate(backend, starting=1, start_limit_s=1)
    async with gate.open(SandboxSpec(image="i")) as sandbox:
        assert [info.id for info in await gate.ls()] == [sandbox.id]
        assert await gate.prune(everything=True) == [sandbox.id]
    assert gate.name == "fake"
