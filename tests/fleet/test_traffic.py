"""What agents say grows with the trajectories, and not with how many of them there are at once."""

import asyncio
import pickle
from pathlib import Path
from typing import Any

from swe_aem.testing.engine import FakeEngine
from swe_aem.testing.virtual_time import run_in_virtual_time
from tests.fleet.fakes import FleetBench


class WeighingEngine(FakeEngine):
    """It adds up the bytes of all answers."""

    answers_bytes = 0

    async def call(self, agent: Any, method: str, *arguments: Any, within_s: float | None = None) -> Any:
        answer = await super().call(agent, method, *arguments, within_s=within_s)
        self.answers_bytes += len(pickle.dumps(answer))
        return answer


def per_trajectory(directory: Path, trajectories: int) -> float:
    """Bytes that an agent says of each of so many trajectories, which all run and end at the same time."""

    async def main() -> float:
        many = {"concurrency": trajectories, "starting": trajectories, "grading": trajectories}
        made = FleetBench(directory, trajectories, 1, make_engine=WeighingEngine, scheduling=many)
        made.host("a")
        await asyncio.wait_for(made.run(), 1000.0)
        assert len(made.bench.stored()) == trajectories
        assert isinstance(made.engine, WeighingEngine)
        return made.engine.answers_bytes / trajectories

    return run_in_virtual_time(main())


def test_many_trajectories_at_once_have_no_more_to_tell_each(tmp_path: Path) -> None:
    few, many = per_trajectory(tmp_path / "few", 10), per_trajectory(tmp_path / "many", 100)
    assert many < 1.5 * few
