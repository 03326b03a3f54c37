"""A grading of predictions over fakes."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from swe_aem.predictions import GradeResult, GradeRun, Prediction, Predictions
from swe_aem.rollout import RolloutConfig, SchedulingConfig
from swe_aem.store import GradedPrediction, read_graded
from swe_aem.tasks import TaskSet
from swe_aem.testing.builders import make_record
from swe_aem.testing.sandbox import FakeBackend
from tests.rollout.fakes import FakeGrader


def predicted(*keys: str, patch: str = "diff --git a/x b/x\n") -> Predictions:
    """Predictions by `task.sample`."""
    made = [Prediction(task_id=id, sample=int(n), patch=patch) for id, _, n in (key.rpartition(".") for key in keys)]
    return Predictions(tuple(made), ())


@dataclass
class GradeBench:
    """One grading over fakes; every part may be replaced before `run`."""

    directory: Path
    predictions: Predictions
    grader: FakeGrader = field(default_factory=FakeGrader)
    backend: FakeBackend = field(default_factory=FakeBackend)
    settings: dict[str, Any] = field(default_factory=dict)
    scheduling: dict[str, Any] = field(default_factory=dict)
    records: Sequence[Any] = ()

    def grade_run(self) -> GradeRun:
        return self.made(backend=self.backend, grader=self.grader)

    def made(self, **sandboxes: Any) -> GradeRun:
        """A run whose sandboxes are these."""
        quick = {"backoff_s": 0.0, **self.scheduling}
        config = RolloutConfig(scheduling=SchedulingConfig(**quick), **self.settings)
        ids = dict.fromkeys(one.task_id for one in self.predictions.found)
        records = tuple(self.records or map(make_record, ids))
        tasks = TaskSet("fakes", records)
        return GradeRun(config, tasks, self.predictions, self.directory, **sandboxes)

    async def run(self) -> GradeResult:
        return await self.grade_run().run()

    def rows(self) -> dict[str, GradedPrediction]:
        return {str(row.key): row for row in read_graded(self.directory)}
