"""Seeds of requests."""

import hashlib
import json


def request_seed(seed: int, task_id: str, sample: int, turn: int) -> int:
    """A seed of 48 bits: different for every request of a run, and the same when the run is repeated."""
    digest = hashlib.sha256(json.dumps([seed, task_id, sample, turn]).encode()).digest()
    return int.from_bytes(digest[:6], "big")
