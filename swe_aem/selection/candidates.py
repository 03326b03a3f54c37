"""The samples of a store among which is chosen."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from swe_aem.core import Outcome, TrajectoryKey
from swe_aem.core.base import Frozen
from swe_aem.core.outcomes import in_baseline, is_resolved
from swe_aem.errors import UserError
from swe_aem.selection.patches import Patch, read_patch
from swe_aem.store import Store, StoredRow, existing_store

_SHOWN = 5


class Candidate(Frozen):
    """One sample of a task."""

    task_id: str
    sample: int
    model: str
    patch: Patch
    resolved: bool | None
    """Did it resolve its task? None without a verdict. Nothing that chooses reads this."""

    @property
    def key(self) -> TrajectoryKey:
        """Which sample it is."""
        return TrajectoryKey(self.task_id, self.sample)


class Candidates(NamedTuple):
    """What a store offers."""

    store: Store
    rows: Mapping[TrajectoryKey, StoredRow]
    tasks: Mapping[str, Sequence[Candidate]]
    """By task id, sorted; each task's by sample."""
    notes: tuple[str, ...]
    """What a person should know, one sentence each."""


def read_candidates(directory: Path) -> Candidates:
    """The candidates of a store: samples that say something about the policy, and those that only the grader failed.

    Raises `UserError` where there is nothing to choose from.
    """
    store = existing_store(directory)
    rows = store.index() if store.folder.is_dir() else {}
    if not rows:
        raise UserError(f"{directory} holds no trajectories: name the --out of `swe-aem rollout --group-size 8`")
    found: dict[str, list[Candidate]] = defaultdict(list)
    failed: list[TrajectoryKey] = []
    for key, row in sorted(rows.items()):
        one = store.load(row)
        judged = in_baseline(one)
        if not judged and not (one.outcome is Outcome.GRADER_FAILURE and one.patch.strip()):
            failed.append(key)
            continue
        found[one.task_id].append(
            Candidate(
                task_id=one.task_id,
                sample=one.sample,
                model=one.model or one.agent,
                patch=read_patch(one.patch),
                resolved=is_resolved(one) if judged else None,
            )
        )
    every = [one for many in found.values() for one in many]
    if all(one.patch.empty for one in every):
        raise UserError(f"no trajectory in {directory} has a patch: `swe-aem inspect {directory}` shows what they did")
    if all(len(many) < 2 for many in found.values()):
        raise UserError(
            f"{directory} has one sample of each task, so there is nothing to choose from: roll out more into another "
            "--out, with --group-size 8 and a temperature above 0"
        )
    return Candidates(store, rows, dict(found), tuple(_notes(directory, every, failed, found)))


def _notes(
    directory: Path,
    every: Sequence[Candidate],
    failed: Sequence[TrajectoryKey],
    found: Mapping[str, Sequence[Candidate]],
) -> list[str]:
    notes = []
    if failed:
        notes.append(
            f"{len(failed)} samples left out, for infrastructure failed or their task is broken ({_some(failed)}): "
            "repeat the rollout to try them again"
        )
    ungraded = [one.key for one in every if one.resolved is None]
    if ungraded:
        notes.append(
            f"{len(ungraded)} samples have no verdict and can be chosen, but are in no rate ({_some(ungraded)}): "
            f"`swe-aem grade --predictions {directory} --out DIR` grades them"
        )
    single = [id for id, many in found.items() if len(many) == 1]
    if single:
        notes.append(f"{len(single)} tasks have one sample, which is their choice: {_some(single)}")
    return notes


def _some(names: Sequence[object]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(map(str, names[:_SHOWN])) + more
