"""What a run of `killable.py` came to, without what depends on the clock."""

import json
from pathlib import Path
from typing import Any

from swe_aem.train.records import PHASES

_TIMES = (*PHASES, "step_s", "wall_s", "train_s", "step_time", "train_runtime")


def metrics(out: Path) -> list[dict[str, Any]]:
    """Its figures, step after step."""
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name not in _TIMES} for line in lines]


def weights(out: Path) -> bytes:
    """Those of the policy in its end."""
    return (out / "policy" / "model.safetensors").read_bytes()
