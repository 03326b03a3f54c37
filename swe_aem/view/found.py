"""`find_runs`: which directories below those that were named hold something to look at, and what each is."""

import os
import re
from collections.abc import Iterator, Sequence
from enum import StrEnum
from pathlib import Path

from swe_aem.core.base import Frozen
from swe_aem.errors import UserError
from swe_aem.store.graded import FILE as VERDICTS
from swe_aem.train.directory import HELDOUT, ROLLOUTS
from swe_aem.train.records import METRICS

DEPTH = 4
"""Directories below a named one are searched so deep."""
_STORE = "trajectories"
_RESERVED = ("static", "compare", "compare-runs")
"""First parts of paths that are not the name of a run."""
_UNSAFE = re.compile(r"[^A-Za-z0-9._~+-]+")


class Kind(StrEnum):
    """What a run is."""

    ROLLOUTS = "rollouts"
    """A store of trajectories: the --out of `rollout` or `bench`, or an evaluation of a training run."""
    TRAINING = "training"
    """The --out of `train`; its stores are runs of their own."""
    GRADES = "grades"
    """The --out of `grade`: verdicts without trajectories."""


class Run(Frozen):
    """A directory that holds something to look at."""

    name: str
    """Unique among all that were found, and made of characters that a URL and a file name can hold."""
    directory: Path
    kind: Kind
    part_of: str | None = None
    """Name of the training run whose store this is."""


def kind_of(directory: Path) -> Kind | None:
    """What a directory holds, None if it is no run."""
    if (directory / METRICS).is_file() or (directory / ROLLOUTS / _STORE).is_dir():
        return Kind.TRAINING
    if (directory / _STORE).is_dir():
        return Kind.ROLLOUTS
    return Kind.GRADES if (directory / VERDICTS).is_file() else None


def find_runs(directories: Sequence[Path], known: Sequence[Run] = ()) -> list[Run]:
    """All runs in `directories` and below them, each once; those in `known` keep their names. Raises `UserError` for a
    directory that is not there; one without any run is no error, for a run may begin later."""
    names = {run.directory.resolve(): run.name for run in known}
    runs: dict[Path, Run] = {}
    for directory in directories:
        if not directory.is_dir():
            raise UserError(f"{directory}: no such directory; name the --out of a rollout, train, bench or grade")
        for found in _below(directory, DEPTH):
            if found.resolve() not in runs:
                for run in _named(found, names):
                    runs[run.directory.resolve()] = run
    return list(runs.values())


def _below(directory: Path, depth: int) -> Iterator[Path]:
    if kind_of(directory) is not None:
        yield directory
    elif depth:
        try:
            inside = sorted(entry.path for entry in os.scandir(directory) if entry.is_dir(follow_symlinks=False))
        except OSError:
            return  # one that may not be read holds nothing for us
        for path in inside:
            yield from _below(Path(path), depth - 1)


def _named(directory: Path, names: dict[Path, str]) -> Iterator[Run]:
    """A run and, of a training run, its stores. New names are added to `names`."""
    kind = kind_of(directory)
    assert kind is not None
    name = names.setdefault(directory.resolve(), _unused(directory, {*names.values(), *_RESERVED}))
    yield Run(name=name, directory=directory, kind=kind)
    if kind is Kind.TRAINING:
        for store in (directory / ROLLOUTS, *sorted((directory / HELDOUT).glob("*"))):
            if (store / _STORE).is_dir():
                own = names.setdefault(store.resolve(), f"{name}+{_UNSAFE.sub('-', store.name)}")
                yield Run(name=own, directory=store, kind=Kind.ROLLOUTS, part_of=name)


def _unused(directory: Path, taken: set[str]) -> str:
    """The directory's own name; with its parents' names, and then a number, where that is taken."""
    parts = [_UNSAFE.sub("-", part).strip(".") or "run" for part in directory.resolve().parts[1:]] or ["run"]
    for length in range(1, len(parts) + 1):
        if (name := "~".join(parts[-length:])) not in taken:
            return name
    return next(name for number in range(2, 1 << 20) if (name := f"{parts[-1]}~{number}") not in taken)
