"""Train the tiny policy in one of two processes, in OUT/SCENE for each scene, one after the other:
`slow_first.py RANK PORT LIMIT MODEL OUT SCENE...`. A line tells of each one that failed.

- `slow`: the first process evaluates and rolls out for longer than the limit of collectives
- `fail`: its second step fails
- `differ`: the processes have different code under the same name
- `lose`: its rollouts are lost in each step and evaluation, once
"""

import sys
import time
from pathlib import Path
from typing import Any

from tests.train import pair

rank, port, limit, model, out, *scenes = sys.argv[1:]
pair.join(rank, port)

from swe_aem.errors import SweAemError, UserError  # noqa: E402
from swe_aem.testing.steps import ScriptedSteps  # noqa: E402
from swe_aem.train import loop  # noqa: E402
from swe_aem.train.lost import RolloutsLost  # noqa: E402
from swe_aem.train.steps import Step  # noqa: E402
from tests.train.killable import configuration  # noqa: E402

identities = loop.identities


def play(scene: str) -> None:
    """Train as the scene says."""
    lost: set[object] = set()

    def lose_once(what: object) -> None:
        if scene == "lose" and what not in lost:
            lost.add(what)
            raise RolloutsLost(f"lost in {what}")

    class Steps(ScriptedSteps):
        def step(self, number: int) -> Step:
            if number == 1 and scene == "slow":
                time.sleep(1.1 * float(limit))
            if number == 2 and scene == "fail":
                raise UserError("the servers are gone")
            lose_once(number)
            return super().step(number)

    def evaluate(self: Any, *args: Any, **kwargs: Any) -> None:
        lose_once(f"an evaluation of {args}, {kwargs}")
        if scene == "slow":
            time.sleep(1.1 * float(limit))

    loop._Evaluations._evaluate = evaluate  # type: ignore[method-assign]
    differing: Any = lambda *setting: {"advantage": f"sha256:{rank}"}  # noqa: E731
    loop.identities = differing if scene == "differ" else identities
    settings = ["micro_batch_size=2", f"collective_timeout_s={limit}", "heldout={}"]
    loop.train(configuration(Path(model), 2, *settings), Path(out) / scene, Steps)


pair.meet(port)
for scene in scenes:
    try:
        play(scene)
    except SweAemError as error:
        print(f"{scene}: {type(error).__name__}: {error}", flush=True)
