"""Trajectories whose reward function failed: kept beside the store, until a rerun has paid them.

They have an outcome, a verdict and their log, and are in no group, rate or summary before they have a reward.
"""

import shutil
from pathlib import Path

from swe_aem.reward import Rewards
from swe_aem.store import Store, StoreWriter, log_path

FOLDER = "unrewarded"
_TRAINED = "config.yaml"
"""The file by which a store's directory is found to be a part of a training run."""


def keep_unrewarded(directory: Path, line: bytes, log: bytes) -> None:
    """Keep the sealed line of a terminal trajectory without a reward beside the store in `directory`; durable on
    return."""
    with Store(directory / FOLDER).writer() as writer:
        writer.append_line(line, log)


def pay_unrewarded(writer: StoreWriter, rewards: Rewards) -> int:
    """Move what is kept beside the store into it, with rewards; returns how many there were.

    Raises `ExtensionFailed` as `Rewards` does; a later call continues there.
    """
    folder = writer.store.directory / FOLDER
    if not folder.is_dir():
        return 0
    kept = Store(folder)
    rows = kept.index()
    for key, row in rows.items():
        if key not in writer.rows:
            log = log_path(folder, key)
            writer.append(rewards(kept.load(row)), log.read_bytes() if log.exists() else b"")
    shutil.rmtree(folder)
    return len(rows)


def unrewarded_tasks(directory: Path) -> set[str]:
    """Ids of the tasks of which something is kept beside the store in `directory`."""
    return {key.task_id for key in Store(directory / FOLDER).completed()}


def kept_where(directory: Path) -> str:
    """What a person does about a reward function that failed in a run on that store."""
    run = next((one for one in list(directory.parents)[:2] if (one / _TRAINED).is_file()), directory)
    return (
        f"Nothing is lost: graded trajectories are kept in {directory / FOLDER}. If the function is right, repeat the "
        f"command. If you fix it, run `swe-aem recompute-rewards {run} --reward NAME --out NEW` first, and repeat it "
        "with --out NEW"
    )
