"""`network_filesystem`: is a path on storage that other hosts have too?"""

import os
from pathlib import Path

_NETWORK = frozenset({"beegfs", "ceph", "cifs", "fuse.sshfs", "gpfs", "lustre", "nfs", "nfs4", "smb3"})


def network_filesystem(path: Path) -> str | None:
    """The type of the file system that a path is on, if a network is below it, as `nfs4`; None otherwise, and where
    that cannot be found out."""
    kind = _filesystem(path)
    return kind if kind in _NETWORK else None


def _filesystem(path: Path) -> str | None:
    """By the number of the device, which is the third field of a mount; its type follows ` - `."""
    try:
        device = path.stat().st_dev
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return None
    number = f"{os.major(device)}:{os.minor(device)}"
    return next((line.partition(" - ")[2].split()[0] for line in mounts if line.split()[2] == number), None)
