"""`StartGate`: the backend behind it."""

from swe_aem.core import SandboxSpec
from swe_aem.rollout.gate import StartGate
from swe_aem.testing.sandbox import FakeBackend


async def test_the_gate_shows_the_backend_behind_it() -> None:
    backend = FakeBackend()
    gate = StartGate(backend, starting=1, start_limit_s=1)
    async with gate.open(SandboxSpec(image="i")) as sandbox:
        assert [info.id for info in await gate.ls()] == [sandbox.id]
        assert await gate.prune(everything=True) == [sandbox.id]
    assert gate.name == "fake"
