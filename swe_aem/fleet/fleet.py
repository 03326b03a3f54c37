"""`Fleet`: which hosts there are, how they fare, who has which place, and which tokens are live.

A token names one attempt at one trajectory on one host. At most one is live per trajectory, and only a live token's
line is handed on: that is the fence which makes every trajectory end once, whatever is lost, silent or late.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

from swe_aem.core import TaskRecord, TrajectoryKey
from swe_aem.errors import InfrastructureError, RunAborted, SweAemError, UserError
from swe_aem.fleet.engine import NO_HOSTS, Engine, Host, NodeDrained, NodeLost, NodeSilent
from swe_aem.fleet.events import Events
from swe_aem.fleet.figures import FleetFigures
from swe_aem.fleet.messages import Finished, HostSize, Job, Live, Opening, Report
from swe_aem.fleet.node import Attempt, Node, State, choose, is_suspect
from swe_aem.fleet.starting_groups import FleetGroup, StartingGroups
from swe_aem.fleet.weights import FleetWeights
from swe_aem.rollout.breaker import describe
from swe_aem.rollout.cluster_config import ClusterConfig
from swe_aem.rollout.roller import RunState

_JOIN_LIMIT_S = 300.0
"""Starting a process, importing this package, loading a model."""
_CLOSE_LIMIT_S = 60.0
_LONGEST_PAUSE_S = 60.0
"""Between two tries to start an agent on one host, also where it was refused: its cause may have been removed."""


class FleetPlace:
    """A place on a host."""

    def __init__(self, node: Node, freed: Callable[[], None], group: FleetGroup | None) -> None:
        """`group` is that of the trajectory which has it, if it has one."""
        self.node, self.group = node, group
        self._freed: Callable[[], None] | None = freed
        node.used += 1

    def release(self) -> None:
        """The agent needs the place no more; only the first call counts."""
        if self._freed is not None:
            self.node.used -= 1
            freed, self._freed = self._freed, None
            freed()


class Fleet:
    """The hosts of one run."""

    def __init__(
        self,
        engine: Engine,
        config: ClusterConfig,
        opening: Opening,
        run: RunState,
        events: Events,
        *,
        settings_of: Callable[[Host], Awaitable[Any]] | None = None,
        weights: FleetWeights | None = None,
        wanted: Callable[[], bool] = lambda: True,
    ) -> None:
        """`events` are told of what agents report. `settings_of` makes the opening's settings for a host. `weights` are
        of policies that agents have on servers whose weights change. While agents are not `wanted`, none need work."""
        self._engine, self._config, self._opening, self._run, self._events = engine, config, opening, run, events
        self._settings_of, self._weights, self._wanted = settings_of, weights, wanted
        if weights is not None:
            weights.join(self)
        self._nodes: dict[str, Node] = {}
        self._places: dict[int, FleetPlace] = {}
        """Token to the place that its agent frees."""
        self._tokens = itertools.count(1)
        self._issued = 0
        self._tasks: set[asyncio.Task[Any]] = set()
        self._changed = asyncio.Event()
        self._starting = StartingGroups(self._nodes.values, self._is_able, opening.config.group_size)
        self._over: BaseException | None = None
        """What ends the run."""
        self._failed_joins: dict[str, int] = {}
        self._again_s: dict[str, float] = {}
        self._refused: dict[str, str] = {}
        """Why hosts are or were refused: each cause is told once."""
        self._needed = config.min_nodes
        """Hosts that must work, or the run ends after a while."""
        self._begun = False
        """Did so many join at the start?"""
        self.late_lines = 0
        """Lines that came after their token was void, and were dropped."""
        self._lost_hosts = 0
        self._images: set[tuple[str, str]] = set()
        """Images that were used on a host, by its name."""
        self.lost_attempts = 0
        """Attempts that ended because their host was lost or drained."""

    @asynccontextmanager
    async def open(self) -> AsyncIterator["Fleet"]:
        """Agents on every host that fits, for the length of the block; it begins once `min_nodes` have joined.

        Raises `UserError` if all hosts are refused, `RunAborted` if too few come.
        """
        self._start(self._watch())
        try:
            while self._working < self._needed:
                await self.change()
            self._needed, self._begun = 1, True
            yield self
        finally:
            await self._close()

    @property
    def nodes(self) -> tuple[Node, ...]:
        """All hosts that have not been lost."""
        return tuple(self._nodes.values())

    async def admit(self, record: TaskRecord, count: int) -> FleetGroup:
        """Wait until a group of so many trajectories may be started, and choose its host: see `StartingGroups`."""
        while (group := self._starting.admit(record.task.image, count, self.notify)) is None:
            await self.change()
        return group

    async def place(self, record: TaskRecord, group: FleetGroup | None = None) -> FleetPlace:
        """Wait for a place: where its group starts; without one, where the task's image is, if that host has a free
        one, or anywhere."""
        if group is not None:
            return await self._taken(lambda: self._starting.start(group), group)
        return await self._taken(lambda: self._choose(record, self._able(frozenset())), None)

    async def place_again(self, record: TaskRecord, lost: FleetPlace, apart_from: frozenset[str]) -> FleetPlace:
        """Wait for another place in place of one: where its group is, but on none of the hosts in `apart_from` while
        others work."""
        return await self._taken(lambda: self._again(record, lost.group, apart_from), lost.group)

    async def _taken(self, chosen: Callable[[], Node | None], group: FleetGroup | None) -> FleetPlace:
        while (node := chosen()) is None:
            await self.change()
        node.probes += is_suspect(node, self._nodes.values())
        return FleetPlace(node, self.notify, group)

    def _again(self, record: TaskRecord, group: FleetGroup | None, apart_from: frozenset[str]) -> Node | None:
        able = self._able(apart_from)
        if group is None:
            return self._choose(record, able)
        self._starting.keep_serving(group)
        hosts = [node for node in group.hosts if self._starting.serves(node) and not self._avoids(node, apart_from)]
        if (node := self._choose(record, [node for node in able if node in hosts])) is not None:
            return node
        if hosts and self._starting:  # they have places in time, and other groups need those of other hosts
            return None
        if (node := self._choose(record, able)) is not None and group not in node.groups:
            group.hosts = [node]
        return node

    def _able(self, apart_from: frozenset[str]) -> list[Node]:
        return [node for node in self._nodes.values() if self._is_able(node) and not self._avoids(node, apart_from)]

    def _choose(self, record: TaskRecord, able: list[Node]) -> Node | None:
        return choose(record.task.image, able, self._opening.config.group_size)

    @property
    def figures(self) -> FleetFigures:
        """How the hosts fared so far."""
        return FleetFigures(
            hosts=self._working,
            lost_hosts=self._lost_hosts,
            lost_attempts=self.lost_attempts,
            late_lines=self.late_lines,
            images=len(self._images),
        )

    @property
    def _working(self) -> int:
        return sum(node.takes_work for node in self._nodes.values())

    def has_other(self, tried: frozenset[str]) -> bool:
        """Does a host work that is not one of these?"""
        return any(node.takes_work and node.id not in tried for node in self._nodes.values())

    async def do(self, place: FleetPlace, key: TrajectoryKey, job: Callable[[int], Job]) -> tuple[Finished, Attempt]:
        """What an agent made of a job; `job` makes it from a token.

        Raises `NodeLost` if the token became void, so that whatever the agent makes of it is dropped.
        """
        node = place.node
        if node.state in (State.AWAY, State.LOST):
            raise NodeLost(f"{node.label} was lost")
        if self._weights is not None and self._weights.is_outdated(node):
            raise NodeLost(f"{node.label} was silent while weights changed")
        self._issued = next(self._tokens)
        attempt, made = Attempt(self._issued, key), job(self._issued)
        self._images.add((node.name, made.record.task.image))
        node.attempts[attempt.token], self._places[attempt.token] = attempt, place
        try:
            return await self._result(node, attempt, made), attempt
        finally:
            del node.attempts[attempt.token], self._places[attempt.token]

    async def _result(self, node: Node, attempt: Attempt, job: Job) -> Finished:
        while attempt.void is None:
            call = asyncio.ensure_future(self._engine.call(node.agent, "do", job))
            try:
                await self._first_of(call, attempt.ended)
            except asyncio.CancelledError:
                call.cancel()
                await asyncio.wait({call}, timeout=_CLOSE_LIMIT_S)  # its sandboxes close there
                raise
            if self._over is not None or attempt.void is not None:
                self._leave_behind(call)
                break
            try:
                finished: Finished = call.result()
            except NodeSilent:  # the agent keeps what it has: asked again, it answers for the same token
                self._is_silent(node)
                while node.state is State.SILENT and attempt.void is None:
                    await self.change()
            except NodeLost as error:
                self._lost(node, error)
            else:
                await self._hear(node, attempt, finished.events)
                if attempt.void is None:
                    return finished
                self.late_lines += finished.error is None
        if self._over is not None:
            raise self._over
        assert attempt.void is not None
        self.lost_attempts += 1
        raise attempt.void

    async def _hear(self, node: Node, attempt: Attempt, number: int) -> None:
        """Wait until a host's events up to that number have arrived, or the token is void. They come with the next look
        and not with each result, for a host that has much to tell would tell all of it with every one."""
        while node.seen < number and attempt.void is None:
            node.asked.set()
            await self.change()

    async def _first_of(self, call: "asyncio.Future[Any]", ended: asyncio.Event) -> None:
        """Return once the call has ended or the event is set."""
        waiting = asyncio.ensure_future(ended.wait())
        try:
            await asyncio.wait({call, waiting}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()

    def _leave_behind(self, call: "asyncio.Future[Any]") -> None:
        """Nobody waits for a call any more; if it brings a line all the same, that is counted."""
        call.add_done_callback(self._came_late)
        self._tasks.add(call)  # type: ignore[arg-type]  # ensure_future of a coroutine is a task

    def _came_late(self, call: "asyncio.Future[Any]") -> None:
        self._tasks.discard(call)  # type: ignore[arg-type]
        if not call.cancelled() and call.exception() is None and call.result().error is None:
            self.late_lines += 1

    def _avoids(self, node: Node, apart_from: frozenset[str]) -> bool:
        return node.id in apart_from and self.has_other(apart_from)

    def _is_able(self, node: Node) -> bool:
        if not node.takes_work or node.used >= node.places:
            return False
        if self._weights is not None and not self._weights.is_current(node):
            return False
        return not is_suspect(node, self._nodes.values()) or node.may_be_probed(self._now_s())

    async def _watch(self) -> None:
        """Hosts that come and go, until the run ends."""
        empty_since_s = self._now_s()
        while True:
            try:
                listed = {host.id: host for host in await self._engine.nodes()}
            except NodeSilent:
                listed = None
            if listed is not None:
                self._compare(listed)
            now_s = self._now_s()
            if self._working >= self._needed or (self._begun and not self._wanted()):
                empty_since_s = now_s
            self._require_hosts(now_s - empty_since_s)
            if not any(node.state in (State.WORKS, State.SILENT) for node in self._nodes.values()):
                self._run.nothing_works()
            self.notify()
            await asyncio.sleep(self._config.beat_s)

    def _compare(self, listed: dict[str, Host]) -> None:
        now_s = self._now_s()
        for host in listed.values():
            known = self._nodes.get(host.id)
            if (known is None or known.state is State.REFUSED) and now_s >= self._again_s.get(host.id, now_s):
                self._nodes[host.id] = Node(host.id, host.name)
                self._start(self._join(self._nodes[host.id], host))
        for node in list(self._nodes.values()):
            host = listed.get(node.id)
            if host is None:
                self._lost(node, NodeLost(f"{node.label} left the cluster"))
            elif host.draining and node.drained_at_s is None:
                node.drained_at_s = now_s + self._config.drain_s
                self._tell(f"{node.label} is being drained: it gets no more trajectories")
            if node.drained_at_s is not None and now_s >= node.drained_at_s:
                node.end_attempts(NodeDrained(f"{node.label} was drained"))

    def _require_hosts(self, empty_s: float) -> None:
        """Raises where too few hosts work: at once if all are refused, else after `wait_s`."""
        refused = [node.why for node in self._nodes.values() if node.state is State.REFUSED]
        idle = [node.why for node in self._nodes.values() if node.why]
        if refused and len(refused) == len(self._nodes) and not self._issued:
            raise UserError(refused[0])
        if empty_s >= self._config.wait_s:
            few = "no host of the cluster has"
            if self._working:
                few = f"only {self._working} of {self._needed} hosts (cluster.min_nodes) have"
            why = f"; {idle[0]}" if idle else "" if self._nodes else f"; {NO_HOSTS}"
            raise RunAborted(
                f"{few} worked for {empty_s:.0f} s (cluster.wait_s){why}. What is finished is kept: start hosts and "
                "repeat the command"
            )

    async def _join(self, node: Node, host: Host) -> None:
        opening = self._opening
        try:
            if self._settings_of is not None:
                opening = replace(opening, settings=await self._settings_of(host))
            node.agent = await asyncio.wait_for(self._engine.start(node.id), _JOIN_LIMIT_S)
            theirs = await self._engine.call(node.agent, "identity", within_s=_JOIN_LIMIT_S)
            if problem := theirs.differs_from(self._opening.identity):
                raise UserError(problem)
            size = await self._engine.call(node.agent, "open", opening, within_s=_JOIN_LIMIT_S)
        except UserError as error:
            node.state, node.why = State.REFUSED, f"{node.label}: {error}"
            self._again_s[node.id] = self._now_s() + _LONGEST_PAUSE_S
            if self._refused.get(node.id) != node.why:
                self._refused[node.id] = node.why
                self._tell(f"REFUSED: {node.why}")
            await self._stop(node)
        except (InfrastructureError, OSError) as error:  # a time limit, a full disk
            self._tell(f"{node.label} could not join: {describe(error)}")
            tries = self._failed_joins[node.id] = self._failed_joins.get(node.id, 0) + 1
            self._again_s[node.id] = self._now_s() + min(_LONGEST_PAUSE_S, 2.0**tries)
            self._nodes.pop(node.id, None)
            await self._stop(node)
        else:
            if node.state is State.JOINING:  # not lost meanwhile
                self._joined(node, size)
            else:
                await self._stop(node)

    def _joined(self, node: Node, size: HostSize) -> None:
        node.state, node.places, node.heard_s = State.WORKS, size.places, self._now_s()
        beside = "; ".join(size.shared)
        if size.places:
            self._tell(
                f"{node.label} joined: {size.places} places, {size.processors} processors, "
                f"{size.memory_bytes / 2**30:.0f} GiB of memory{f'; {beside}' if beside else ''}"
            )
        else:
            node.why = f"{node.label} has no place left: {beside}"
            self._tell(f"{node.why}. It works once some are free; --concurrency gives each run its part")
        self._start(self._beats(node))
        if self._weights is not None:
            self._start(self._weights.keep(node))
        self.notify()

    async def ask(self, node: Node, method: str, *arguments: Any, within_s: float) -> Any:
        """What a method of a host's agent returns; False if the host is lost, or after a while if it is silent."""
        try:
            return await self._engine.call(node.agent, method, *arguments, within_s=within_s)
        except NodeSilent:
            self._is_silent(node)
            await asyncio.sleep(self._config.beat_s)
        except NodeLost as error:
            self._lost(node, error)
        return False

    async def _beats(self, node: Node) -> None:
        """Look at a host again and again, until it is lost."""
        limit_s = max(5.0, self._config.beat_s)
        while node.state is not State.LOST:
            node.asked.clear()
            live = Live(self._issued, frozenset(_live(node)), node.seen, self._run.spending.spent, _awaited(node))
            try:
                report = await self._engine.call(node.agent, "look", live, within_s=limit_s)
            except NodeSilent:
                self._is_silent(node)
                if node.state is State.SILENT and self._now_s() - node.heard_s >= self._config.lost_after_s:
                    self._is_away(node)
            except NodeLost as error:
                self._lost(node, error)
                return
            else:
                self._is_heard(node)
                self._take(node, report)
                self.notify()
            if node.state is State.WORKS:
                with suppress(TimeoutError):
                    await asyncio.wait_for(node.asked.wait(), self._config.beat_s)
            else:
                await asyncio.sleep(self._config.beat_s)

    def _is_silent(self, node: Node) -> None:
        if node.state is State.WORKS:
            node.state = State.SILENT

    def _is_away(self, node: Node) -> None:
        node.state = State.AWAY
        self._tell(f"{node.label} has been silent for {self._config.lost_after_s:.0f} s: its trajectories move")
        node.end_attempts(NodeLost(f"{node.label} was silent for {self._config.lost_after_s:.0f} s"))
        self.notify()

    def _is_heard(self, node: Node) -> None:
        """It answers, and has been told by the same call which tokens are live."""
        node.heard_s = self._now_s()
        if node.state is State.AWAY:
            self._tell(f"{node.label} is back")
        if node.state in (State.SILENT, State.AWAY):
            node.state = State.WORKS
            self.notify()

    def _lost(self, node: Node, error: NodeLost) -> None:
        if node.state is State.LOST:
            return
        drained = node.drained_at_s is not None or isinstance(error, NodeDrained)
        node.state = State.LOST
        self._nodes.pop(node.id, None)
        if node.places:
            self._lost_hosts += 1
            self._tell(f"{node.label} {'has been drained' if drained else 'is lost'}: {error}")
        node.end_attempts(NodeDrained(str(error)) if drained else error)
        self._start(self._stop(node))  # it may be there all the same, and another agent would share its host
        self.notify()

    def _take(self, node: Node, report: Report) -> None:
        """Pass on the events of a report that are new. One that ends the run does so where trajectories wait."""
        try:
            for event in report.events:
                if event.number > node.seen:
                    node.seen = event.number
                    if event.kind == "released":
                        self._released(node, *event.arguments)
                    else:
                        self._events.take(event, node, tuple(self._nodes.values()), report, self._now_s())
            if report.broken_tasks is not None:
                self._events.broken_tasks(report.broken_tasks)
            self._has_places(node, node.places if report.places is None else report.places)
        except SweAemError as error:
            self._end_with(error)

    def _has_places(self, node: Node, places: int) -> None:
        """Its agent has so many now: more than before where another run has ended."""
        if places != node.places:
            node.places, node.why = places, ""
            self._tell(f"{node.label} has {places} places now")
            self.notify()

    def _released(self, node: Node, token: int) -> None:
        place = self._places.get(token)
        if place is not None and place.node is node:
            place.release()

    async def change(self) -> None:
        """Wait until something has changed. Raises what ends the run."""
        if self._over is None:
            await self._changed.wait()
        if self._over is not None:
            raise self._over

    def notify(self) -> None:
        """Something has changed: whoever waits looks again."""
        self._changed.set()
        self._changed = asyncio.Event()

    def _end_with(self, error: BaseException) -> None:
        self._over = self._over or error
        for node in self._nodes.values():
            for attempt in node.attempts.values():
                attempt.ended.set()
        self.notify()

    def _tell(self, text: str) -> None:
        self._run.watcher.tell(text)

    def _now_s(self) -> float:
        return asyncio.get_running_loop().time()

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        async def guarded() -> None:
            try:
                await work
            except Exception as error:
                self._end_with(error)

        task = asyncio.create_task(guarded())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _close(self) -> None:
        """End agents and what waits for them."""
        if self.late_lines or self.lost_attempts:
            self._tell(
                f"{self.lost_attempts} attempts were on hosts that were lost or drained; {self.late_lines} lines came "
                "late and were dropped"
            )
        ending = list(self._tasks)
        for task in ending:
            task.cancel()
        if ending:
            await asyncio.wait(ending, timeout=_CLOSE_LIMIT_S)
        nodes, self._nodes = list(self._nodes.values()), {}
        await asyncio.gather(*(self._end(node) for node in nodes))

    async def _end(self, node: Node) -> None:
        if node.state in (State.WORKS, State.SILENT):
            try:
                live = Live(self._issued, frozenset(), node.seen, self._run.spending.spent)
                self._take(node, await self._engine.call(node.agent, "look", live, within_s=_CLOSE_LIMIT_S))
                await self._engine.call(node.agent, "close", within_s=_CLOSE_LIMIT_S)
            except InfrastructureError as error:
                self._tell(f"{node.label} did not end well: {describe(error)}")
        node.state = State.LOST
        await self._stop(node)

    async def _stop(self, node: Node) -> None:
        if node.agent is not None:
            await self._engine.stop(node.agent)


def _awaited(node: Node) -> tuple[str, ...]:
    """Images of the groups that wait to be started on a host; those that have begun there have theirs."""
    return tuple(dict.fromkeys(group.image for group in node.groups if not group.begun))


def _live(node: Node) -> list[int]:
    return [token for token, attempt in node.attempts.items() if attempt.void is None]
