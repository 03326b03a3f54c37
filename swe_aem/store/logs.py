"""Kept logs: one file per verdict, `DIR/logs/<task id>.<sample>.zip`, beside the record of its trajectory.

A log is written before the record that it belongs to, so a record's log is there if one was kept.
"""

import hashlib
from pathlib import Path
from urllib.parse import quote

from swe_aem.core import TrajectoryKey
from swe_aem.store.files import replace

FOLDER = "logs"
_LONGEST = 200
"""Longer names are cut and end with a hash, for most file systems take 255 bytes."""


def log_path(directory: Path, key: TrajectoryKey) -> Path:
    """Where the log of a verdict lies in a store or a directory of `swe-aem grade`, whether or not one was kept."""
    name = quote(str(key), safe=" ,+=@[]", errors="surrogatepass")
    if len(name) > _LONGEST:
        digest = hashlib.sha256(name.encode()).hexdigest()[:16]
        name = f"{name[:_LONGEST]}-{digest}"
    return directory / FOLDER / f"{name}.zip"


def keep_log(directory: Path, key: TrajectoryKey, log: bytes) -> None:
    """Write the log of a verdict, durable on return; an empty one leaves none, not even that of a run that was killed
    before its record was written."""
    path = log_path(directory, key)
    if not log:
        path.unlink(missing_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    replace(path, log)
