"""The generator of synthetic task sets: mutations that the tests notice, written as SWE-bench rows.

Command: `swe-aem tasks synth --packages tasks/micro/packages --out tasks/micro --seed 0`.
The same packages, seed and sizes give the same bytes on every machine with the same minor version of Python.
"""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from swe_aem.core.base import Frozen
from swe_aem.errors import UserError
from swe_aem.tasks.packages import PackageStore, read_package
from swe_aem.tasks.synthesis.codebase import Codebase, micro_codebase
from swe_aem.tasks.synthesis.instance import make_row
from swe_aem.tasks.synthesis.mutate import KINDS, Mutation, find_mutations
from swe_aem.tasks.synthesis.probe_pool import open_pool
from swe_aem.tasks.synthesis.probe_result import ProbeResult

TRAIN, HELDOUT = "train", "heldout"
_HELDOUT_PACKAGES = 0.25
"""Share of packages that are held out as a whole."""
_HELDOUT_FUNCTIONS = 0.1
"""Share of functions that are held out in the other packages."""
Progress = Callable[[str, int, int], None]
"""Called with a package's name, rows of it made so far, rows wanted of it; equal numbers mean its end."""


def silent(package: str, done: int, wanted: int) -> None:
    """Reports no progress."""


class Prober(Protocol):
    """Runs a package's suite with one mutation at a time."""

    @property
    def batch(self) -> int:
        """How many mutations to ask about at once."""
        ...

    def map(self, mutations: Sequence[Mutation]) -> list[ProbeResult | None]:
        """Results of the mutations, in their order; None where the suite hung or crashed."""
        ...


class Sizes(Frozen):
    """How many rows to make, and how to choose them."""

    seed: int = 0
    """Decides which mutations are taken and how they are split."""
    per_package: int = 63
    """Rows per package at most; each kind of mutation gets an equal share."""
    per_function: int = 3
    """Rows per kind and function at most, so that a long function does not fill the set."""
    tries: int | None = None
    """Mutations per kind that are tried at most; all if None."""


class SynthConfig(Sizes):
    """Settings of the generator."""

    packages: Path
    """Directory with one directory per package."""
    only: tuple[str, ...] = ()
    """Names of packages to use; all if empty."""
    jobs: int = os.cpu_count() or 1
    """Test runs at the same time. Does not change the result."""


def synthesize(config: SynthConfig, progress: Progress = silent) -> dict[str, list[Any]]:
    """Generate rows; returns them by split, sorted by id.

    Raises `UserError` if a package is missing or its own tests do not pass.
    """
    if config.per_package < len(KINDS):
        raise UserError(f"per_package is {config.per_package}; give at least {len(KINDS)}, one for each kind")
    if not config.packages.is_dir():
        raise UserError(f"{config.packages}: no such directory; give the one that holds the packages")
    names = PackageStore(config.packages).names()
    unknown = sorted(set(config.only) - set(names))
    if unknown or not names:
        raise UserError(f"{config.packages}: has no package {', '.join(unknown) or 'at all'}")
    chosen = [name for name in names if not config.only or name in config.only]
    rows = [row for name in chosen for row in package_rows(name, config, progress)]
    return split_rows(rows, names, config.seed)


def package_rows(name: str, config: SynthConfig, progress: Progress) -> Iterator[dict[str, Any]]:
    """Rows of one package, kind by kind."""
    codebase = micro_codebase(name, read_package(config.packages / name))
    with open_pool(codebase, config.jobs) as pool:
        _check_clean(codebase, pool)
        yield from codebase_rows(codebase, config, pool, progress)


def codebase_rows(
    codebase: Codebase, sizes: Sizes, prober: Prober, progress: Progress = silent
) -> Iterator[dict[str, Any]]:
    """Rows made from a package whose own tests pass."""
    quota = sizes.per_package // len(KINDS)
    done, wanted = 0, quota * len(KINDS)
    progress(codebase.name, done, wanted)
    candidates = _candidates(codebase, sizes.seed)
    for kind in KINDS:
        for row in _take(codebase, candidates[kind][: sizes.tries], prober, quota, sizes.per_function):
            yield row
            done += 1
            if done < wanted:
                progress(codebase.name, done, wanted)
    progress(codebase.name, done, done)  # fewer than wanted if a kind ran out of candidates


def split_rows(rows: Iterable[dict[str, Any]], names: list[str], seed: int) -> dict[str, list[Any]]:
    """Rows by split, sorted by id; `names` are all packages of the set."""
    heldout = heldout_packages(names, seed)
    splits: dict[str, list[Any]] = {TRAIN: [], HELDOUT: []}
    for row in sorted(rows, key=lambda row: row["instance_id"]):
        held = row["package"] in heldout or is_heldout_function(row["package"], row["function"], seed)
        splits[HELDOUT if held else TRAIN].append(row)
    return splits


def _check_clean(codebase: Codebase, prober: Prober) -> None:
    """Refuse a package whose own tests do not pass, or that has none."""
    if not codebase.tests:
        raise UserError(f"package {codebase.name} has no tests/test_*.py")
    result = prober.map([unchanged(codebase)])[0]
    if result is None or not result.collected or result.failed or not result.passed:
        failed = ", ".join(result.failed[:3]) if result else "the run did not end"
        raise UserError(
            f"package {codebase.name}: its own tests do not pass ({failed or 'collection failed'}); fix them first"
        )


def unchanged(codebase: Codebase) -> Mutation:
    """A mutation that changes nothing: with it a probe runs the clean suite."""
    path = codebase.tests[0]
    return Mutation(path, "", "", codebase.files[path])


def _candidates(codebase: Codebase, seed: int) -> dict[str, list[Mutation]]:
    """Mutations of the package's modules by kind, in an order that the seed decides."""
    found: dict[str, list[Mutation]] = {kind: [] for kind in KINDS}
    for path in codebase.sources:
        for mutation in find_mutations(path, codebase.files[path]):
            found[mutation.kind].append(mutation)
    for mutations in found.values():
        mutations.sort(key=lambda mutation: _digest(seed, mutation.path, mutation.text))
    return found


def _take(
    codebase: Codebase, candidates: list[Mutation], prober: Prober, quota: int, per_function: int
) -> Iterator[dict[str, Any]]:
    """Rows of the first `quota` candidates that qualify; the prober's size does not change which ones."""
    taken: Counter[str] = Counter()
    position = 0
    while position < len(candidates) and taken.total() < quota:
        batch = candidates[position : position + prober.batch]
        position += len(batch)
        for mutation, result in zip(batch, prober.map(batch), strict=True):
            if taken.total() == quota or taken[mutation.function] == per_function:
                continue
            row = make_row(codebase, mutation, result) if result and _qualifies(codebase.counted(result)) else None
            if row is not None:
                taken[mutation.function] += 1
                yield row


def _qualifies(result: ProbeResult) -> bool:
    """Did the suite run to its end, and did some tests notice the bug and others not?"""
    return result.collected and not result.exhausted and bool(result.failed and result.passed)


def heldout_packages(names: list[str], seed: int) -> set[str]:
    """The packages that are held out as a whole: a quarter, at least one if there are two or more."""
    count = max(round(len(names) * _HELDOUT_PACKAGES), 1 if len(names) > 1 else 0)
    return set(sorted(names, key=lambda name: _digest(seed, name))[:count])


def is_heldout_function(package: str, function: str, seed: int) -> bool:
    """Is a function of a package that is not held out as a whole held out itself?"""
    return int(_digest(seed, package, function)[:8], 16) < _HELDOUT_FUNCTIONS * 2**32


def _digest(seed: int, *parts: str) -> str:
    return hashlib.sha256("\0".join([str(seed), *parts]).encode()).hexdigest()


def write_rows(path: Path, rows: list[Any]) -> None:
    """Write rows as JSONL: ASCII only, so that no reader splits a line inside a string."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=True) + "\n" for row in rows), encoding="ascii")
