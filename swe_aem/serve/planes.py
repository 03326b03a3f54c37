"""The two planes of an update of weights, and all that passes between them. Importable without torch.

    data plane: `Sender`, in the trainer                  control plane: `WeightSync`, beside the rollouts
    begin(parcel) ─────────────────────────────────────>  no new requests, /pause, /start_weight_update, /update_weights
                  <──────────────────────── returns: ───  the servers receive
    tensors ═══════ servers' workers
    end(failure or None) ──────────────────────────────>  /finish_weight_update, /resume
                  <──────────────────────── returns: ───  a server has the weights; or raises `PolicyError`

Arguments, results and errors are plain values that can be pickled, so the two may be processes with a pipe between.
"""

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from swe_aem.errors import PolicyError


class GroupChanged(PolicyError):
    """The servers that can receive a broadcast are not those that joined the trainer's group, or one of them was lost
    in the middle. All that live continue with the old weights: join again, and send again."""


@dataclass(frozen=True)
class Parcel:
    """One update: what the control plane has to know of it, which is all but the tensors."""

    label: str
    """The servers' label of these weights, different from every label of another trainer or an earlier run."""
    version: int
    update_info: dict[str, Any]
    """The body of the servers' update endpoint."""
    atomic: bool
    """True if a failed update leaves a server's old weights unchanged, or ends the server."""
    again: bool
    """True if the parcel can be sent a second time, to a restarted server."""


class ControlPlane(Protocol):
    """What the data plane asks of the control plane. Every method blocks; one call at a time."""

    def world_sizes(self) -> tuple[int, ...]:
        """Worker processes of each server that can join now. Raises `UserError` if one cannot tell, and `PolicyError`
        if there is none for as long as requests wait for one."""
        ...

    def join(self, init_infos: Sequence[dict[str, Any]]) -> None:
        """Have each of these servers join the trainer's group, with the body for it; blocks until all have. Raises
        `UserError` if one refuses, and `GroupChanged` if one is lost."""
        ...

    def begin(self, parcel: Parcel) -> None:
        """Stop generation and have the servers receive the parcel, which they do when this returns. A server that is
        lost meanwhile is left out. Raises `GroupChanged` where a broadcast cannot do without it, and `PolicyError` if
        no server is left for as long as requests wait for one."""
        ...

    def end(self, failure: str | None) -> None:
        """All was sent, or the `failure` says why it was not: have requests continue. Raises `GroupChanged` if a
        broadcast lost a server, and `PolicyError` if no server has loaded the parcel."""
        ...


class AsyncControlPlane(Protocol):
    """A `ControlPlane` in an event loop, whose methods do not block."""

    async def world_sizes(self) -> tuple[int, ...]:
        """Worker processes of each server; the method of `ControlPlane`."""
        ...

    async def join(self, init_infos: Sequence[dict[str, Any]]) -> None:
        """Have servers join the trainer's group; the method of `ControlPlane`."""
        ...

    async def begin(self, parcel: Parcel) -> None:
        """Have servers receive a parcel; the method of `ControlPlane`."""
        ...

    async def end(self, failure: str | None) -> None:
        """Have requests continue; the method of `ControlPlane`."""
        ...


class BlockingControl:
    """The `ControlPlane` of an event loop that runs in another thread."""

    def __init__(self, plane: AsyncControlPlane, run: Callable[[Coroutine[Any, Any, Any]], Any]) -> None:
        """`run` runs a coroutine in that event loop and returns its result."""
        self._plane = plane
        self._run = run

    def world_sizes(self) -> tuple[int, ...]:
        """Worker processes of each server; the method of `ControlPlane`."""
        return self._run(self._plane.world_sizes())

    def join(self, init_infos: Sequence[dict[str, Any]]) -> None:
        """Have servers join the trainer's group; the method of `ControlPlane`."""
        self._run(self._plane.join(init_infos))

    def begin(self, parcel: Parcel) -> None:
        """Have servers receive a parcel; the method of `ControlPlane`."""
        self._run(self._plane.begin(parcel))

    def end(self, failure: str | None) -> None:
        """Have requests continue; the method of `ControlPlane`."""
        self._run(self._plane.end(failure))
