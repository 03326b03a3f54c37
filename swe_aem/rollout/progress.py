"""`RunProgress`: how far a run is right now, for `display.py` to show."""

import logging
import time
from collections import Counter, deque
from pathlib import Path

from swe_aem.core import TrajectoryKey
from swe_aem.rollout.causes import Causes
from swe_aem.rollout.spending import Spending, Used
from swe_aem.runlog import note
from swe_aem.store import FailedAttempt, FailureLog, PhaseLog, Summary, Totals, TrajectoryCounters, read_failures

_TOLD = 10
"""So many tasks that are left out are told of while a run lasts; its end names all."""


class News(deque[str]):
    """Messages for a person, oldest first; whoever shows them takes them out. `run.log` has each at once."""

    def append(self, text: str) -> None:
        """Add a message."""
        note(text)
        super().append(text)


class RunProgress:
    """Counts of the run and totals of its store. The orchestrator writes, `display.py` reads."""

    def __init__(
        self,
        totals: Totals,
        *,
        wanted: int,
        group_size: int,
        earlier: Summary | None = None,
        tell_groups: bool = True,
        spending: Spending | None = None,
        failures: FailureLog | None = None,
        phases: PhaseLog | None = None,
    ) -> None:
        """`earlier` is the summary of what was done on the store before; `tell_groups` reports each group's rewards.
        Without `spending` there is no budget; without `failures` and `phases` neither failed attempts nor the times of
        phases are kept."""
        self.totals = totals
        self.wanted = wanted
        """Trajectories that the store will hold in the end."""
        self.group_size = group_size
        self.at_start = totals.trajectories
        """Trajectories that the store held already."""
        self.spending = spending or Spending(earlier=used_before(totals, earlier))
        """What requests have used, and the budget."""
        self.causes = Causes()
        """Causes of failed attempts."""
        self.left_out: dict[str, str] = {}
        """Tasks that cannot be rolled out here, each with the reason."""
        self.news = News(maxlen=1000)
        self.surplus_cancelled = 0
        self._tell_groups = tell_groups
        self._phases: dict[str, str] = {}
        self._began = time.monotonic()
        self._earlier_wall_s = earlier.wall_s if earlier else 0.0
        self._earlier_causes = earlier.failure_causes if earlier else {}
        self._failures = failures
        self._kept_phases = phases
        self._earlier_surplus = earlier.surplus_cancelled if earlier else 0

    @property
    def running(self) -> Counter[str]:
        """Trajectories that are under way, per phase."""
        return Counter(self._phases.values())

    @property
    def elapsed_s(self) -> float:
        """Seconds since this was made."""
        return time.monotonic() - self._began

    @property
    def eta_s(self) -> float | None:
        """Seconds until the end at the rate so far; None before the first trajectory."""
        done = self.totals.trajectories - self.at_start
        left = self.wanted - self.totals.trajectories - self.surplus_cancelled
        return max(0, left) * self.elapsed_s / done if done else None

    @property
    def failed_attempts(self) -> int:
        """Attempts that failed, those of earlier processes included."""
        return self._failures.count if self._failures is not None else 0

    def phase(self, id: str, name: str) -> None:
        """The trajectory enters a phase."""
        if self._phases.get(id) != name:
            note(f"phase {name}")
        self._phases[id] = name

    def phase_ended(self, key: TrajectoryKey, attempt: int, name: str, began_s: float, seconds: float) -> None:
        """A phase of an attempt has ended, which began at `began_s` on the monotonic clock."""
        if self._kept_phases is not None:
            of = {"task_id": key.task_id, "sample": key.sample, "attempt": attempt}
            self._kept_phases.append(name, began_s, seconds, **of)

    def left(self, id: str) -> None:
        """The trajectory is no longer under way."""
        self._phases.pop(id, None)

    def failed(self, failed: FailedAttempt) -> None:
        """An attempt of a trajectory failed. Of infrastructure failures the first one of its cause is told, then the
        10th, the 100th and so on."""
        id = str(failed.key)
        note(failure_text(failed), level=logging.ERROR, about=f"{id}#{failed.attempt}")
        if self._failures is not None:
            self._failures.append(failed)
        if failed.blame != "infrastructure":
            return
        times = self.causes.add(cause_of(failed))
        if times == 1:
            self.news.append(f"{id}: {failed.said}")
        elif _is_power_of_ten(times):
            self.news.append(f"{id}: {failed.said} (the same {times} times by now)")

    def tell(self, text: str) -> None:
        """A message for a person."""
        self.news.append(text)

    def leave_out(self, task_id: str, why: str) -> None:
        """No trajectory of the task can be rolled out here."""
        if task_id not in self.left_out:
            self.left_out[task_id] = why
            if len(self.left_out) <= _TOLD:
                self.news.append(f"LEFT OUT: {task_id}: {why}")

    def stored(self, one: TrajectoryCounters) -> None:
        """The trajectory is in the store."""
        self.totals.add_counters(one)

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
            wall_s=self._earlier_wall_s + self.elapsed_s,
            billed_tokens=self.spending.used.tokens,
            cost_usd=self.spending.used.usd,
            failure_causes=self.causes.after(self._earlier_causes),
            left_out=self.left_out,
            failed_attempts=self.failed_attempts,
        )


def cause_of(failed: FailedAttempt) -> str:
    """What is counted as one cause: the failure without the name of its task."""
    return failed.said.replace(failed.task_id, "TASK")


def failure_text(failed: FailedAttempt) -> str:
    """A failed attempt as `run.log` has it: phase, cause, whose failure it was, traceback."""
    return f"FAILED in phase {failed.phase}, blame {failed.blame}: {failed.said}\n{failed.traceback}"


def stored_text(one: TrajectoryCounters) -> str:
    """A terminal trajectory as `run.log` has it: outcome, reward, seconds of each phase."""
    seconds = ", ".join(f"{name} {value:.2f}" for name, value in one.timings_s.items())
    reward = "none" if one.reward is None else f"{one.reward:g}"
    return f"stored: {one.outcome.value}, reward {reward}" + (f", seconds: {seconds}" if seconds else "")


def causes_before(directory: Path, earlier: Summary | None) -> dict[str, int]:
    """How often attempts of earlier processes failed for each cause, those included that a killed one could not put
    into the summary any more."""
    kept = Causes()
    for failed in read_failures(directory):
        if failed.blame == "infrastructure":
            kept.add(cause_of(failed))
    said = dict(earlier.failure_causes) if earlier else {}
    return {cause: max(said.get(cause, 0), kept.times.get(cause, 0)) for cause in {**said, **kept.times}}


def used_before(totals: Totals, earlier: Summary | None) -> Used:
    """What was used on a store before: all that its trajectories took, and, as far as its summary knows, what left no
    trajectory."""
    used = Used(totals.billed_tokens, totals.cost_usd)
    if earlier is not None:  # it may be some seconds older than the store, after a kill
        used.tokens = max(used.tokens, earlier.billed_tokens)
        if earlier.cost_usd is not None:
            used.usd = max(used.usd or 0.0, earlier.cost_usd)
    return used


def _is_power_of_ten(number: int) -> bool:
    return set(str(number)[1:]) == {"0"} and str(number)[0] == "1"
