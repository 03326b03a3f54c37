"""Did you mean: the known name that a mistyped one comes closest to."""

import difflib
from collections.abc import Iterable

_LIKENESS = 0.6
"""Share of matching characters from which a name is offered; typos lie above, other words below."""


def closest(name: str, known: Iterable[str]) -> str | None:
    """The known name that `name` most likely stands for, None if nothing is alike."""
    by_lower = {one.lower(): one for one in known}
    found = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=_LIKENESS)
    return by_lower[found[0]] if found else None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """` (did you mean NAME?)`, to put behind a name in an error; empty if nothing is alike."""
    found = closest(name, known)
    return f" (did you mean {found}?)" if found is not None else ""
