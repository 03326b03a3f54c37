"""`Sender`: the data plane of updates. It announces the trained weights, and sends them tensor by tensor."""

import uuid
from collections.abc import Callable, Iterable, Sequence

from swe_aem.errors import PolicyError
from swe_aem.runlog import tell
from swe_aem.serve.handover import consume
from swe_aem.serve.pieces import TensorInfo
from swe_aem.serve.planes import ControlPlane, GroupChanged, Parcel
from swe_aem.serve.transport import Named, Transport

_MOST_GROUPS = 5
"""Groups that are made for one update, while servers are lost one after the other."""


class Sender:
    """Sends weights by a transport. For one thread; `open` comes first, `close` last."""

    def __init__(self, transport: Transport, control: ControlPlane, *, tensor_limit_s: float = 1800.0) -> None:
        """`tensor_limit_s` is how long one tensor may wait for those before it to be sent."""
        self._transport = transport
        self._control = control
        self._tensor_limit_s = tensor_limit_s
        self._tag = uuid.uuid4().hex[:8]
        self._parcel: Parcel | None = None
        self._failure: str | None = None
        self._joined = False
        """Are trainer and servers connected?"""

    def open(self) -> None:
        """Connect trainer and servers. Raises `UserError` if a server was not started for this transport."""
        self._in_group(lambda: None)

    def close(self) -> None:
        """Clean up; the servers keep their weights."""
        self._transport.close()

    def begin(self, tensors: Sequence[TensorInfo], version: int) -> None:
        """Announce the weights of `version` steps: the tensors that `send` will be given, in their order. With a
        broadcast the servers wait for them from now on. Raises `PolicyError`."""
        parcel = self._parcel = self._transport.announce(tensors, version, self._tag)
        if not self._transport.early:
            self._in_group(lambda: self._control.begin(parcel))

    def send(self, tensors: Iterable[Named]) -> None:
        """Send what was announced. Never raises for what a server or a disk does: `end` does."""
        assert self._parcel is not None, "no weights were announced"
        parcel = self._parcel
        self._failure = consume(
            tensors, lambda handed: self._transport.transmit(parcel, handed), tensor_limit_s=self._tensor_limit_s
        )

    def end(self) -> None:
        """Have the servers serve what was sent. Raises `PolicyError` if none does, and `GroupChanged` if a broadcast
        lost a server: then it has to be sent again, from `begin` on."""
        assert self._parcel is not None, "no weights were announced"
        parcel, self._parcel = self._parcel, None
        delivered = False
        try:
            if self._transport.early:
                if self._failure is not None:
                    raise PolicyError(f"all servers continue with the old weights: sending failed: {self._failure}")
                self._control.begin(parcel)
            self._control.end(self._failure)
            delivered = True
        finally:
            if not delivered:
                self._leave()
            self._transport.settled(parcel, delivered=delivered)

    def _in_group(self, work: Callable[[], None]) -> None:
        """Do what takes a group of trainer and servers; where a server is lost, again with those that live."""
        for left in reversed(range(_MOST_GROUPS)):
            try:
                if not self._joined:
                    self._transport.open(self._control)
                    self._joined = True
                return work()
            except GroupChanged as changed:
                self._leave()
                if not left:
                    raise
                tell(f"trainer and servers make another group for weights: {changed}")
            except BaseException:
                self._leave()
                raise

    def _leave(self) -> None:
        self._joined = False
        self._transport.leave()
