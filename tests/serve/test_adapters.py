"""Adapters on a simulated server, under looks that fall between everything that an update does."""

import asyncio
from contextlib import AsyncExitStack
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch", reason="needs the train extra")

from swe_aem.core import SamplingParams  # noqa: E402
from swe_aem.policy.vllm import VllmClientConfig, VllmPolicy  # noqa: E402
from swe_aem.serve.adapter_sync import AdapterSync  # noqa: E402
from swe_aem.serve.transport import AdapterTransport  # noqa: E402
from swe_aem.testing.vllm import SimulatedVllm  # noqa: E402
from tests.serve.updating import Updating  # noqa: E402
from tests.waiting import until  # noqa: E402

pytestmark = pytest.mark.torch

WEIGHTS = {"base_model.layers.0.lora_A.default.weight": torch.ones(2, 2)}


async def test_an_update_after_a_restart_needs_no_old_adapter(tmp_path):
    """A server that was restarted is given the latest adapter, and cannot unload the one before."""
    async with SimulatedVllm() as server, VllmPolicy(VllmClientConfig(urls=(server.url,), probe_s=0.02)) as policy:
        adapters = Updating(AdapterSync(policy), AdapterTransport(tmp_path, SimpleNamespace(to_dict=lambda: {})))
        await adapters.open()
        for version in (1, 2):
            await adapters.update(WEIGHTS, version)
        server.adapters.clear()
        await until(lambda: server.adapters)
        await adapters.update(WEIGHTS, 3)
        assert [name.rpartition("-")[2] for name in server.adapters] == ["v2", "v3"]


async def test_a_look_during_an_update_finds_no_fault(tmp_path):
    """What a look found before an adapter was loaded says nothing about what the server has to serve afterwards."""
    server = SimulatedVllm(latency_s=lambda body: 0.5)
    async with server, AsyncExitStack() as stack:
        config = VllmClientConfig(urls=(server.url,), probe_s=0.01)
        policy = await stack.enter_async_context(VllmPolicy(config))
        control = policy.servers[0].control
        look = control.served_model

        async def slow_look():
            found = await look()
            await asyncio.sleep(0.05)
            return found

        control.served_model = slow_look
        adapters = Updating(AdapterSync(policy), AdapterTransport(tmp_path, SimpleNamespace(to_dict=lambda: {})))
        await adapters.open()
        for version in (1, 2, 3):
            asked = asyncio.create_task(
                policy.sample([1, 2], SamplingParams(max_tokens=16, stop_token_ids=(258,)), trajectory_id="a")
            )
            await asyncio.sleep(0.1)
            await adapters.update(WEIGHTS, version)
            assert policy.servers[0].out_reason is None
            assert (await asked).version == version - 1
        assert [name.rpartition("-")[2] for name in server.adapters] == ["v2", "v3"]
