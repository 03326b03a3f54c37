"""Rollouts in a process of their own: whatever is killed, the same rows come, and nothing is left behind."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from swe_aem.core.owner import start_ticks
from swe_aem.errors import ExtensionFailed, RunAborted, UserError
from swe_aem.sandbox.roots import state_dir
from swe_aem.serve.planes import Parcel
from swe_aem.store import Store
from swe_aem.testing.tagging_vllm import FakeTaggingVllm
from swe_aem.testing.vllm import SimulatedVllm
from swe_aem.train import rollout_process
from swe_aem.train.config import read_config
from swe_aem.train.lost import RolloutsLost, unless_lost
from swe_aem.train.rollout_child import RolloutChild
from swe_aem.train.rollout_messages import Opening, pickled_error, read_error
from swe_aem.train.rollout_process import RolloutProcess, objects_here, open_rollouts, share_cores
from tests.train.rollouts import configuration, no_model

QUICKSTART = Path("configs/quickstart.yaml")
_LIMIT_S = 120.0
_STOP = 697
"""The end of a turn in the tokenizer of the quickstart."""


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """An event loop in a thread, in which servers run."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@pytest.fixture
def server(loop: asyncio.AbstractEventLoop) -> Iterator[SimulatedVllm]:
    """A server in a thread."""
    with running(SimulatedVllm(tokens=lambda body: [100, 101, 102, _STOP]), loop) as server:
        yield server


@contextmanager
def running(server: Any, loop: asyncio.AbstractEventLoop) -> Iterator[Any]:
    def wait(work: Any) -> None:
        asyncio.run_coroutine_threadsafe(work, loop).result(_LIMIT_S)

    wait(server.__aenter__())
    try:
        yield server
    finally:
        wait(server.__aexit__())


def until(condition: Callable[[], Any]) -> None:
    """Wait for it."""
    end_s = time.monotonic() + _LIMIT_S
    while not condition():
        assert time.monotonic() < end_s, "waited in vain"
        time.sleep(0.02)


def stored(out: Path) -> dict[str, Any]:
    return {one.id: one for one in Store(out / "rollouts").trajectories()}


def answers_but_one(server: SimulatedVllm) -> None:
    """Of the requests that come, one is never answered."""
    seeds: list[int] = []

    def latency_s(body: dict[str, Any]) -> float:
        seeds.append(body["seed"])
        return 1e6 if body["seed"] == seeds[0] else 0.0

    server._latency_s = latency_s


def answers_all(server: SimulatedVllm) -> None:
    server._latency_s = lambda body: 0.0


def sandboxes_of(pid: int) -> list[str]:
    """Sandboxes whose entry names that process as owner."""
    entries = (path.read_text() for path in state_dir().glob("*/entry.json"))
    return [entry for entry in entries if json.loads(entry)["lease"]["owner"]["pid"] == pid]


@pytest.mark.slow
@pytest.mark.bubblewrap
def test_a_process_that_is_killed_in_a_step_is_replaced_and_the_step_has_its_rows(
    server: SimulatedVllm, tmp_path: Path, require_bubblewrap: None, capfd: pytest.CaptureFixture[str]
) -> None:
    answers_but_one(server)
    with (
        RolloutProcess(configuration(server.url), tmp_path, no_model) as rollouts,
        ThreadPoolExecutor() as threads,
    ):
        assert rollouts.wants_weights(1)
        parcel = Parcel(label="a.0", version=0, update_info={"path": "x"}, atomic=True, again=True)
        rollouts.control.begin(parcel)
        rollouts.control.end(None)
        assert server.weights == "a.0"
        assert not rollouts.wants_weights(1)
        step = threads.submit(rollouts.step, 1)
        until(lambda: len(stored(tmp_path)) == 3)
        known, first_pid = stored(tmp_path), rollouts.pid
        os.kill(first_pid, signal.SIGKILL)
        with pytest.raises(RolloutsLost, match="was ended by SIGKILL"):
            step.result(_LIMIT_S)
        with pytest.raises(RolloutsLost):
            rollouts.control.end(None)
        answers_all(server)
        assert rollouts.wants_weights(1), "nobody knows what the servers have"
        assert rollouts.pid != first_pid
        rollouts.control.begin(parcel)
        rollouts.control.end(None)
        (group,) = rollouts.step(1).groups
        assert [one.sample for one in group] == [0, 1, 2, 3]
        assert {response.version for one in group for response in one.responses} == {0}
        assert {id: one for id, one in stored(tmp_path).items() if id in known} == known
    assert "another one resumes them from the store" in capfd.readouterr().err
    assert start_ticks(rollouts.pid) is None
    assert not sandboxes_of(rollouts.pid)


@pytest.mark.nightly
@pytest.mark.slow
@pytest.mark.bubblewrap
@pytest.mark.torch
def test_a_process_that_is_lost_in_the_middle_of_a_broadcast_leaves_no_server_that_waits(
    loop: asyncio.AbstractEventLoop, tmp_path: Path, require_bubblewrap: None
) -> None:
    """First between begin and end, then as servers begin to receive; the update after that brings the right weights."""
    torch = pytest.importorskip("torch", reason="needs the train extra")
    from swe_aem.serve.pieces import TensorInfo
    from swe_aem.serve.sender import Sender
    from tests.serve.tagged import Broadcast

    fake, weight = FakeTaggingVllm(), torch.ones(2)
    with (
        running(fake, loop),
        RolloutProcess(configuration(fake.url), tmp_path, no_model) as rollouts,
        ThreadPoolExecutor() as threads,
    ):
        sender = Sender(Broadcast([fake], loop), rollouts.control)
        sender.open()

        def begin() -> None:
            assert rollouts.wants_weights(1)
            sender.begin([TensorInfo.of("w", weight)], 0)

        begin()
        os.kill(rollouts.pid, signal.SIGKILL)
        sender.send([("w", weight)])
        with pytest.raises(RolloutsLost, match="was ended by SIGKILL"):
            sender.end()
        until(lambda: fake._version == 0)
        assert (fake.weights, fake._paused) == ("default", True), "nobody has said that the update ended"

        calls: list[str] = []
        done = fake._done

        async def held(path: str, query: str, body: bytes) -> Any:
            calls.append(path)
            if path == "/start_weight_update":
                await asyncio.Event().wait()
            return await done(path, query, body)

        fake._done = held
        begun = threads.submit(begin)
        until(lambda: "/start_weight_update" in calls)
        os.kill(rollouts.pid, signal.SIGKILL)
        with pytest.raises(RolloutsLost, match="was ended by SIGKILL"):
            begun.result(_LIMIT_S)
        fake._done = done

        begin()
        sender.send([("w", weight)])
        sender.end()
        assert fake.weights.endswith(".0")
        assert (fake._version, fake._paused, fake.updating) == (0, False, False)
        assert not rollouts.wants_weights(1)
    assert fake.faults == []


@pytest.mark.slow
@pytest.mark.bubblewrap
def test_nothing_outlives_a_trainer_that_is_killed(
    server: SimulatedVllm, tmp_path: Path, require_bubblewrap: None
) -> None:
    answers_but_one(server)
    command = [sys.executable, "-m", "tests.train.rollouts", server.url, str(tmp_path)]
    trainer = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert trainer.stdout is not None
    pid = int(trainer.stdout.readline())
    until(lambda: len(stored(tmp_path)) == 3)
    assert sandboxes_of(pid)
    trainer.kill()
    trainer.wait()
    answers_all(server)
    with RolloutProcess(configuration(server.url), tmp_path, no_model) as rollouts:
        assert start_ticks(pid) is None or not sandboxes_of(pid), "the rerun has waited for the store"
        assert len(rollouts.step(1).groups[0]) == 4
    until(lambda: start_ticks(pid) is None)
    assert not sandboxes_of(pid)


def test_processes_that_end_again_and_again_end_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(RolloutChild):
        def __init__(self) -> None:
            super().__init__()
            os.kill(self.pid, signal.SIGKILL)

    monkeypatch.setattr(rollout_process, "RolloutChild", Killed)
    rollouts = RolloutProcess(configuration("http://x"), tmp_path, no_model)
    with pytest.raises(RunAborted, match="the process of the rollouts was ended by SIGKILL"):
        rollouts.__enter__()
    with pytest.raises(RunAborted, match=r"3 processes of rollouts .* the last one was ended by SIGKILL"):
        rollouts.wants_weights(1)
    rollouts.__exit__()
    early = Killed()
    early.begin_to_open(Opening(configuration("http://x"), tmp_path, (), None))
    with pytest.raises(RunAborted, match=r"3 processes of rollouts .* the last one was ended by SIGKILL"):
        RolloutProcess(configuration("http://x"), tmp_path, no_model, child=early).__enter__()


def test_an_error_of_the_process_comes_as_it_is(tmp_path: Path) -> None:
    with (
        pytest.raises(UserError, match=r"no completions server at http://127.0.0.1:9") as raised,
        RolloutProcess(configuration("http://127.0.0.1:9"), tmp_path, no_model),
    ):
        pass
    assert "in the process of the rollouts: Traceback" in raised.value.__notes__[0]


class Odd(Exception):
    """An exception that cannot be pickled."""

    def __init__(self) -> None:
        super().__init__("odd")
        self.held = threading.Lock()


@pytest.mark.parametrize(("cause", "comes"), [(KeyError("key"), KeyError), (Odd(), RuntimeError), (None, None)])
def test_errors_keep_their_type_and_cause(cause: Exception | None, comes: type | None) -> None:
    try:
        raise ExtensionFailed("reward: it raised") from cause
    except ExtensionFailed as error:
        read = read_error(pickled_error(error))
    assert (type(read), str(read)) == (ExtensionFailed, "reward: it raised")
    assert "raise ExtensionFailed" in read.__notes__[0]
    assert type(read.__cause__) is (comes or type(None))


STALE = ("max_staleness=1", "importance_sampling={mode: truncate, high: 2}")


@pytest.mark.parametrize(
    ("cores", "threads", "changes", "left"),
    [
        (2, 2, STALE, 1),
        (16, 16, STALE, 8),
        (16, 4, STALE, 4),
        (1, 1, STALE, 1),
        (16, 16, (), 16),
        (16, 16, (*STALE, "servers.urls=['http://127.0.0.1:1']"), 16),
    ],
)
def test_a_trainer_beside_a_sampler_takes_half_of_the_cores(
    monkeypatch: pytest.MonkeyPatch, cores: int, threads: int, changes: tuple[str, ...], left: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(cores)))
    monkeypatch.setattr("torch.get_num_threads", lambda: threads)
    now = [threads]
    monkeypatch.setattr("torch.set_num_threads", lambda number: now.append(number))
    share_cores(read_config(Path("configs/quickstart.yaml"), changes))
    assert now[-1] == left


def test_what_is_lost_is_none() -> None:
    def lose() -> int:
        raise RolloutsLost("gone")

    assert unless_lost(lose) is None
    assert unless_lost(lambda: 3) == 3


def of_this_module(inputs: Any) -> float:
    """A reward that another process can import."""
    return 1.0


def test_objects_of_this_process_alone_are_called_in_a_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from swe_aem.reward import setting_of
    from swe_aem.train import rollout_worker

    def half(inputs: Any) -> float:
        return 0.5

    @contextmanager
    def worker(*_: Any) -> Iterator[str]:
        yield "in a thread"

    monkeypatch.setattr(rollout_worker, "RolloutWorker", worker)
    config = read_config(QUICKSTART, options={"rollout.reward": setting_of(half)})
    (name,) = objects_here(config)
    with open_rollouts(config, tmp_path, no_model) as rollouts:
        assert rollouts == "in a thread"
    assert f"no other process can import {name}" in capsys.readouterr().err
    for importable in (setting_of(of_this_module), "fraction", "my/file.py:reward"):
        assert not objects_here(read_config(QUICKSTART, options={"rollout.reward": importable}))
