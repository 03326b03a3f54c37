"""`GradeProgress`: how far a grading is right now, and what a person sees of it."""

from swe_aem.core import Outcome, Trajectory
from swe_aem.rollout.display import duration, running_fact
from swe_aem.rollout.progress import RunProgress
from swe_aem.store import FailureLog, PhaseLog, Totals, count_trajectory


class GradeProgress(RunProgress):
    """Counts of a grading. `GradeRun` writes, `rollout/display.py` reads."""

    def __init__(
        self,
        wanted: int,
        earlier_wall_s: float,
        failures: FailureLog | None = None,
        phases: PhaseLog | None = None,
    ) -> None:
        """`wanted` predictions are to be graded; earlier runs took `earlier_wall_s` seconds."""
        super().__init__(Totals(), wanted=wanted, group_size=1, tell_groups=False, failures=failures, phases=phases)
        self.official = self.differences = 0
        self._earlier_s = earlier_wall_s

    @property
    def wall_s(self) -> float:
        """Seconds of all runs into the directory."""
        return self._earlier_s + self.elapsed_s

    def add(self, trajectory: Trajectory) -> None:
        """The prediction's verdict is written."""
        self.stored(count_trajectory(trajectory))
        verdict = trajectory.verdict
        if verdict is not None and verdict.official_resolved is not None:
            self.official += verdict.official_resolved
            self.differences += verdict.official_resolved != verdict.resolved


def grade_facts(progress: RunProgress) -> dict[str, str]:
    """A grading's numbers in words, in the order of display."""
    assert isinstance(progress, GradeProgress)
    totals = progress.totals
    broken = {"broken tasks": str(len(totals.broken))} if totals.broken else {}
    return {
        "done": f"{totals.trajectories}/{progress.wanted}",
        "running": running_fact(progress),
        "resolved": str(totals.resolved),
        "swebench's rule": f"{progress.official} (differs on {progress.differences})",
        "evidence of cheating": str(totals.outcomes[Outcome.INTEGRITY_VIOLATION]),
        **broken,
        "infrastructure": f"{totals.failures} (+{totals.retries} attempts retried)",
        "eta": duration(progress.eta_s),
    }
