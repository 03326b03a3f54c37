"""Seeds of requests."""

import hashlib
import json


def request_seed(seed: int, task_id: str, sample: int, turn: int) -> int:
    """48 bits that differ from request to request and are the same in a repeated run."""
    digest = hashlib.sha256(json.dumps([seed, task_id, sample, turn]).encode()).digest()
    return int.from_bytes(digest[:6], "big")
