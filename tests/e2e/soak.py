"""One rollout of a soak, a process to stop and kill: `python -m tests.e2e.soak BACKEND DISK/OUT GROUP_SIZE`.

Each deed is a task of its own, so that a trajectory's id says what it did. Exit code 0: everything is in the store.
"""

import asyncio
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from swe_aem.agent import TurnRenderer
from swe_aem.core import Policy, TaskRecord
from swe_aem.core.settings import check
from swe_aem.policy.scripted import call, gold, scripted
from swe_aem.policy.tokenizer import load_tokenizer
from swe_aem.rollout import RolloutComponents, RolloutConfig, RolloutRun, chosen_tasks, open_components
from swe_aem.store import Store
from swe_aem.tasks import TaskSet
from tests.e2e.attacks.own_task import OwnTask, make
from tests.e2e.attacks.play import BUNDLED, SMALL

TESTS_LIMIT_S = 4.0
_WRONG = "sed -i 's/a - b/a * b/' calc/core.py"
DEEDS = {
    "gold": None,
    "noop": "true",
    "wrong": _WRONG,
    "syntax_error": "echo 'def (' >> calc/core.py",
    "hang": "printf '\\nwhile True:\\n    pass\\n' >> calc/core.py",
    "killer": "printf '\\nimport os\\nos.kill(-1, 9)\\n' >> calc/core.py; kill -9 -1",
    "disk_filler": f"{_WRONG}; cat /dev/zero > /tmp/fill; cat /dev/zero > fill",
    "memory_eater": f"{_WRONG}; python -c \"x = b'x' * (4 << 30)\"",
}
"""What each kind of trajectory does before it submits; None: it makes the gold patch."""
OUTCOMES = {
    "gold": {"resolved"},
    "noop": {"empty_patch"},
    "wrong": {"unresolved"},
    "syntax_error": {"unresolved"},
    "hang": {"tests_hang"},
    "killer": {"unresolved", "sandbox_killed"},
    "disk_filler": {"unresolved"},
    "memory_eater": {"unresolved"},
}


def deed_of(task_id: str) -> str:
    """The kind of a trajectory, from its task's id."""
    return task_id.removeprefix("own__").removesuffix("-1")


async def main(kind: str, out: Path, group_size: int) -> int:
    """Roll out what the store lacks."""
    config = check(
        RolloutConfig,
        {
            "tasks": "tasks/micro",
            "ids": [BUNDLED["almanac"]],
            "sandbox": kind,
            "twins": False,
            "group_size": group_size,
            "limits": SMALL,
            "native": {"command_timeout_s": 30},
            "scheduling": {"concurrency": 4, "grading": 2, "max_attempts": 30, "max_consecutive_failures": 1000},
        },
    )
    renderer = TurnRenderer(load_tokenizer(None), config.renderer)
    with tempfile.TemporaryDirectory(dir=out.parent.parent) as trees:
        made = [make(deed, OwnTask(timeout_s=TESTS_LIMIT_S), Path(trees)) for deed in DEEDS]
        workspaces = {one.record.task.id: one.workspace for one in made}

        def policy(record: TaskRecord, sample: int) -> Policy:
            deed = DEEDS[deed_of(record.task.id)]
            if deed is None:
                return gold(record, renderer)
            return scripted("soak", [call("x", "bash", {"command": deed})], renderer)

        @asynccontextmanager
        async def components(config: RolloutConfig, tasks: TaskSet) -> AsyncIterator[RolloutComponents]:
            async with open_components(config, tasks) as opened:
                yield replace(opened, policies=policy, workspace=workspaces.__getitem__)

        tasks = replace(chosen_tasks(config), records=tuple(one.record for one in made))
        with RolloutRun(config, tasks, Store(out), open_components=components) as rollout:
            result = await rollout.run(signals=True)
    return 3 if result.interrupted else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))))
