"""A trajectory of a run, and what is beside it, by the names that a page's path has."""

from pathlib import Path

from swe_aem.core import Trajectory, TrajectoryKey
from swe_aem.errors import UserError
from swe_aem.store import Store, StoredRow
from swe_aem.store.trajectory_row import Excerpt
from swe_aem.train.directory import ROLLOUTS
from swe_aem.view.found import Kind, Run
from swe_aem.view.index import Neighbours
from swe_aem.view.listed import Listed
from swe_aem.view.site import Asked, Crumb, NotThere, Site


def store_of(run: Run) -> Path:
    """The directory of a run's store; of a training run, that of its rollouts. Raises `NotThere` for a run without."""
    if run.kind is Kind.GRADES:
        raise NotThere(f"{run.name} holds verdicts on patches, and no trajectories")
    return run.directory / ROLLOUTS if run.kind is Kind.TRAINING else run.directory


def key_of(task: str, sample: str) -> TrajectoryKey:
    """The key that a path names; raises `NotThere` where there is none like it."""
    if not sample.isascii() or not sample.isdigit() or len(sample) > 9:
        raise NotThere(f"{sample} is no number of a sample")
    return TrajectoryKey(task, int(sample))


def branch_asked(one: Trajectory, number: str) -> int | None:
    """Index of the branch that a query names by its number, from 1; None for the trajectory's own stream. Raises
    `NotThere`."""
    if not number:
        return None
    is_number = number.isascii() and number.isdigit() and len(number) < 10
    if not is_number or not 1 <= int(number) <= len(one.branches):
        raise NotThere(f"there is no branch {number}; this trajectory has {len(one.branches)}")
    return int(number) - 1


def load(site: Site, run: Run, key: TrajectoryKey) -> Trajectory:
    """A stored trajectory; raises `NotThere`."""
    try:
        return site.index(run).load(key)
    except UserError:  # not indexed yet: it is looked for
        store = Store(store_of(run))
        return store.load(_found(store, run, key))


def load_excerpt(site: Site, run: Run, key: TrajectoryKey, turns: range) -> Excerpt:
    """A stored trajectory with the texts of some turns, as `excerpt` says; raises `NotThere`."""
    try:
        return site.index(run).load_excerpt(key, turns)
    except UserError:
        store = Store(store_of(run))
        return store.load_excerpt(_found(store, run, key), turns)


def _found(store: Store, run: Run, key: TrajectoryKey) -> StoredRow:
    if (row := store.index().get(key)) is None:
        raise NotThere(f"{run.name} has no trajectory {key}")
    return row


def beside(site: Site, run: Run, key: TrajectoryKey, wanted: Listed) -> Neighbours:
    """A trajectory's group, and its neighbours in the list that it was reached from; nothing before it is indexed."""
    index = site.index(run)
    index.refresh()
    return index.neighbours(key, wanted.filter, wanted.order)


def group_of(site: Site, run: Run, one: Trajectory) -> list[Trajectory]:
    """All trajectories of a trajectory's group. Raises `UserError` where it is not indexed yet."""
    keys = [member.key for member in beside(site, run, one.key, Listed()).group]
    if one.key not in keys:
        raise UserError("The store is not indexed that far: its group is not known yet. Open the page again")
    return [one if key == one.key else load(site, run, key) for key in keys]


def crumbs(site: Site, asked: Asked, run: Run, key: TrajectoryKey | None = None) -> tuple[Crumb, ...]:
    """The pages above one about a run, or about a trajectory of it where a key is given."""
    found = []
    if run.part_of is not None and "run" in site.pages:
        found.append(Crumb(run.part_of, asked.link("run", run=run.part_of)))
    if "run" in site.pages:
        found.append(Crumb(run.name, asked.link("run", run=run.name)))
    if "trajectories" in site.pages and run.kind is not Kind.GRADES:
        found.append(Crumb("trajectories", asked.link("trajectories", run=run.name)))
    if key is not None:
        found.append(Crumb(str(key), asked.link("trajectory", run=run.name, task=key.task_id, sample=str(key.sample))))
    return tuple(found)
