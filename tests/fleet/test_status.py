"""What `swe-aem cluster status` says of hosts, on an engine that is a fake."""

import pytest

from swe_aem.errors import UserError
from swe_aem.fleet.agent import NodeAgent
from swe_aem.fleet.status import look_at_hosts
from swe_aem.rollout import RolloutConfig
from swe_aem.testing.engine import FakeEngine
from swe_aem.testing.sandbox import FakeBackend


def missing(_: object) -> FakeBackend:
    raise UserError("bwrap is not installed")


def sound(*_: object, **__: object) -> str:
    return ""


def without_space(*_: object, **__: object) -> str:
    return "cache: /cache cannot be written (fix: set SWE_AEM_CACHE)"


def down(_: object) -> FakeBackend:
    backend = FakeBackend()
    backend.down = True
    return backend


@pytest.mark.parametrize(
    ("backend", "doctor", "problem"),
    [
        (lambda _: FakeBackend(), sound, ""),
        (missing, sound, "bwrap is not installed"),
        (down, sound, "its fake does not answer"),
        (lambda _: FakeBackend(), without_space, "`swe-aem doctor` fails there: cache: /cache cannot be written"),
    ],
)
async def test_a_host_without_what_sandboxes_need_is_not_ready(
    backend: object, doctor: object, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("swe_aem.fleet.host_work.open_backend", backend)
    monkeypatch.setattr("swe_aem.fleet.host_work.node_problem", doctor)
    engine = FakeEngine(lambda name: NodeAgent())
    engine.add("a")
    (one,) = await look_at_hosts(engine, RolloutConfig())
    assert problem in one.problem
    assert bool(one.problem) == bool(problem) == (one.size is None)
