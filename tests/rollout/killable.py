"""A rollout over fakes in a process of its own, to be killed: `python killable.py DIR TASKS GROUP_SIZE WORK_S`.

Prints a line when an agent starts. Exits like the command line: 130 after a signal.
"""

import asyncio
import sys
from contextlib import nullcontext
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))  # run as a script: the tests are found from the project's root

from swe_aem.core import Sandbox, Stop, Task
from swe_aem.rollout import RolloutRun
from swe_aem.store import Store
from swe_aem.tasks import TaskSet
from swe_aem.testing.builders import make_record
from tests.rollout.fakes import Bench, FakeAgent, FakeGrader, submit


async def work(agent: FakeAgent, task: Task, sandbox: Sandbox, sample: int) -> Stop:
    print(task.id, sample, flush=True)
    return await submit(agent, task, sandbox, sample)


def main(directory: str, tasks: str, group_size: str, work_s: str) -> int:
    bench = Bench(
        Path(directory),
        [make_record(f"task-{n}") for n in range(int(tasks))],
        agent=FakeAgent(behaviour=work, work_s=float(work_s)),
        grader=FakeGrader(work_s=float(work_s) / 2),
        settings={"group_size": int(group_size)},
    )
    components = nullcontext(bench.components())
    with RolloutRun(
        bench.config(),
        TaskSet("fakes", tuple(bench.records)),
        Store(bench.directory),
        backend=bench.backend,
        open_components=lambda config, tasks: components,
    ) as rollout:
        finished = asyncio.run(rollout.run(signals=True))
    assert not bench.backend.live
    return 130 if finished.interrupted else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
