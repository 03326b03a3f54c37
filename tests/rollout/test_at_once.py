"""How much runs at once where the settings do not say: the scarcest of what the host has decides."""

from typing import Any

import pytest

from swe_aem.core import Limits
from swe_aem.rollout import AtOnce, Host, RolloutConfig, config
from swe_aem.rollout.config import differences

GIB = 1 << 30
LARGE = Host(
    processors=192,
    memory_bytes=2000 * GIB,
    disk_bytes={"docker": 10_000 * GIB, "podman": 10_000 * GIB},
    open_files=1 << 20,
)


def on(host: Host, sandbox: str = "bubblewrap", limits: Limits | None = None, *, scripted: bool = False) -> AtOnce:
    return AtOnce.on(host, sandbox, limits or Limits(), scripted=scripted)


@pytest.mark.parametrize(
    ("changed", "sandbox", "concurrency", "reason"),
    [
        ({}, "bubblewrap", 512, "this process"),
        ({"processors": 2}, "bubblewrap", 8, "2 processors"),
        ({"memory_bytes": 20 * GIB}, "bubblewrap", 16 - 5, "20 GiB of free memory, at 1 GiB a sandbox"),
        ({"memory_bytes": 20 * GIB}, "docker", 32 - 10, "20 GiB of free memory, at 0.5 GiB a sandbox"),
        ({"disk_bytes": {"docker": 10 * GIB}}, "docker", 16 - 5, "10 GiB of free disk"),
        ({"open_files": 1024}, "bubblewrap", 96, "1024 open files"),
    ],
)
def test_the_scarcest_decides(changed: dict[str, Any], sandbox: str, concurrency: int, reason: str) -> None:
    found = on(LARGE._replace(**changed), sandbox)
    assert (found.concurrency, found.reason) == (concurrency, reason)


def test_something_runs_on_the_smallest_host() -> None:
    found = on(Host(processors=1, memory_bytes=GIB // 2, disk_bytes={}, open_files=100))
    assert (found.concurrency, found.starting, found.grading) == (1, 4, 1)


def test_scripts_never_wait_so_fewer_run_at_once() -> None:
    two = LARGE._replace(processors=2)
    assert on(two, scripted=True).concurrency == on(two).concurrency / 2 == 4


def test_limits_that_are_switched_off_count_as_the_usual_ones() -> None:
    host = LARGE._replace(memory_bytes=20 * GIB)
    assert on(host, limits=Limits(memory_bytes=None, disk_bytes=None)) == on(host)
    assert on(host, limits=Limits(memory_bytes=GIB, disk_bytes=GIB)).concurrency > on(host).concurrency


def test_of_sandboxes_elsewhere_nothing_is_derived(monkeypatch: pytest.MonkeyPatch) -> None:
    assert on(LARGE, "mine.py:Sandbox") == AtOnce(concurrency=4, starting=4, grading=2)
    monkeypatch.setenv("DOCKER_HOST", "tcp://10.0.0.1:2375")
    assert on(LARGE, "docker") == AtOnce(concurrency=4, starting=4, grading=2)
    assert on(LARGE, "docker").told(()) is None


def test_what_is_given_wins_and_only_the_rest_is_told() -> None:
    given = RolloutConfig.model_validate({"scheduling": {"concurrency": 7, "grading": 3}})
    assert (given.at_once.concurrency, given.at_once.grading) == (7, 3)
    told = given.at_once.told(given.scheduling.given_at_once)
    assert told is not None
    assert told.startswith(f"derived from this host: --starting {given.at_once.starting}; the scarcest is")
    assert given.at_once.told(("concurrency", "starting", "grading")) is None


def test_a_rerun_on_another_host_may_run_another_number_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    stored = RolloutConfig.model_validate_json(RolloutConfig().model_dump_json())
    monkeypatch.setattr(config, "this_host", lambda: LARGE)
    assert stored.at_once.concurrency == 2 * 192
    assert differences(stored, RolloutConfig()) == []
    assert differences(stored, RolloutConfig.model_validate({"scheduling": {"concurrency": 1}})) == []
