"""Train the tiny policy in one of two processes, with rows dealt by length: `dealt.py RANK PORT LIMIT MODEL OUT
[SETTING...]`. It prints the number of columns of each micro-batch. Its steps have branches, which a setting may have
trained on."""

import json
import sys
from pathlib import Path
from typing import Any

from tests.train import pair

rank, port, limit, model, out, *settings = sys.argv[1:]
pair.join(rank, port)

from swe_aem.train import grpo, loop  # noqa: E402
from tests.train.branched import BranchedSteps  # noqa: E402
from tests.train.killable import DEALT, configuration  # noqa: E402

widths: list[int] = []
trimmed = grpo.trimmed


def watched(inputs: dict[str, Any]) -> dict[str, Any]:
    """Of the passes that train, not of those that score."""
    left = trimmed(inputs)
    if "advantages" in inputs:
        widths.append(left["prompt_ids"].size(1) + left["completion_ids"].size(1))
    return left


grpo.trimmed = watched
pair.meet(port)
config = configuration(Path(model), 2, *DEALT, f"collective_timeout_s={limit}", *settings)
loop.train(config, Path(out), BranchedSteps)
print(json.dumps(widths))
