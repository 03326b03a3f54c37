"""Linux capabilities by name (linux/capability.h), as a bit mask for the warden."""

from collections.abc import Iterable

from swe_aem.errors import UserError

_NUMBERS = {
    "CHOWN": 0,
    "DAC_OVERRIDE": 1,
    "DAC_READ_SEARCH": 2,
    "FOWNER": 3,
    "FSETID": 4,
    "KILL": 5,
    "SETGID": 6,
    "SETUID": 7,
    "SETPCAP": 8,
    "NET_BIND_SERVICE": 10,
    "NET_RAW": 13,
    "SYS_CHROOT": 18,
    "SETFCAP": 31,
}


_WARDEN_OWN = ("SETPCAP", "SETUID", "SETGID", "SETFCAP", "SYS_ADMIN")


def for_warden(names: Iterable[str], *, network: bool) -> list[str]:
    """The capabilities that the warden starts with, without `CAP_`.

    Those that commands keep; what it needs for a user namespace, terminals and covers over /proc, and to drop all
    others; and (with `network`) what it needs to set a route. It drops its own before the first command.
    """
    kept = mask(names)
    own = [*_WARDEN_OWN, *(["NET_ADMIN"] if network else [])]
    return [name for name, number in _NUMBERS.items() if kept >> number & 1 and name not in own] + own


def mask(names: Iterable[str]) -> int:
    """Bit mask of capabilities given as `CHOWN` or `CAP_CHOWN`; raises `UserError` for one that a sandbox cannot keep.

    `SETUID` brings `KILL` with it: without it the warden could not end processes that changed their user. `SYS_PTRACE`
    cannot be kept, because it opens the warden's memory.
    """
    result = 0
    for name in names:
        number = _NUMBERS.get(name.removeprefix("CAP_"))
        if number is None:
            raise UserError(f"a sandbox cannot keep capability {name!r}; choose from {', '.join(_NUMBERS)}")
        result |= 1 << number
        if number == _NUMBERS["SETUID"]:
            result |= 1 << _NUMBERS["KILL"]
    return result
