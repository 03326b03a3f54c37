"""`StartingGroups`: on which host the trajectories of each group start, so that few hosts need its image.

    group admitted ──> the host that its image's hash names, as far as loads allow; it starts one group after the other
    host is full   ──> its groups wait there, although others have places: those have groups of their own
    host has none  ──> it takes a group that has not begun from a full host, or else helps the one that lacks most
    host is lost   ──> its groups go to another one

So no place is free while a trajectory waits for one, and a group is on a second host only at the end of a run, or
where its host was lost.
"""

from collections.abc import Callable, Collection

from swe_aem.fleet.node import Node, choose, is_suspect


class FleetGroup:
    """A group on the hosts of a fleet."""

    def __init__(self, image: str, left: int, ended: Callable[["FleetGroup"], None]) -> None:
        self.image = image
        self.left = left
        """Trajectories that have not started."""
        self.hosts: list[Node] = []
        """Where they start, and start again."""
        self.begun = False
        """Has one of them started there?"""
        self._ended = ended

    def started(self) -> None:
        """All have started that will."""
        self._ended(self)


class StartingGroups:
    """The groups of which not all trajectories have started, and their hosts."""

    def __init__(self, nodes: Callable[[], Collection[Node]], is_able: Callable[[Node], bool], group_size: int) -> None:
        """`is_able` says whether a host has a place that one more trajectory may have."""
        self._nodes, self._is_able, self._group_size = nodes, is_able, group_size
        self._groups: list[FleetGroup] = []

    def __bool__(self) -> bool:
        """Is there one?"""
        return bool(self._groups)

    def admit(self, image: str, count: int, ended: Callable[[], None]) -> FleetGroup | None:
        """Another group of so many trajectories, which has its host; None while as many wait as there are hosts."""
        hosts = [node for node in self._nodes() if self.serves(node)]
        if sum(not group.begun for group in self._groups) >= len(hosts):
            return None

        def end(group: FleetGroup) -> None:
            if group in self._groups:
                self._groups.remove(group)
                for node in group.hosts:
                    node.groups.remove(group)
                ended()

        group = FleetGroup(image, count, end)
        self._groups.append(group)
        self._put(group, hosts)
        return group

    def start(self, group: FleetGroup) -> Node | None:
        """The host on which the group's next trajectory starts now; None if it has to wait."""
        self.keep_serving(group)
        here = (node for node in group.hosts if node.groups[0] is group and self._is_able(node))
        node = next(here, None) or self._elsewhere(group)
        if node is not None:
            group.left -= 1
            group.begun |= node in group.hosts
        return node

    def keep_serving(self, group: FleetGroup) -> None:
        """Give a group that is being started another host if all of its hosts are lost, silent, drained or suspects."""
        if group not in self._groups:
            return
        self._leave(group, [node for node in group.hosts if not self.serves(node)])
        hosts = [node for node in self._nodes() if self.serves(node)] if not group.hosts else []
        if hosts:
            group.begun = False
            self._put(group, hosts)

    def serves(self, node: Node) -> bool:
        """May groups start on the host, once it has places?"""
        return node.takes_work and not is_suspect(node, self._nodes())

    def _elsewhere(self, group: FleetGroup) -> Node | None:
        """A host without a group that takes this one, or helps it; None if its own have places, or there is none."""
        if any(self._is_able(node) for node in group.hosts):
            return None
        idle = [node for node in self._nodes() if not node.groups and self._is_able(node)]
        if not idle or (group.begun and not self._needs_help_most(group)):
            return None
        node = choose(group.image, idle, self._group_size)
        assert node is not None
        if is_suspect(node, self._nodes()):  # one trajectory tries it
            return node
        if not group.begun:
            self._leave(group, list(group.hosts))
        self._put(group, [node])
        return node

    def _needs_help_most(self, group: FleetGroup) -> bool:
        if not all(other.begun for other in self._groups):
            return False
        return group is max(self._groups, key=lambda other: other.left / max(1, len(other.hosts)))

    def _put(self, group: FleetGroup, hosts: list[Node]) -> None:
        node = choose(group.image, hosts, self._group_size)
        assert node is not None
        group.hosts.append(node)
        node.groups.append(group)

    def _leave(self, group: FleetGroup, hosts: list[Node]) -> None:
        for node in hosts:
            node.groups.remove(group)
            group.hosts.remove(node)
