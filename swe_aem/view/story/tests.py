"""`tested`: what a verdict says, test by test."""

from collections.abc import Iterator
from typing import NamedTuple

from swe_aem.core import TestStatus, Verdict
from swe_aem.grading import PASSING


class TestGroup(NamedTuple):
    """Tests of one kind that ended alike."""

    __test__ = False  # not a test class, whatever pytest makes of its name

    kind: str
    """`FAIL_TO_PASS` or `PASS_TO_PASS`."""
    passing: bool
    before: str
    """What the task says of them without a patch."""
    names: tuple[str, ...]
    statuses: tuple[TestStatus, ...]
    """Those of the tests of `names`."""

    def first(self, most: int | None = None) -> list[tuple[str, TestStatus]]:
        """(name, status) of the first ones, of all if `most` is not given. Making a hundred thousand pairs takes longer
        than all else on a page."""
        return list(zip(self.names[:most], self.statuses[:most], strict=True))

    @property
    def place(self) -> str:
        """Name of the group within the trajectory."""
        return f"{self.kind.lower().replace('_', '-')}-{'passing' if self.passing else 'failing'}"


def tested(verdict: Verdict) -> Iterator[TestGroup]:
    """The tests of a verdict in groups, those that failed first; no empty groups."""
    kinds = (("FAIL_TO_PASS", "fails", verdict.fail_to_pass), ("PASS_TO_PASS", "passes", verdict.pass_to_pass))
    good = tuple(PASSING)  # found by identity, which is fast: hashing a member of an enumeration is not
    for passing in (False, True):
        for kind, before, statuses in kinds:
            names = tuple([name for name, status in statuses.items() if (status in good) is passing])
            if names:
                ends = tuple([status for status in statuses.values() if (status in good) is passing])
                yield TestGroup(kind, passing, before, names, ends)
