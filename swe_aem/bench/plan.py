"""`Plan`: what a run needs of disk, network and time, said before it starts."""

from collections.abc import Iterator
from pathlib import Path

from swe_aem.core.base import Frozen
from swe_aem.sandbox.images.sizes import size

IMAGE_BYTES = 512 << 20
"""Disk space of a SWE-bench image beside its shared layers: the 500 images of SWE-bench Verified take 189 to 240 GiB
(epoch.ai and LogicStar, 2025)."""


class ImagePlan(Frozen):
    """The images that an engine must have."""

    needed: int
    present: int
    """Those that it has."""
    limit_bytes: int | None
    """What images that are pulled for this may take in all; None for no limit."""
    free_bytes: int | None
    """Free space on the engine's disk; None if that is on another host."""
    disk: Path | None

    def lines(self, asked: bool) -> Iterator[str]:
        """What a person should know; `asked`: was the limit given, and not chosen?"""
        missing = self.needed - self.present
        about = missing * IMAGE_BYTES
        yield f"images: {self.needed} needed, {self.present} there, {missing} to pull"
        if not missing:
            return
        yield (
            f"download: about {size(about)} at most, as SWE-bench's images take {size(IMAGE_BYTES)} each on disk "
            "and less on the way"
        )
        if self.limit_bytes is None:
            yield f"disk: about {size(about)} for images, on another host than this one: --disk SIZE limits it"
            return
        free = "" if self.free_bytes is None else f"; {size(self.free_bytes)} are free on {self.disk}"
        whose = "--disk" if asked else "80 % of what is free; --disk SIZE says otherwise"
        yield f"disk: images that are pulled take at most {size(self.limit_bytes)} ({whose}){free}"
        if asked and self.free_bytes is not None and missing and self.free_bytes < min(about, self.limit_bytes):
            yield f"disk: that is more than is free on {self.disk}: free some, or give a smaller --disk"


class Plan(Frozen):
    """What is to be done."""

    tasks: int
    trajectories: int
    """Those of all tasks."""
    missing: int
    """Those that the store lacks."""
    concurrency: int
    time_limit_s: float
    per_trajectory_s: float | None
    """Seconds of wall time that one took so far, all that ran at once taken together; None before the first."""
    images: ImagePlan | None
    """None where sandboxes need no engine."""

    def lines(self, *, disk_asked: bool) -> Iterator[str]:
        """The plan for a person."""
        yield f"tasks: {self.tasks}; trajectories: {self.trajectories}, {self.trajectories - self.missing} are done"
        if self.images is not None and self.missing:
            yield from self.images.lines(disk_asked)
        if self.missing:
            yield self._time()

    def _time(self) -> str:
        if self.per_trajectory_s is not None:
            return f"time: about {_hours(self.missing * self.per_trajectory_s)} at the rate so far"
        at_once = min(self.concurrency, self.missing)
        most_s = self.missing * self.time_limit_s / at_once
        return (
            f"time: at most {_hours(most_s)} for agents' commands, {at_once} at once, each with "
            f"{self.time_limit_s:g} s; responses and tests come on top"
        )


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.1f} hours" if seconds >= 3600 else f"{seconds / 60:.0f} minutes"
