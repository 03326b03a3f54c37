"""The control plane of updates: gives servers new weights while agents keep requesting responses.

    begin ──> no new requests, those in flight end ──> /pause ──> /start_weight_update ──> /update_weights ──> end
          ──> /finish_weight_update (label) ──> /resume ──> requests continue, stamped with the new version

A server that is lost on the way, or fails to load an update, is out of rotation until it has loaded it; the update
continues with the others. Where none is left it waits for one as long as requests do. If all servers refuse an update,
all continue with the old weights and `PolicyError` is raised; if the failed update may have left a mixture of weights,
the servers stay paused. A broadcast needs every member of its group: where one is lost, `GroupChanged` has the trainer
make another group of those that live, and a server that has come back joins with the next update.

The tensors come from the data plane (`sender`). Importable without torch.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from swe_aem.errors import PolicyError, UserError
from swe_aem.policy import PAUSE_LIMIT_S, NoServer, VllmPolicy, VllmServer
from swe_aem.runlog import tell
from swe_aem.serve.lost_servers import each, lost, patiently, reasons
from swe_aem.serve.planes import GroupChanged, Parcel


class _Update:
    """An update between `begin` and `end`."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.receiving: asyncio.Future[None] = loop.create_future()
        """Done when the servers receive."""
        self.sent: asyncio.Future[str | None] = loop.create_future()
        """What `end` is given."""
        self.work: asyncio.Task[None] | None = None


class WeightSync:
    """Gives servers whole weights (`planes.AsyncControlPlane`)."""

    def __init__(self, policy: VllmPolicy, *, starting: str | None = None, limit_s: float = 1800.0) -> None:
        """`starting` is the label of servers that have the weights of version 0 already. `limit_s` bounds each call to
        an endpoint that takes longer for larger models, and the time that servers wait for the tensors of an update."""
        self._policy = policy
        self._limit_s = limit_s
        self._starting = starting
        self._started_alike = False
        """Do all servers have the weights of version 0, which nobody has sent?"""
        self._latest: Parcel | None = None
        self._update: _Update | None = None
        self._members: tuple[VllmServer, ...] = ()
        """The servers that are to join the trainer's group."""
        self._group: dict[VllmServer, int] = {}
        """Those that have joined, and how often each had been out of rotation by then."""

    @property
    def version(self) -> int | None:
        """Version of the weights that this sync has brought to the servers, or that they had when it was opened; None
        where that is not known."""
        if self._latest is not None:
            return self._latest.version
        return 0 if self._started_alike else None

    async def open(self) -> None:
        """Raises `UserError` if a server was not started for updates."""
        try:
            alike = [await self._has_starting_weights(server) for server in self._policy.servers]
        except PolicyError as error:
            raise _other_way(error) from error
        self._started_alike = all(alike)
        if self._started_alike:
            tell("the servers have loaded the weights that training begins with; these are not sent")
        self._policy.repair = self._repair

    async def _has_starting_weights(self, server: VllmServer) -> bool:
        """Is it known that the server has the weights of version 0? A paused server may be in the middle of an update
        that nobody has ended. Raises `UserError` if it was not started for updates."""
        label = (await server.control.served_model()).weights
        if label is None:
            raise UserError(
                f"{server.url} has no endpoints for new weights: start it with `swe-aem serve`, or "
                "`vllm serve` with VLLM_SERVER_DEV_MODE=1 and --weight-transfer-config"
            )
        return label == self._starting and not await server.control.is_paused()

    async def close(self) -> None:
        """Give up an update that has not ended; the servers keep their weights."""
        self._policy.repair = None
        if self._update is not None and self._update.work is not None:
            self._update.work.cancel()
            with suppress(asyncio.CancelledError, PolicyError):
                await self._update.work

    async def world_sizes(self) -> tuple[int, ...]:
        """Worker processes of each server that takes weights; the method of `ControlPlane`."""

        async def sizes() -> tuple[int, ...]:
            self._members = self._policy.taking_weights()
            found = await each(self._members, lambda server: server.control.world_size())
            await self._require_members(found)
            return tuple(found.values())

        return await patiently(self._policy, "can join the trainer's group", sizes)

    async def join(self, init_infos: Sequence[dict[str, Any]]) -> None:
        """Have servers join the trainer's group; the method of `ControlPlane`."""
        infos = dict(zip(self._members, init_infos, strict=True))
        outages = {server: server.outages for server in self._members}
        joined = await each(
            self._members,
            lambda server: server.control.post(
                "/init_weight_transfer_engine", {"init_info": infos[server]}, limit_s=self._limit_s
            ),
        )
        await self._require_members(joined)
        self._group = outages

    async def _require_members(self, answered: Mapping[VllmServer, Any]) -> None:
        """Return if every server that is to join the group has answered. Otherwise raise `GroupChanged` if one is lost,
        and `UserError` if all are healthy."""
        missing = [server for server in self._members if server not in answered]
        if missing:
            why = reasons(missing)
            raise GroupChanged(f"a server was lost as it joined: {why}") if await lost(missing) else _other_way(why)

    async def begin(self, parcel: Parcel) -> None:
        """Have servers receive a parcel; the method of `ControlPlane`. Requests wait from now on until `end`."""
        assert self._update is None, "an update has not ended"
        update = self._update = _Update()
        update.work = asyncio.create_task(self._switched(parcel, update))
        await asyncio.wait((update.work, update.receiving), return_when=asyncio.FIRST_COMPLETED)
        if not update.receiving.done():
            self._update = None
            await update.work

    async def end(self, failure: str | None) -> None:
        """Have requests continue; the method of `ControlPlane`."""
        assert self._update is not None, "no update has begun"
        update, self._update = self._update, None
        assert update.work is not None
        if not update.sent.done():
            update.sent.set_result(failure)
        await update.work

    async def _switched(self, parcel: Parcel, update: _Update) -> None:
        if not parcel.again:
            await self._policy.wait_none_suspected()
        what = f"can take the weights of {parcel.version} steps"
        await patiently(self._policy, what, lambda: self._deliver(parcel, update))

    async def _deliver(self, parcel: Parcel, update: _Update) -> None:
        """Bring a parcel to the servers that take weights. Raises `NoServer` if all of them are lost on the way."""
        async with self._policy.switch() as servers:
            self._require_group(servers, parcel)
            receivers = await self._stopped(servers, parcel)
            receiving = [asyncio.create_task(self._receive(server, parcel)) for server in receivers]
            if not update.receiving.done():
                update.receiving.set_result(None)
            broken = await self._sent(update)
            received = await asyncio.gather(*receiving, return_exceptions=True)
            failed = {server: one for server, one in zip(receivers, received, strict=True) if one is not None}
            if broken is not None:
                failed = {server: failed.get(server, broken) for server in receivers}
            await self._resume(server for server in receivers if server not in failed or parcel.atomic)
            if len(failed) == len(receivers):
                await self._refuse(failed, parcel)
            self._latest = parcel
            self._note(failed, parcel)

    def _require_group(self, servers: Sequence[VllmServer], parcel: Parcel) -> None:
        """Raise `GroupChanged` unless those that will receive a broadcast have joined, and were there ever since."""
        if not parcel.again and self._group != {server: server.outages for server in servers}:
            raise GroupChanged("the servers that take weights are not those that joined the trainer's group")

    async def _stopped(self, servers: Sequence[VllmServer], parcel: Parcel) -> list[VllmServer]:
        """Stop generation and begin the update on the servers; those that did. The others are suspected. Raises
        `NoServer` if there are none, and `GroupChanged` if a broadcast lacks one: those that did generate again."""
        paused = await each(servers, _pause)
        begun = [*await each(paused, self._start)]
        missing = [server for server in servers if server not in begun]
        for server in missing:
            tell(f"{server.url} is out of rotation: {server.out_reason}")
        if missing and not parcel.again:
            await each(begun, lambda server: server.control.post("/finish_weight_update", limit_s=self._limit_s))
            await self._resume(begun)
            raise GroupChanged(f"the broadcast lost a server before it began: {reasons(missing)}")
        if not begun:
            raise NoServer(f"every server was lost as the update began: {reasons(servers)}")
        return begun

    async def _start(self, server: VllmServer) -> None:
        """Begin an update, in place of one that another process began and did not end."""
        try:
            await server.control.post("/start_weight_update", limit_s=PAUSE_LIMIT_S)
        except PolicyError:
            await server.control.post("/finish_weight_update", limit_s=self._limit_s)
            await server.control.post("/start_weight_update", limit_s=PAUSE_LIMIT_S)

    async def _sent(self, update: _Update) -> PolicyError | None:
        """What went wrong with sending, if anything did."""
        try:
            async with asyncio.timeout(self._limit_s):
                failure = await update.sent
        except TimeoutError:
            return PolicyError(f"sending the weights took more than {self._limit_s:g} s")
        return None if failure is None else PolicyError(failure)

    async def _receive(self, server: VllmServer, parcel: Parcel) -> None:
        await server.control.post("/update_weights", {"update_info": parcel.update_info}, limit_s=self._limit_s)
        await server.control.post("/finish_weight_update", {"weight_version": parcel.label}, limit_s=self._limit_s)

    def _note(self, failed: Mapping[VllmServer, BaseException], parcel: Parcel) -> None:
        for server in self._policy.servers:
            expected = server.expected.model_copy(update={"weights": parcel.label})
            server.expect(expected, version=parcel.version, name=self._policy.name)
        for server, error in failed.items():
            server.may_be_paused()
            server.suspect(f"it did not load version {parcel.version}: {error}")
            tell(f"{server.url} is out of rotation: {server.out_reason}")
        for server in self._policy.servers:
            server.check_soon()  # one that lacked weights may have them now

    async def _refuse(self, failed: Mapping[VllmServer, BaseException], parcel: Parcel) -> None:
        """Raise what follows from an update that no server has loaded: `NoServer` or `GroupChanged` if that is because
        servers were lost, `PolicyError` otherwise."""
        gone = await lost(failed)
        why = "; ".join(f"{server.url}: {error}" for server, error in failed.items())
        if not parcel.atomic:
            mixture = "the update failed and servers may hold a mixture of weights: restart the servers, then this run"
            raise PolicyError(f"{mixture}. {why}")
        if gone and not parcel.again:
            raise GroupChanged(f"the broadcast lost a server: {reasons(gone)}")
        if len(gone) == len(failed):
            raise NoServer(f"every server was lost while it loaded the new weights: {why}")
        raise PolicyError(f"no server loaded the new weights; all continue with the old ones: {why}")

    async def _repair(self, server: VllmServer) -> bool:
        """Send the latest weights to a restarted server; false if that fails or they cannot be sent again."""
        parcel = self._latest
        if parcel is None or not parcel.again:
            return False
        try:
            await _pause(server)
            await self._start(server)
            await self._receive(server, parcel)
            await server.control.post("/resume", limit_s=PAUSE_LIMIT_S)
        except PolicyError as error:
            why = f"it was restarted and does not load version {parcel.version}: {error}"
            server.take_out(why, lacks_weights=True)
            return False
        return True

    async def _resume(self, servers: Iterable[VllmServer]) -> None:
        await each(servers, lambda server: server.control.post("/resume", limit_s=PAUSE_LIMIT_S))


async def _pause(server: VllmServer) -> None:
    await server.control.post("/pause", limit_s=PAUSE_LIMIT_S, query={"mode": "wait"})


def _other_way(why: object) -> UserError:
    return UserError(f"servers cannot take weights this way (was --sync the same?): {why}")
