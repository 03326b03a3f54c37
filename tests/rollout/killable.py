"""A rollout over fakes in a process of its own, to be killed: `killable.py DIR TASKS GROUP_SIZE WORK_S [FAILURES]`.

Prints a line when an agent starts. The first FAILURES attempts of each trajectory fail before that. Exits like the
command line: 130 after a signal.
"""

import asyncio
import sys
from contextlib import nullcontext
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))  # run as a script: the tests are found from the project's root

from swe_aem.core import Sandbox, Stop, Task
from swe_aem.errors import InfrastructureError
from swe_aem.rollout import RolloutRun
from swe_aem.store import Store
from swe_aem.tasks import TaskSet
from swe_aem.testing.builders import make_record
from tests.rollout.fakes import Bench, FakeAgent, FakeGrader, submit


async def work(failures: int, agent: FakeAgent, task: Task, sandbox: Sandbox, sample: int) -> Stop:
    if agent.runs.count((task.id, sample)) <= failures:
        raise InfrastructureError("the attempt was lost")
    print(task.id, sample, flush=True)
    return await submit(agent, task, sandbox, sample)


def main(directory: str, tasks: str, group_size: str, work_s: str, failures: str = "0") -> int:
    bench = Bench(
        Path(directory),
        [make_record(f"task-{n}") for n in range(int(tasks))],
        agent=FakeAgent(behaviour=partial(work, int(failures)), work_s=float(work_s)),
        grader=FakeGrader(work_s=float(work_s) / 2),
        scheduling={"max_attempts": int(failures) + 1, "max_consecutive_failures": 1000},
        settings={"group_size": int(group_size), "time_limit_s": 600.0},
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
