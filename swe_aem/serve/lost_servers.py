"""What an update does about servers that are lost in the middle of it: it continues with those that live, and where
none is left it waits for one.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

from swe_aem.errors import PolicyError
from swe_aem.policy import NoServer, VllmPolicy, VllmServer
from swe_aem.runlog import tell

_T = TypeVar("_T")


async def each(servers: Iterable[VllmServer], call: Callable[[VllmServer], Awaitable[_T]]) -> dict[VllmServer, _T]:
    """Call all servers at once; the answers of those that gave one. The others are suspected."""
    asked = [*servers]
    answers = await asyncio.gather(*(call(server) for server in asked), return_exceptions=True)
    given: dict[VllmServer, _T] = {}
    for server, answer in zip(asked, answers, strict=True):
        if isinstance(answer, PolicyError):
            server.may_be_paused()
            server.suspect(str(answer))
        elif isinstance(answer, BaseException):
            raise answer
        else:
            given[server] = answer
    return given


async def lost(failed: Iterable[VllmServer]) -> list[VllmServer]:
    """Those that are no longer healthy; they are out of rotation."""
    asked = [*failed]
    looks = await asyncio.gather(*(server.control.load() for server in asked), return_exceptions=True)
    gone = [server for server, look in zip(asked, looks, strict=True) if isinstance(look, PolicyError)]
    for server in gone:
        server.suspect("it is no longer healthy")
    return gone


async def patiently(policy: VllmPolicy, what: str, work: Callable[[], Awaitable[_T]]) -> _T:
    """The result of `work`, which is tried again where it raises `NoServer` and a server comes back in the time that
    requests wait for one. Raises `PolicyError` if none does; `what` says which server is wanted."""
    until_s: float | None = None
    while True:
        try:
            return await work()
        except NoServer as error:
            patience_s = policy.config.patience_s
            if until_s is None:
                until_s = asyncio.get_running_loop().time() + patience_s
                tell(f"waiting up to {patience_s:g} s for a server that {what}: {error}")
            if not await policy.wait_one_takes_weights(until_s):
                raise PolicyError(
                    f"no server that {what} for {patience_s:g} s: {policy.unavailable_reason}; start a server there "
                    "again and repeat the command, or set servers.patience_s to wait longer"
                ) from error


def reasons(servers: Iterable[VllmServer]) -> str:
    """Why servers are out of rotation, in words."""
    return "; ".join(f"{server.url}: {server.out_reason}" for server in servers)
