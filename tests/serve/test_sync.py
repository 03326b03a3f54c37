"""Whole weights for simulated servers: which of them an update needs, how long it may take, what files it leaves."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import asynccontextmanager

import pytest

torch = pytest.importorskip("torch", reason="needs the train extra")

from swe_aem.core.blocking import in_daemon_thread  # noqa: E402
from swe_aem.errors import PolicyError  # noqa: E402
from swe_aem.policy.vllm import VllmClientConfig, VllmPolicy  # noqa: E402
from swe_aem.serve.config import ServersConfig  # noqa: E402
from swe_aem.serve.connect import connect  # noqa: E402
from swe_aem.serve.sync import WeightSync  # noqa: E402
from swe_aem.serve.transport import (  # noqa: E402
    FileTransport,
    GlooTransport,
    NcclTransport,
    Parcel,
)
from swe_aem.testing.vllm import SimulatedVllm  # noqa: E402
from tests.waiting import until  # noqa: E402

pytestmark = pytest.mark.torch

WEIGHTS = {"layer.weight": torch.ones(2, 2)}


class Broadcast:
    """A broadcast that lasts `send_s`."""

    atomic = True
    again = False

    def __init__(self, send_s: float = 0.0) -> None:
        self._send_s = send_s

    async def open(self, controls, limit_s):
        pass

    def prepare(self, weights, version, label):
        return Parcel(label, version, {})

    def transmit(self, parcel):
        time.sleep(self._send_s)

    def settled(self, parcel, *, delivered):
        pass

    def close(self):
        pass


@asynccontextmanager
async def opened(transport, *servers, limit_s=5.0):
    config = VllmClientConfig(urls=tuple(server.url for server in servers), probe_s=0.05, patience_s=1.0)
    async with VllmPolicy(config) as policy:
        sync = WeightSync(policy, transport, limit_s=limit_s)
        await sync.open()
        yield policy, sync


async def test_a_broadcast_needs_every_server_and_names_the_one_that_is_out():
    async with SimulatedVllm() as one, SimulatedVllm() as two, opened(Broadcast(), one, two) as (policy, sync):
        await sync.update(WEIGHTS, 1)
        two.weights = "of another trainer"
        await until(lambda: policy.servers[1].out_reason is not None)
        with pytest.raises(PolicyError, match=f"needs every server.*{two.url}: it was restarted"):
            await sync.update(WEIGHTS, 2)
        assert one.weights.endswith(".1")


async def test_a_broadcast_waits_for_a_server_that_is_suspected_for_a_moment():
    async with SimulatedVllm() as one, SimulatedVllm() as two, opened(Broadcast(), one, two) as (policy, sync):
        policy.servers[1].suspect("one 500")
        await sync.update(WEIGHTS, 1)
        assert one.weights.endswith(".1")
        assert two.weights == one.weights


async def test_a_broadcast_that_nobody_takes_ends_at_the_limit():
    async with SimulatedVllm() as server, opened(Broadcast(send_s=1000), server, limit_s=0.3) as (_, sync):
        async with asyncio.timeout(5):
            with pytest.raises(PolicyError, match=r"sending the weights took more than 0\.3 s"):
                await sync.update(WEIGHTS, 1)


@pytest.mark.slow
def test_a_broadcast_that_hangs_keeps_no_process():
    lines = [
        "import asyncio, threading",
        "from swe_aem.core.blocking import in_daemon_thread",
        "asyncio.run(asyncio.wait_for(in_daemon_thread(threading.Event().wait), 0.1))",
    ]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stderr.rstrip().endswith("TimeoutError")


async def test_what_is_beside_hands_over_its_result_and_its_error():
    assert await in_daemon_thread(lambda: 3) == 3
    with pytest.raises(ZeroDivisionError):
        await in_daemon_thread(lambda: 1 / 0)


class Gate:
    """A place in blocking code that nobody passes before the event loop has run a hundred rounds beside it."""

    def __init__(self):
        self._reached = threading.Event()
        self._open = threading.Event()

    def passed(self):
        self._reached.set()
        assert self._open.wait(20), "the event loop stood still"

    async def beside(self, work):
        """Await the work, and open the gate meanwhile."""
        working = asyncio.create_task(work)
        while not self._reached.is_set() and not working.done():  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        for _ in range(100):
            await asyncio.sleep(0)
        assert not working.done()
        self._open.set()
        await working


class Gated(dict):
    """Weights that are read through a gate."""

    def __init__(self, gate):
        super().__init__(WEIGHTS)
        self._gate = gate

    def items(self):
        self._gate.passed()
        return super().items()


class Held:
    """A transport with a gate before one of its steps."""

    atomic = True
    again = False

    def __init__(self, gate, step):
        self._gate = gate
        self._step = step
        self.done = []

    def _do(self, step):
        if step == self._step:
            self._gate.passed()
        self.done.append(step)

    async def open(self, controls, limit_s):
        pass

    def prepare(self, weights, version, label):
        self._do("prepare")
        return Parcel(label, version, {})

    def transmit(self, parcel):
        self._do("transmit")

    def settled(self, parcel, *, delivered):
        self._do("settled")

    def close(self):
        pass


@pytest.mark.parametrize("transport", ["file", "gloo", "nccl"])
async def test_no_transport_casts_or_writes_in_the_event_loop(transport, tmp_path, monkeypatch):
    gate = Gate()
    made = {"file": FileTransport(tmp_path), "gloo": GlooTransport("here"), "nccl": NcclTransport("here")}[transport]
    if transport == "file":
        await made.open((), 1.0)
    else:
        monkeypatch.setattr(type(made), "transmit", lambda self, parcel: None)
    async with SimulatedVllm() as server, VllmPolicy(VllmClientConfig(urls=(server.url,))) as policy:
        await gate.beside(WeightSync(policy, made, limit_s=60.0).update(Gated(gate), 1))
        assert server.weights.endswith(".1")


@pytest.mark.parametrize("step", ["prepare", "transmit", "settled"])
async def test_nothing_that_a_transport_does_blocks_the_event_loop(step):
    gate = Gate()
    held = Held(gate, step)
    async with SimulatedVllm() as server, opened(held, server, limit_s=60.0) as (_, sync):
        await gate.beside(sync.update(WEIGHTS, 1))
    assert held.done == ["prepare", "transmit", "settled"]


async def test_a_sync_knows_the_version_that_it_has_delivered(tmp_path):
    async with SimulatedVllm() as server, connect(ServersConfig(urls=(server.url,)), tmp_path) as (_, sync):
        assert sync.version is None
        await sync.update(WEIGHTS, 3)
        assert sync.version == 3
        server.instead["/update_weights"] = (500, b"{}")
        with pytest.raises(PolicyError, match="no server loaded"):
            await sync.update(WEIGHTS, 4)
        assert sync.version == 3


async def test_two_runs_in_one_directory_leave_each_others_weights_alone(tmp_path):
    (tmp_path / "somebody's.safetensors").touch()
    one, two = FileTransport(tmp_path), FileTransport(tmp_path)
    parcels = []
    for version, transport in enumerate((one, two, one)):
        await transport.open((), 1.0)
        parcels.append(transport.prepare(WEIGHTS, version, f"v{version}"))
        transport.settled(parcels[-1], delivered=True)
    assert names(tmp_path, "**/*.safetensors") == ["somebody's.safetensors", "v1.safetensors", "v2.safetensors"]
    refused = two.prepare(WEIGHTS, 4, "v4")
    two.settled(refused, delivered=False)
    assert names(tmp_path, "**/*.safetensors") == ["somebody's.safetensors", "v1.safetensors", "v2.safetensors"]
    one.close()
    two.close()
    assert names(tmp_path, "*") == ["somebody's.safetensors"]


async def test_the_last_weights_go_with_the_run(tmp_path):
    async with SimulatedVllm() as server:
        async with connect(ServersConfig(urls=(server.url,)), tmp_path) as (_, sync):
            await sync.update(WEIGHTS, 1)
            assert len(names(tmp_path, "**/*.safetensors")) == 1
        assert names(tmp_path, "*") == []


async def test_the_next_start_removes_what_a_killed_run_left(tmp_path):
    lines = [
        "import pathlib, sys, time",
        "from swe_aem.serve.own_directory import OwnDirectory",
        "own = OwnDirectory(pathlib.Path(sys.argv[1]))",
        "(own.path / 'v1.safetensors').touch()",
        "print('there', flush=True)",
        "time.sleep(1000)",
    ]
    line = [sys.executable, "-c", "\n".join(lines), str(tmp_path)]
    with subprocess.Popen(line, stdout=subprocess.PIPE) as run:
        assert run.stdout is not None
        run.stdout.readline()
        living = FileTransport(tmp_path)
        await living.open((), 1.0)
        living.close()
        assert names(tmp_path, "**/*.safetensors") == ["v1.safetensors"]
        os.kill(run.pid, signal.SIGKILL)
    later = FileTransport(tmp_path)
    await later.open((), 1.0)
    assert names(tmp_path, "**/*.safetensors") == []
    later.close()
    assert names(tmp_path, "*") == []


def names(directory, pattern):
    return sorted(path.name for path in directory.glob(pattern))
