"""What keeps this process from a Ray cluster is one line; a cluster itself is in tests/e2e/test_fleet.py."""

import asyncio
import socket
from typing import Any

import pytest

from swe_aem.errors import ExtensionFailed, UserError
from swe_aem.fleet import engine_at
from swe_aem.fleet.messages import portable

pytest.importorskip("ray", reason="needs the cluster extra")


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1:1", "127.0.0.1:port", "127.0.0.1:70000", "no.host.invalid:6379", ":6379", "local", "head", ""],
)
async def test_where_no_cluster_is_the_error_says_how_to_start_one(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "a" * 64)
    with pytest.raises(UserError, match="ray start --head"):
        async with engine_at(address).open():
            pass


async def test_a_cluster_without_tokens_is_refused_before_anything_connects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        with pytest.raises(UserError, match="RAY_AUTH_MODE=token"):
            async with engine_at(f"127.0.0.1:{listening.getsockname()[1]}").open():
                pass
        with pytest.raises(BlockingIOError):
            listening.accept()


async def test_another_program_at_the_address_is_told_from_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "a" * 64)

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(UserError, match=f"no Ray cluster answers at 127.0.0.1:{port}"):
            async with engine_at(f"127.0.0.1:{port}").open():
                pass


def test_ray_client_is_refused() -> None:
    with pytest.raises(UserError, match="Ray Client is not used here"):
        engine_at("ray://127.0.0.1:10001")


def test_errors_of_hosts_survive_the_way() -> None:
    class Odd(Exception):
        def __init__(self, one: int, two: int) -> None:
            super().__init__(f"{one} and {two}")

    assert str(portable(UserError("no image"))) == "no image"
    assert type(portable(UserError("no image"))) is UserError
    assert "1 and 2" in str(portable(Odd(1, 2)))
    assert portable(ExtensionFailed("the reward failed")).__notes__


async def test_a_host_without_swe_aem_is_refused_with_the_fix() -> None:
    from ray.exceptions import RayActorError

    from swe_aem.fleet.ray_engine import _result

    async def died() -> None:
        raise RayActorError(error_msg="The actor failed to import: ModuleNotFoundError: No module named 'swe_aem'")

    with pytest.raises(UserError, match="swe-aem is not installed there: pip install"):
        await _result(died())


def node(name: str, **resources: float) -> dict[str, Any]:
    """As Ray lists one."""
    return {"NodeID": name, "Alive": True, "Resources": resources}


HEAD, WITHOUT_WORK, MARKED = node("head", CPU=16.0), node("head", memory=1e9), node("host", CPU=1.0, sandboxes=1.0)


@pytest.mark.parametrize(
    ("alive", "were_marked", "meant"),
    [
        ([HEAD], False, ["head"]),  # a cluster of hosts that are all alike
        ([HEAD, MARKED], True, ["host"]),
        ([HEAD], True, []),  # all that were meant are lost
        ([WITHOUT_WORK], False, []),  # none has come yet
        ([WITHOUT_WORK, MARKED], True, ["host"]),
    ],
)
def test_a_head_that_only_keeps_the_cluster_together_gets_no_agent(
    alive: list[dict[str, Any]], were_marked: bool, meant: list[str]
) -> None:
    from swe_aem.fleet.ray_engine import meant_for_agents

    assert [one["NodeID"] for one in meant_for_agents(alive, lambda: were_marked)] == meant
