"""Servers that are kept running: a stand-in for vLLM behind the product's own supervisor and guard."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from swe_aem.serve import ServeCommandConfig, healthy
from swe_aem.train.launch import servers
from swe_aem.train.launch.servers import KeptServer
from tests.conftest import free_port

STAND_IN = Path(__file__).with_name("stand_in.py")
START_LIMIT_S = 120.0


def wait_for(found: Callable[[], bool]) -> None:
    """Return once it is so."""
    end_s = time.monotonic() + START_LIMIT_S
    while not found():
        assert time.monotonic() < end_s
        time.sleep(0.02)


def alive(pid: int) -> bool:
    """Does the process run?"""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class Kept:
    """A kept server and the processes that it has had."""

    def __init__(self, place: Path) -> None:
        self.pids_file = place / "pids"
        self.logs = place / "serve"

    def server(self, start_limit_s: float = START_LIMIT_S) -> KeptServer:
        config = ServeCommandConfig(model="m", port=free_port(), program=str(STAND_IN))
        return KeptServer(config, self.logs, start_limit_s)

    @property
    def pids(self) -> list[int]:
        return [int(line) for line in self.pids_file.read_text().split()] if self.pids_file.exists() else []


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kept]:
    made = Kept(tmp_path)
    monkeypatch.setenv("PIDS", str(made.pids_file))
    monkeypatch.setattr(servers, "_PAUSE_S", 0.0)
    yield made
    wait_for(lambda: not any(map(alive, made.pids)))


def test_a_server_that_is_killed_is_started_again_at_the_same_url(kept: Kept) -> None:
    server = kept.server()
    server.start()
    try:
        assert server.ready.wait(START_LIMIT_S)
        os.kill(kept.pids[0], signal.SIGKILL)
        wait_for(lambda: len(kept.pids) == 2 and healthy(server.url))
    finally:
        server.end()
    assert server.error is None
    port = server.url.rpartition(":")[2]
    assert {path.name for path in kept.logs.iterdir()} == {f"vllm-{port}.log", f"vllm-{port}.log.1"}
    assert not healthy(server.url)


def test_a_server_that_fails_at_its_first_start_says_why_and_where(kept: Kept) -> None:
    kept.pids_file.with_suffix(".broken").touch()
    server = kept.server()
    server.start()
    wait_for(lambda: server.error is not None)
    server.end()
    assert f"ValueError: no such model (full log: {kept.logs}/vllm-" in str(server.error)
    assert len(kept.pids) == 1


def test_a_server_that_does_not_answer_within_the_limit_says_so(kept: Kept) -> None:
    kept.pids_file.with_suffix(".mute").touch()
    server = kept.server(start_limit_s=0.1)
    server.start()
    wait_for(lambda: server.error is not None)
    server.end()
    assert f"is not ready after 0 s, still importing; its log is {kept.logs}/vllm-" in str(server.error)


def test_a_server_that_has_worked_gets_three_starts_before_it_is_given_up(kept: Kept) -> None:
    server = kept.server()
    server.start()
    assert server.ready.wait(START_LIMIT_S)
    kept.pids_file.with_suffix(".broken").touch()
    os.kill(kept.pids[0], signal.SIGKILL)
    wait_for(lambda: server.error is not None)
    server.end()
    assert len(kept.pids) == 1 + 3
    assert "ValueError: no such model" in str(server.error)


def test_a_server_can_be_ended_while_it_starts(kept: Kept) -> None:
    kept.pids_file.with_suffix(".mute").touch()
    server = kept.server()
    server.start()
    wait_for(lambda: bool(kept.pids))
    server.end()
    assert server.error is None
    assert not server.ready.is_set()
