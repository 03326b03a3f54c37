"""A training says at its start where others have the host's processors, and only there."""

import os
from collections.abc import Iterator

import pytest

from swe_aem.train.other_work import Moment, OtherWork, now


def told(*moments: tuple[float, float, float], cores: int = 2) -> str | None:
    """The note after the second of two moments: seconds of the clock, of all work, of own work."""
    read: Iterator[Moment] = iter([Moment(*moment) for moment in moments])
    return OtherWork(lambda: next(read), cores).note()


def test_it_is_told_where_others_have_half_of_the_processors() -> None:
    note = told((10.0, 500.0, 1.0), (14.0, 508.0, 2.0))
    assert note is not None
    assert note.startswith("STARVED: while this began, other work had 1.8 of the 2 processors of this host")


@pytest.mark.parametrize(
    "end",
    [
        (14.0, 508.0, 8.0),  # all of it was this process
        (14.0, 504.9, 2.0),  # others had less than one of two
        (10.1, 500.2, 1.0),  # too short to say anything
    ],
)
def test_nothing_is_told_otherwise(end: tuple[float, float, float]) -> None:
    assert told((10.0, 500.0, 1.0), end) is None


def test_the_host_counts_work_of_this_process_as_its_own() -> None:
    before = now()
    while sum(os.times()[:4]) < before.own_s + 0.3:
        pass
    after = now()
    assert after.own_s - before.own_s >= 0.29  # both are in hundredths, which are no binary fractions
    assert after.busy_s - before.busy_s >= 0.2
    assert after.clock_s > before.clock_s
