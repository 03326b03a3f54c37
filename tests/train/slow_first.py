"""Train the tiny policy in one of two processes; the first one evaluates and rolls out for longer than the limit of
collectives: `slow_first.py RANK PORT LIMIT MODEL OUT [FAIL]`. With `fail` its second step fails; with `differ` the
processes have different code under the same name; with `lose` nothing is slow, and its rollouts are lost in each step
and evaluation, once.
"""

import sys
import time
from pathlib import Path
from typing import Any

from tests.train import pair

rank, port, limit, model, out, *fails = sys.argv[1:]
pair.join(rank, port)

from swe_aem.errors import SweAemError, UserError  # noqa: E402
from swe_aem.testing.steps import ScriptedSteps  # noqa: E402
from swe_aem.train import loop  # noqa: E402
from swe_aem.train.lost import RolloutsLost  # noqa: E402
from swe_aem.train.steps import Step  # noqa: E402
from tests.train.killable import configuration  # noqa: E402

lost: set[object] = set()


def lose_once(what: object) -> None:
    """Lose the rollouts the first time."""
    if fails == ["lose"] and what not in lost:
        lost.add(what)
        raise RolloutsLost(f"lost in {what}")


class Slow(ScriptedSteps):
    """Steps of which the first takes long."""

    def step(self, number: int) -> Step:
        if number == 1 and not fails:
            time.sleep(1.1 * float(limit))
        if number == 2 and fails == ["fail"]:
            raise UserError("the servers are gone")
        lose_once(number)
        return super().step(number)


def evaluate(self: Any, *args: Any, **kwargs: Any) -> None:
    """In place of an evaluation."""
    lose_once(f"an evaluation of {args}, {kwargs}")
    if not fails:
        time.sleep(1.1 * float(limit))


pair.meet(port)
loop._Evaluations._evaluate = evaluate  # type: ignore[method-assign]
if fails == ["differ"]:
    loop.identities = lambda *setting: {"advantage": f"sha256:{rank}"}  # type: ignore[assignment]
settings = ["micro_batch_size=2", f"collective_timeout_s={limit}", "heldout={}"]
try:
    loop.train(configuration(Path(model), 2, *settings), Path(out), Slow)
except SweAemError as error:
    print(f"{type(error).__name__}: {error}")
    sys.exit(1)
