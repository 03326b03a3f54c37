"""What a training run gives the orchestrator to roll out."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("trl", reason="needs the train extra")

from swe_aem.core import TaskRecord
from swe_aem.rollout import RolloutGroup
from swe_aem.testing.builders import make_record
from swe_aem.train.config import read_config
from swe_aem.train.training_groups import TrainingGroups

pytestmark = pytest.mark.torch
TASKS = [make_record(f"task-{number}") for number in range(12)]


def of_epoch(record: TaskRecord, epoch: int = 0) -> RolloutGroup:
    """A group of which the store has nothing."""
    return RolloutGroup(record, range(2 * epoch, 2 * epoch + 2), size=2, stored={})


@pytest.mark.parametrize("max_staleness", [0, 1])
async def test_groups_that_are_given_before_others_have_begun_are_no_more_than_may_begin(
    tmp_path: Path, max_staleness: int
) -> None:
    queue = ["groups_per_step=2", "oversampled_groups=3", f"max_staleness={max_staleness}"]
    more = ["importance_sampling={mode: truncate, high: 2}"] if max_staleness else []
    rows = ["rollout.group_size=2", "num_minibatches=1", "micro_batch_size=2", "heldout=null", "device=cpu"]
    config = read_config(Path("configs/quickstart.yaml"), [*queue, *more, *rows], {})
    rollout: Any = SimpleNamespace(group=of_epoch, load=lambda group: ())
    groups = TrainingGroups(config, TASKS, tmp_path, rollout)
    assert await groups.lack(1)
    ahead = [await groups.next() for _ in range(3 + max_staleness)]
    assert len({group.record.task.id for group in ahead if group is not None}) == len(ahead)
    groups.begun(ahead[1])  # type: ignore[arg-type]
    groups.stuck()
    assert await groups.next() is None
