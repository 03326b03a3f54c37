"""A grading over fakes in a process of its own, to be killed: `python killable.py DIR PREDICTIONS WORK_S`.

Prints a line when a patch is graded. Exits like the command line: 130 after a signal.
"""

import asyncio
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))  # run as a script: the tests are found from the project's root

from swe_aem.core import Sandbox, TaskRecord, Verdict
from swe_aem.grading import Delta
from tests.predictions.conftest import GradeBench, predicted
from tests.rollout.fakes import FakeGrader, resolve


async def grading(grader: FakeGrader, record: TaskRecord, patch: Delta | str, sandbox: Sandbox) -> Verdict:
    print(record.task.id, flush=True)
    return await resolve(grader, record, patch, sandbox)


def main(directory: str, count: str, work_s: str) -> int:
    names = [f"task-{n % 12}.{n // 12}" for n in range(int(count))]
    bench = GradeBench(Path(directory), predicted(*names), FakeGrader(grading=grading, work_s=float(work_s)))
    result = asyncio.run(bench.grade_run().run(signals=True))
    assert not bench.backend.live
    return 130 if result.interrupted else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
