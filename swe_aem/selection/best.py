"""What a way of choosing reaches: best@k, the chance that what it chooses among k samples resolves the task.

For fewer samples than there are it is the mean over all sets of k of them, or over many drawn by chance; each set is
scored by itself, so that the tests and the majority of no other sample decide.
"""

import itertools
import math
import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from swe_aem.core import TrajectoryKey
from swe_aem.core.base import Frozen
from swe_aem.evaluate import Estimate, clustered
from swe_aem.selection.candidates import Candidate

_MOST_SETS = 1000
"""So many sets of k samples of a task are tried; of more, as many are drawn."""


class Way(Protocol):
    """Scores the samples of a task."""

    @property
    def name(self) -> str:
        """One of `WAYS`."""
        ...

    def knows(self, among: Sequence[Candidate]) -> bool:
        """Is everything known that scoring these needs?"""
        ...

    def scores(self, among: Sequence[Candidate]) -> Mapping[int, float]:
        """A score by sample; more is better."""
        ...


@dataclass(frozen=True)
class ByMajority:
    """Scores a sample by how many of the others changed the program alike."""

    name: str = field(default="majority", init=False)

    def knows(self, among: Sequence[Candidate]) -> bool:
        """Always."""
        return True

    def scores(self, among: Sequence[Candidate]) -> dict[int, float]:
        """The share of these that are equal to each."""
        equal = Counter(one.patch.key for one in among)
        return {one.sample: equal[one.patch.key] / len(among) for one in among}


@dataclass(frozen=True)
class ByScore:
    """Scores that do not depend on other samples."""

    name: str
    known: Mapping[TrajectoryKey, float]

    def knows(self, among: Sequence[Candidate]) -> bool:
        """Does every sample have one?"""
        return all(one.key in self.known for one in among)

    def scores(self, among: Sequence[Candidate]) -> dict[int, float]:
        """Those of these."""
        return {one.sample: self.known[one.key] for one in among}


class BestAtK(Frozen):
    """What a way reaches with k samples."""

    k: int
    estimate: Estimate | None
    """None if no task has so many samples whose scores are known."""
    tasks: int
    """Tasks that it is the mean over."""


def choose(way: Way, among: Sequence[Candidate]) -> Candidate:
    """The sample with the best score. Among equal scores what most samples changed alike, then the lowest number; what
    changes nothing of the program only where nothing else is there."""
    scores, equal = way.scores(among), Counter(one.patch.key for one in among)
    return max(among, key=lambda one: (not one.patch.empty, scores[one.sample], equal[one.patch.key], -one.sample))


def best_at_k(way: Way, tasks: Iterable[Sequence[Candidate]], k: int) -> BestAtK:
    """best@k over the tasks with at least k samples that have a verdict, each of which weighs the same."""
    values, most = [], 0
    for many in tasks:
        judged = [one for one in many if one.resolved is not None]
        if len(judged) < k or not way.knows(judged):
            continue
        chosen = [choose(way, among).resolved for among in _sets(judged, k)]
        values.append(math.fsum(map(bool, chosen)) / len(chosen))
        most += len(judged) // k
    return BestAtK(k=k, estimate=clustered(values, most) if values else None, tasks=len(values))


def _sets(judged: Sequence[Candidate], k: int) -> list[Sequence[Candidate]]:
    if math.comb(len(judged), k) <= _MOST_SETS:
        return list(itertools.combinations(judged, k))
    draw = random.Random(f"{judged[0].task_id} {k}")
    return [draw.sample(judged, k) for _ in range(_MOST_SETS)]
