"""`Board`: what is going on in a run right now, for whoever shows it."""

import time
from collections import Counter, deque

from swe_aem.core import Trajectory
from swe_aem.store import Summary, Totals


class Board:
    """Counts of the run and totals of its store. The orchestrator writes, `progress.py` reads."""

    def __init__(
        self,
        totals: Totals,
        *,
        wanted: int,
        group_size: int,
        earlier_wall_s: float = 0.0,
        earlier_surplus: int = 0,
        tell_groups: bool = True,
    ) -> None:
        self.totals = totals
        self.wanted = wanted
        """Trajectories that the store shall hold in the end."""
        self.group_size = group_size
        self.at_start = totals.trajectories
        """Trajectories that the store held already."""
        self.news: deque[str] = deque(maxlen=1000)
        """Lines for a person, oldest first; whoever shows them takes them out."""
        self.surplus_cancelled = 0
        self._tell_groups = tell_groups
        self._phases: dict[str, str] = {}
        self._began = time.monotonic()
        self._earlier_wall_s = earlier_wall_s
        self._earlier_surplus = earlier_surplus

    @property
    def running(self) -> Counter[str]:
        """Trajectories that are under way, per phase."""
        return Counter(self._phases.values())

    @property
    def session_s(self) -> float:
        """Seconds since this process began."""
        return time.monotonic() - self._began

    @property
    def eta_s(self) -> float | None:
        """Seconds until the end at this process's rate so far; None before the first trajectory."""
        done = self.totals.trajectories - self.at_start
        left = self.wanted - self.totals.trajectories - self.surplus_cancelled
        return max(0, left) * self.session_s / done if done else None

    def phase(self, id: str, name: str) -> None:
        """The trajectory enters a phase."""
        self._phases[id] = name

    def left(self, id: str) -> None:
        """The trajectory is no longer under way."""
        self._phases.pop(id, None)

    def failed(self, id: str, failure: str) -> None:
        """An attempt failed for a reason of ours."""
        self.news.append(f"{id}: {failure}")

    def stored(self, trajectory: Trajectory) -> None:
        """The trajectory is in the store."""
        self.totals.add(trajectory)

    def group_ended(self, task_id: str, rewards: list[float | None]) -> None:
        """No trajectory of the group is outstanding; `rewards` are those that this process added."""
        if not self._tell_groups:
            return
        shown = " ".join("-" if reward is None else f"{reward:g}" for reward in rewards)
        self.news.append(f"{task_id}: rewards {shown or 'none'}")

    def summary(self) -> Summary:
        """The summary as of now."""
        return self.totals.summary(
            wanted=self.wanted,
            group_size=self.group_size,
            surplus_cancelled=self._earlier_surplus + self.surplus_cancelled,
            wall_s=self._earlier_wall_s + self.session_s,
        )
