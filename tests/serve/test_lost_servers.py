"""Servers that are killed in the middle of an update, at each of its phases."""

import asyncio

import pytest

torch = pytest.importorskip("torch", reason="needs the train extra")

from swe_aem.errors import PolicyError  # noqa: E402
from swe_aem.testing.tagging_vllm import FakeTaggingVllm  # noqa: E402
from tests.serve.tagged import PHASES, WEIGHTS, Broadcast, Trajectories, check_against_servers, opened  # noqa: E402
from tests.waiting import until  # noqa: E402

pytestmark = pytest.mark.torch


async def returns(policy, fakes, number, version):
    """The server is put back into rotation, with the weights of that version."""
    await until(lambda: policy.servers[number].out_reason is None)
    assert fakes[number]._version == version


def phases(chosen):
    """These phases always, the others nightly."""
    return [phase if phase in chosen else pytest.param(phase, marks=pytest.mark.nightly) for phase in PHASES]


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("in_flight", ["interrupt", pytest.param("drain", marks=pytest.mark.nightly)])
async def test_an_update_goes_on_without_a_server_that_is_killed_which_is_repaired_when_it_is_back(
    tmp_path, phase, in_flight
):
    fakes = [FakeTaggingVllm(), FakeTaggingVllm()]
    async with opened(fakes, tmp_path, in_flight=in_flight) as (policy, sync):
        trajectories = Trajectories(policy, seed=3)
        working = asyncio.create_task(trajectories.run(6))
        await until(lambda: len(trajectories.answered) > 5)
        fakes[0].dies_at = phase
        await sync.update(WEIGHTS, 2)
        assert fakes[1]._version == 2
        assert not fakes[0].lives
        await until(lambda: policy.servers[0].out_reason)
        await fakes[0].restart()
        await returns(policy, fakes, 0, 2)
        trajectories.enough.set()
        await working
        check_against_servers(trajectories.answered, fakes)
    assert [fake.faults for fake in fakes] == [[], []]


@pytest.mark.parametrize("phase", [*phases(("/start_weight_update+", "/update_weights")), "while tensors are sent"])
async def test_a_broadcast_goes_on_in_a_group_of_those_that_live_and_takes_in_who_is_back(tmp_path, phase):
    fakes = [FakeTaggingVllm(), FakeTaggingVllm()]
    broadcast = Broadcast(fakes, asyncio.get_running_loop())
    async with opened(fakes, tmp_path, transport=broadcast) as (policy, sync):
        trajectories = Trajectories(policy, seed=4)
        working = asyncio.create_task(trajectories.run(6))
        await until(lambda: len(trajectories.answered) > 5)
        if phase in PHASES:
            fakes[0].dies_at = phase
        else:
            broadcast.dies = fakes[0]
        await sync.update(WEIGHTS, 2)
        assert fakes[1]._version == 2
        await until(lambda: policy.servers[0].out_reason)
        await fakes[0].restart()
        await until(lambda: policy.servers[0].takes_weights)
        assert "restarted with other weights" in str(policy.servers[0].out_reason), "nobody can send it any yet"
        await sync.update(WEIGHTS, 3)
        await returns(policy, fakes, 0, 3)
        groups = broadcast.groups
        await sync.update(WEIGHTS, 4)
        assert broadcast.groups == groups, "a group that is whole is kept"
        trajectories.enough.set()
        await working
        check_against_servers(trajectories.answered, fakes)
    assert [fake.faults for fake in fakes] == [[], []]


@pytest.mark.parametrize("phase", phases(("/pause", "/update_weights"))[:-2])
async def test_an_update_waits_for_the_only_server_and_ends_when_it_is_back(tmp_path, phase, capsys):
    async with opened([fake := FakeTaggingVllm()], tmp_path) as (policy, sync):
        fake.dies_at = phase
        updating = asyncio.create_task(sync.update(WEIGHTS, 2))
        await until(lambda: not fake.lives)
        await until(lambda: "can take the weights of 2 steps" in capsys.readouterr().err)
        assert not updating.done()
        await fake.restart()
        await updating
        assert fake._version == 2
        await returns(policy, [fake], 0, 2)


@pytest.mark.parametrize("broadcasts", [False, True])
async def test_an_update_without_any_server_ends_after_the_patience_of_requests_and_names_the_fix(tmp_path, broadcasts):
    fakes = [FakeTaggingVllm(), FakeTaggingVllm()]
    transport = Broadcast(fakes, asyncio.get_running_loop()) if broadcasts else None
    async with opened(fakes, tmp_path, transport=transport, patience_s=0.3) as (_, sync):
        for fake in fakes:
            fake.dies_at = "/update_weights"
        with pytest.raises(PolicyError, match=r"no server that can .* for 0\.3 s: .*set servers\.patience_s") as raised:
            await sync.update(WEIGHTS, 2)
        assert all(fake.url in str(raised.value) for fake in fakes)
