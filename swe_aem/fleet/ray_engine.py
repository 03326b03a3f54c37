"""`RayEngine`: agents are Ray actors, one per host. The only file that imports Ray.

Ray carries the calls and says which hosts are there. Nothing is installed at run time, nothing is restarted or tried
again by it, and what runs in sandboxes never crosses it.
"""

import asyncio
import logging
import os
import re
import signal
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

# A driver under `uv run` would otherwise have every host install its environment again.
os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")

import ray
from ray import exceptions
from ray._private.services import canonicalize_bootstrap_address_or_die
from ray._private.state import state as cluster_state
from ray.experimental.internal_kv import internal_kv_get_gcs_client
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

import swe_aem
from swe_aem.errors import UserError
from swe_aem.fleet.agent import NodeAgent
from swe_aem.fleet.engine import Host, NodeDrained, NodeLost, NodeSilent
from swe_aem.fleet.ray_head import require_head

RESOURCE = "sandboxes"
"""Where hosts were ever started with such a resource, only those get agents."""
_CALLS = 10_000
"""Calls of one agent at a time: a trajectory is one, and a look another."""
_CANCEL_LIMIT_S = 60.0
_LIST_LIMIT_S = 30.0


class RayEngine:
    """Agents on the hosts of a Ray cluster."""

    def __init__(self, address: str) -> None:
        """`address` is HOST:PORT of the head, or `auto` for the cluster that this host belongs to."""
        if address.startswith("ray://"):
            raise UserError(f"{address}: Ray Client is not used here; start this on a host of the cluster, with auto")
        if address != "auto" and not _is_host_and_port(address):  # Ray would start a cluster of its own for `local`
            raise UserError(f"cluster is {address!r}: give auto, or HOST:PORT of the head, as `ray start --head` says")
        self._address = address

    def require_head(self) -> str:
        """HOST:PORT of the head. Raises `UserError` unless it is there, asks for a token, and for this process's."""
        address = _address_of_this_host() if self._address == "auto" else self._address
        require_head(address)
        return address

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Connected. In a thread, because Ray would take over the signals of the main one."""
        await asyncio.to_thread(self._connect)
        _take_back_sigterm()
        try:
            yield
        finally:
            await asyncio.to_thread(ray.shutdown)

    async def nodes(self) -> list[Host]:
        """Hosts that belong to the cluster and are meant for agents."""
        try:
            return await asyncio.wait_for(asyncio.to_thread(_hosts), _LIST_LIMIT_S)
        except (exceptions.RayError, RuntimeError, OSError) as error:
            raise NodeSilent(f"the head of the cluster does not answer: {_line(error)}") from error

    async def start(self, host: str) -> Any:
        """A new actor on a host."""
        options = {
            "num_cpus": 0,
            "max_restarts": 0,
            "max_task_retries": 0,
            "max_concurrency": _CALLS,
            # Sandboxes are connected to asyncio's own loop; Ray takes uvloop where that is installed.
            "runtime_env": {"env_vars": {"RAY_USE_UVLOOP": "0"}},
            "scheduling_strategy": NodeAffinitySchedulingStrategy(host, soft=False),
        }
        return await asyncio.to_thread(lambda: ray.remote(NodeAgent).options(**options).remote())

    async def call(self, agent: Any, method: str, *arguments: Any, within_s: float | None = None) -> Any:
        """What a method returns or raises. Cancelled, it cancels the method too, which would otherwise keep running."""
        ref = getattr(agent, method).remote(*arguments)
        result = asyncio.ensure_future(_result(ref))
        try:
            done, _ = await asyncio.wait({result}, timeout=within_s)
        except asyncio.CancelledError:
            await _cancel(ref, result)
            raise
        if not done:
            ray.cancel(ref)
            result.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
            raise NodeSilent(f"no answer within {within_s:.0f} s")
        return result.result()

    async def stop(self, agent: Any) -> None:
        """Kill the actor."""
        await asyncio.to_thread(ray.kill, agent)

    def _connect(self) -> None:
        logging.getLogger("ray").setLevel(logging.ERROR)
        address = self.require_head()
        try:
            ray.init(address=address, log_to_driver=False, configure_logging=False)
        except (ConnectionError, RuntimeError, ValueError, exceptions.RayError) as error:
            raise UserError(f"the Ray cluster at {address} cannot be used: {_line(error)}") from error


def _take_back_sigterm() -> None:
    """Give SIGTERM its handler of before. Ray's would call it, but end this process three seconds later."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM) or signal.SIG_DFL)


def _is_host_and_port(address: str) -> bool:
    host, _, port = address.rpartition(":")
    return bool(host) and re.fullmatch("[0-9]{1,5}", port) is not None and 0 < int(port) < 2**16


def _address_of_this_host() -> str:
    """That of the cluster's head, as Ray finds it for `auto`. Raises `UserError` if this host belongs to none."""
    try:
        address = canonicalize_bootstrap_address_or_die("auto")
    except (ConnectionError, ValueError) as error:
        raise UserError(
            f"{_line(error)} Start one with `ray start --head`, and on every further host with `ray start "
            "--address=HOST:PORT`, all with the same RAY_AUTH_TOKEN_PATH"
        ) from error
    if not _is_host_and_port(address):
        raise UserError(f"RAY_ADDRESS is {address!r}: give HOST:PORT of the head, as `ray start --head` says")
    return address


def _hosts() -> list[Host]:
    alive = [node for node in ray.nodes() if node["Alive"]]
    draining = cluster_state.get_draining_nodes()
    ours = ray.util.get_node_ip_address()
    return [
        Host(
            node["NodeID"],
            node["NodeManagerHostname"],
            draining=node["NodeID"] in draining,
            sees_us_at="127.0.0.1" if node["NodeManagerAddress"] == ours else ours,
        )
        for node in meant_for_agents(alive, _were_marked)
    ]


def meant_for_agents(alive: list[dict[str, Any]], were_marked: Callable[[], bool]) -> list[dict[str, Any]]:
    """Those of a cluster's nodes, as Ray lists them, that may have agents: the ones with `RESOURCE`; where no node has
    it and none `were_marked` before they were lost, the ones that Ray may give work to. So a head that only keeps the
    cluster together gets none, whatever becomes of the others."""
    marked = [node for node in alive if node["Resources"].get(RESOURCE)]
    if marked or were_marked():
        return marked
    return [node for node in alive if node["Resources"].get("CPU")]


def _were_marked() -> bool:
    """Has any node of the cluster had `RESOURCE`, also one that is lost? Ray's list of nodes has no resources of
    those, which the head still knows."""
    head = internal_kv_get_gcs_client()
    assert head is not None, "hosts are listed while this process is connected"
    return any(node.resources_total.get(RESOURCE) for node in head.get_all_node_info().values())


async def _result(ref: Any) -> Any:
    try:
        return await ref
    except exceptions.RayTaskError as error:  # what the method raised; the text of this one is a coloured traceback
        if isinstance(error.cause, exceptions.TaskCancelledError | asyncio.CancelledError):
            raise NodeLost("the call was cancelled there") from None
        if error.cause is None:
            raise NodeLost(_line(error)) from error
        raise error.cause from None
    except exceptions.TaskCancelledError:
        raise NodeLost("the call was cancelled there") from None
    except exceptions.ActorUnavailableError as error:
        raise NodeSilent(_line(error)) from None
    except exceptions.RayActorError as error:
        if f"No module named '{swe_aem.__name__}'" in str(error):
            raise UserError("swe-aem is not installed there: pip install 'swe-aem[cluster]' on all hosts") from None
        kind = NodeDrained if error.preempted else NodeLost
        raise kind(f"its agent ended: {_line(error)}") from None
    except exceptions.RayError as error:
        raise NodeLost(_line(error)) from None


async def _cancel(ref: Any, result: "asyncio.Future[Any]") -> None:
    """Cancel the method, and wait until it has ended."""
    ray.cancel(ref)
    await asyncio.wait({result}, timeout=_CANCEL_LIMIT_S)
    if result.done() and not result.cancelled():
        result.exception()
    else:
        result.cancel()


def _line(error: BaseException) -> str:
    """The last line of an error that says something, without the advice that Ray adds: Ray's begin with names and
    ids."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1].partition(" Some common causes include")[0] if lines else type(error).__name__
