"""Faults of a real server: what the policy says, what recovers, and what is left behind."""

import asyncio
import os
import re
import signal
from pathlib import Path

import pytest

from swe_aem.core import SamplingParams
from swe_aem.errors import PolicyError
from swe_aem.policy.errors import NothingSampled
from swe_aem.policy.vllm import VllmClientConfig, VllmPolicy
from swe_aem.serve.guard import members
from swe_aem.serve.sync import WeightSync
from swe_aem.serve.transport import FileTransport, GlooTransport
from tests.serve.updating import Updating

pytestmark = [
    pytest.mark.vllm, pytest.mark.torch, pytest.mark.slow, pytest.mark.timeout(500), pytest.mark.contract(vllm=True)
]  # fmt: skip

PROMPT = list(range(20, 320))
QUICK = {"probe_s": 0.3, "probe_limit_s": 2.0, "probes_until_down": 2, "patience_s": 20.0, "stall_s": 3.0}


def params():
    return SamplingParams(max_tokens=16, seed=4)


def quick(url, **changes):
    return VllmPolicy(VllmClientConfig(urls=(url,), **(QUICK | changes)))


async def ask(policy):
    return await policy.sample(PROMPT, params(), trajectory_id="a")


async def errors(agents):
    """What each of them met, in words."""
    ended = await agents.ended()
    assert {type(one) for one in ended} <= {PolicyError, NothingSampled}
    return [str(one) for one in ended]


def group_of(server):
    """(process group, API server, engine) of a `Served`."""
    guard = server._process.pid
    children = Path(f"/proc/{guard}/task/{guard}/children").read_text().split()
    group = int(children[0])
    engine = next(pid for pid in members(group) if "EngineCore" in Path(f"/proc/{pid}/cmdline").read_text())
    return group, group, engine


def shared():
    return set(os.listdir("/dev/shm"))


async def test_broadcast_stalled_and_killed(serve, other, logprobs_of, agents):
    """One server's life: weights over TCP; an engine that hangs, and comes back; an API server that is killed."""
    before = shared()
    with serve(sync="gloo") as server:
        server.wait_ready(lambda line: None, 400)
        group, api, engine = group_of(server)
        async with quick(server.config.url) as policy:
            sync = Updating(WeightSync(policy, limit_s=60), GlooTransport("127.0.0.1", 60))
            await sync.open()
            for version in (1, 2):
                changed = other(version)
                await sync.update(changed.state_dict(), version)
                completion = await ask(policy)
                assert completion.version == version
                exact = logprobs_of(changed, PROMPT, completion.token_ids)
                assert exact == pytest.approx(completion.logprobs, abs=1e-4)

            several = agents(policy)
            await several.generating()
            os.kill(engine, signal.SIGSTOP)
            assert all("given up" in error for error in await errors(several))
            os.kill(engine, signal.SIGCONT)
            assert (await ask(policy)).version == 2

            several = agents(policy)
            await several.generating()
            os.kill(api, signal.SIGKILL)
            said = await errors(several)
            assert any(re.search("the request to .* failed|given up", error) for error in said)
            assert all(
                re.search("the request to .* failed|given up|no server for|cannot connect", error) for error in said
            )
            with pytest.raises(PolicyError, match=r"no server for|cannot connect"):
                await ask(policy)
    assert members(group) == []
    assert shared() <= before


@pytest.mark.nightly
async def test_a_supervisor_that_is_killed_leaves_nothing(serve):
    """The guard's pipe closes, as it does when whoever holds it is killed."""
    before = shared()
    server = serve(sync="none").__enter__()
    try:
        for _ in range(200):
            children = Path(f"/proc/{server._process.pid}/task/{server._process.pid}/children").read_text().split()
            if children and len(members(int(children[0]))) > 1:
                break
            await asyncio.sleep(0.2)
        group = int(children[0])
        server._process.stdin.close()
        server._process.wait(40)
        assert members(group) == []
        assert shared() <= before
    finally:
        server.__exit__(None, None, None)


async def test_weights_that_someone_else_replaced(vllm_url, model, other, tmp_path, logprobs_of):
    """As after a restart: without a way to send them again the policy stops, with the cause; by file it recovers."""
    async with quick(vllm_url, patience_s=2) as policy:
        sync = Updating(WeightSync(policy), FileTransport(tmp_path / "ours"))
        await sync.open()
        await sync.update(model.state_dict(), 1)
        policy.repair = None
        async with quick(vllm_url) as intruder:
            theirs = Updating(WeightSync(intruder), FileTransport(tmp_path / "theirs"))
            await theirs.open()
            await theirs.update(other(1).state_dict(), 9)
            await theirs.close()
        async with asyncio.timeout(60):
            while policy.servers[0].out_reason is None:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        with pytest.raises(PolicyError, match="restarted with other weights"):
            await ask(policy)
        await sync.sync.open()
        completion = await ask(policy)
        assert completion.version == 1
        assert logprobs_of(model, PROMPT, completion.token_ids) == pytest.approx(completion.logprobs, abs=1e-4)
        await sync.close()
