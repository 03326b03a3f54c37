"""Whole weights for simulated servers: which of them an update needs, how long it may take, what files it leaves."""

import os
import pickle
import signal
import subprocess
import sys
import threading
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

torch = pytest.importorskip("torch", reason="needs the train extra")

from swe_aem.core.blocking import begin_in_daemon_thread, in_daemon_thread  # noqa: E402
from swe_aem.errors import PolicyError  # noqa: E402
from swe_aem.policy.vllm import VllmClientConfig, VllmPolicy  # noqa: E402
from swe_aem.serve.pieces import TensorInfo  # noqa: E402
from swe_aem.serve.planes import Parcel  # noqa: E402
from swe_aem.serve.sync import WeightSync  # noqa: E402
from swe_aem.serve.transport import FileTransport, GlooTransport  # noqa: E402
from swe_aem.testing.vllm import SimulatedVllm  # noqa: E402
from tests.serve.updating import Updating  # noqa: E402

pytestmark = pytest.mark.torch

WEIGHTS = {"layer.weight": torch.ones(2, 2)}


class Broadcast:
    """A broadcast of which each tensor is sent by `send`; `early` as files are."""

    def __init__(self, send=lambda tensor: None, *, early=False) -> None:
        self._send = send
        self.early = early
        self.settled_with = []

    def open(self, control):
        control.join([{} for _ in control.world_sizes()])

    def leave(self):
        pass

    def announce(self, tensors, version, tag):
        return Parcel(f"{tag}.{version}", version, {}, atomic=True, again=False)

    def transmit(self, parcel, tensors):
        for _, tensor in tensors:
            self._send(tensor)

    def settled(self, parcel, *, delivered):
        self.settled_with.append(delivered)

    def close(self):
        pass


@asynccontextmanager
async def opened(transport, *servers, limit_s=5.0):
    config = VllmClientConfig(urls=tuple(server.url for server in servers), probe_s=0.05, patience_s=1.0)
    async with VllmPolicy(config) as policy:
        updating = Updating(WeightSync(policy, limit_s=60.0), transport, tensor_limit_s=limit_s)
        await updating.open()
        yield policy, updating
        await updating.close()


@asynccontextmanager
async def by_file(directory, server):
    async with VllmPolicy(VllmClientConfig(urls=(server.url,))) as policy:
        updating = Updating(WeightSync(policy), FileTransport(directory))
        await updating.open()
        yield updating
        await updating.close()


def files(transport, version, *, delivered=True):
    """Send an update by files, as a `Sender` does; its directory."""
    parcel = transport.announce([TensorInfo.of(name, one) for name, one in WEIGHTS.items()], version, "tag")
    transport.transmit(parcel, iter(WEIGHTS.items()))
    transport.settled(parcel, delivered=delivered)


async def test_a_broadcast_waits_for_a_server_that_is_suspected_for_a_moment():
    async with SimulatedVllm() as one, SimulatedVllm() as two, opened(Broadcast(), one, two) as (policy, sync):
        policy.servers[1].suspect("one 500")
        await sync.update(WEIGHTS, 1)
        assert one.weights.endswith(".1")
        assert two.weights == one.weights


async def test_a_broadcast_that_nobody_takes_ends_at_the_limit():
    never = Broadcast(lambda tensor: threading.Event().wait())
    async with SimulatedVllm() as server, opened(never, server, limit_s=0.3) as (_, sync):
        with pytest.raises(PolicyError, match=r"one of the weights took more than 0\.3 s"):
            await sync.update(WEIGHTS, 1)


@pytest.mark.parametrize("early", [True, False])
async def test_the_trainers_iterator_is_read_to_its_end_whatever_becomes_of_the_tensors(early):
    """For the others that train take part in it."""
    read = []

    def tensors():
        for number in range(5):
            read.append(number)
            yield f"{number}", torch.ones(1)

    def refuse(tensor):
        raise OSError("the disk is full")

    broken = Broadcast(refuse, early=early)
    async with SimulatedVllm() as server, opened(broken, server) as (policy, sync):
        infos = [TensorInfo(f"{number}", "float32", (1,)) for number in range(5)]
        server.instead["/update_weights"] = (500, b"half of a broadcast")

        def work():
            sync.sender.begin(infos, 1)
            sync.sender.send(tensors())
            sync.sender.end()

        with pytest.raises(PolicyError, match="continue with the old"):
            await in_daemon_thread(work)
        assert read == [0, 1, 2, 3, 4]
        assert broken.settled_with == [False]
        assert policy.servers[0].out_reason is None
        broken._send = lambda tensor: None
        server.instead.clear()
        await sync.update(WEIGHTS, 2)
        assert server.weights.endswith(".2")


async def test_files_are_written_while_requests_are_answered():
    """Whatever takes long is done before servers stop."""
    steps = []
    early = Broadcast(lambda tensor: steps.append("written"), early=True)
    async with SimulatedVllm() as server, opened(early, server) as (policy, sync):
        post = policy.servers[0].control.post

        async def noted(path, *args, **given):
            steps.append(path)
            return await post(path, *args, **given)

        policy.servers[0].control.post = noted
        await sync.update(WEIGHTS, 1)
    assert steps[:2] == ["written", "/pause"]


async def test_parcels_and_errors_can_go_through_a_pipe(tmp_path):
    parcel = Parcel("tag.1", 1, {"names": ["a"]}, atomic=True, again=False)
    assert pickle.loads(pickle.dumps(parcel)) == parcel
    assert str(pickle.loads(pickle.dumps(PolicyError("gone")))) == "gone"


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


async def test_a_sync_knows_the_version_that_it_has_delivered(tmp_path):
    async with SimulatedVllm() as server, by_file(tmp_path, server) as updating:
        assert updating.sync.version is None
        await updating.update(WEIGHTS, 3)
        assert updating.sync.version == 3
        server.instead["/update_weights"] = (500, b"{}")
        with pytest.raises(PolicyError, match="no server loaded"):
            await updating.update(WEIGHTS, 4)
        assert updating.sync.version == 3


def test_two_runs_in_one_directory_leave_each_others_weights_alone(tmp_path):
    (tmp_path / "somebody's.safetensors").touch()
    one, two = FileTransport(tmp_path), FileTransport(tmp_path)
    for version, transport in enumerate((one, two, one)):
        transport.open(None)
        files(transport, version)
    assert sent(tmp_path) == ["tag.1", "tag.2"]
    files(two, 4, delivered=False)
    assert sent(tmp_path) == ["tag.1", "tag.2"]
    one.close()
    two.close()
    assert names(tmp_path, "*") == ["somebody's.safetensors"]


def test_weights_that_do_not_fit_are_refused_before_anything_is_written(tmp_path):
    transport = FileTransport(tmp_path)
    transport.open(None)
    with pytest.raises(PolicyError, match=r"GB free and these weights, .*: set servers\.directory to a larger one"):
        transport.announce([TensorInfo("a", "float32", (10**15,))], 1, "tag")
    assert sent(tmp_path) == []
    transport.close()


async def test_the_last_weights_go_with_the_run(tmp_path):
    async with SimulatedVllm() as server:
        async with by_file(tmp_path, server) as updating:
            await updating.update(WEIGHTS, 1)
            assert len(sent(tmp_path)) == 1
        assert names(tmp_path, "*") == []


def test_the_next_start_removes_what_a_killed_run_left(tmp_path):
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
        living.open(None)
        living.close()
        assert names(tmp_path, "**/*.safetensors") == ["v1.safetensors"]
        os.kill(run.pid, signal.SIGKILL)
    later = FileTransport(tmp_path)
    later.open(None)
    assert names(tmp_path, "**/*.safetensors") == []
    later.close()
    assert names(tmp_path, "*") == []


def sent(directory):
    """Directories of updates, whole or not."""
    return names(directory, "weights-*/*")


def names(directory, pattern):
    return sorted(path.name for path in directory.glob(pattern))


class Receiver:
    """The worker of one server, in a thread, which joins the trainer's group as the plugin's does."""

    def world_sizes(self):
        return (1,)

    def join(self, init_infos):
        from torch.distributed import ProcessGroupGloo, TCPStore

        (info,) = init_infos
        limit = timedelta(seconds=60)
        store = TCPStore(info["host"], info["port"], info["world_size"], False, limit)
        self._group = ProcessGroupGloo(store, info["rank_offset"], info["world_size"], limit)

    def receive(self):
        """Wait for a broadcast in a thread; what came of it."""
        from torch.distributed import BroadcastOptions

        options = BroadcastOptions()
        options.rootRank = 0
        packed = torch.zeros(16, dtype=torch.uint8)
        return begin_in_daemon_thread(lambda: (self._group.broadcast([packed], options).wait(), packed)[1])


@pytest.mark.slow
def test_servers_that_wait_for_tensors_stop_when_the_trainer_leaves_the_group_and_join_the_next_one():
    transport, receiver = GlooTransport("127.0.0.1", 60.0), Receiver()
    transport.open(receiver)
    waiting = receiver.receive()
    transport.leave()
    with pytest.raises(RuntimeError, match=r"[Cc]onnection"):
        waiting.result(50)
    transport.open(receiver)
    waiting = receiver.receive()
    parcel = transport.announce([TensorInfo.of(name, one) for name, one in WEIGHTS.items()], 1, "tag")
    transport.transmit(parcel, iter(WEIGHTS.items()))
    assert torch.equal(waiting.result(50).view(torch.float32).view(2, 2), WEIGHTS["layer.weight"])
