"""Intervals as text."""

import math

from study.measures import Interval


def signed(found: Interval, digits: int) -> str:
    """A mean and its interval; a dash for no number."""
    if math.isnan(found.mean):
        return "-"
    if math.isnan(found.low):
        return f"{found.mean:+.{digits}f}"
    return f"{found.mean:+.{digits}f} ({found.low:+.{digits}f} to {found.high:+.{digits}f})"


def points(found: Interval) -> str:
    """A difference of shares in points of a hundred."""
    return signed(Interval(*(100 * one for one in found)), 1)


def milli(found: Interval) -> str:
    """In thousandths."""
    return signed(Interval(*(1000 * one for one in found)), 1)
