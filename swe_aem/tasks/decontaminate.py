"""Tasks that overlap with an evaluation set: of the same repository, or with (nearly) the same problem text.

Text is compared as words: lower case, letters and digits only. Two texts are near if most runs of eight words of the
shorter one are in the other, which survives edits, other formatting and added paragraphs.
"""

import re
from collections import defaultdict
from collections.abc import Iterable
from typing import Literal, assert_never

from swe_aem.core import TaskRecord
from swe_aem.core.base import Frozen

SHINGLE_WORDS = 8
NEAR = 0.5
"""Share of the shorter text's shingles that the other text must have for both to count as near."""
_WORDS = re.compile(r"[^\W_]+")


class Contamination(Frozen):
    """Why a task must not be trained on."""

    task_id: str
    kind: Literal["repository", "same text", "near text"]
    other: str
    """The repository, or the id of the evaluation task with that text."""
    share: float = 1.0
    """For near texts: share of the shorter text's shingles that both have."""

    def __str__(self) -> str:
        match self.kind:
            case "repository":
                return f"{self.other} is a repository of the evaluation set"
            case "same text":
                return f"same text as {self.other}"
            case "near text":
                return f"near text as {self.other}, {self.share:.0%} in common"
            case unknown:
                assert_never(unknown)


def contaminated(
    records: Iterable[TaskRecord],
    evaluation: Iterable[TaskRecord],
    *,
    by_repository: bool = True,
    near: float = NEAR,
) -> list[Contamination]:
    """The first reason for each contaminated record, in the order of the records."""
    known = _Known(evaluation)
    found = (known.reason(record, by_repository=by_repository, near=near) for record in records)
    return [reason for reason in found if reason is not None]


class _Known:
    """An evaluation set, indexed."""

    def __init__(self, records: Iterable[TaskRecord]) -> None:
        self._repositories: set[str] = set()
        self._texts: dict[tuple[str, ...], str] = {}
        self._sizes: dict[str, int] = {}
        self._holders: dict[tuple[str, ...], set[str]] = defaultdict(set)
        for record in records:
            self._repositories.add(record.task.repo.lower())
            words = _words(record.task.problem_statement)
            self._texts.setdefault(words, record.task.id)
            shingles = _shingles(words)
            self._sizes[record.task.id] = len(shingles)
            for shingle in shingles:
                self._holders[shingle].add(record.task.id)

    def reason(self, record: TaskRecord, *, by_repository: bool, near: float) -> Contamination | None:
        """Why a record is contaminated; None if it is not."""
        id = record.task.id
        if by_repository and record.task.repo.lower() in self._repositories:
            return Contamination(task_id=id, kind="repository", other=record.task.repo)
        words = _words(record.task.problem_statement)
        if words in self._texts:
            return Contamination(task_id=id, kind="same text", other=self._texts[words])
        shingles = _shingles(words)
        common: dict[str, int] = defaultdict(int)
        for shingle in shingles:
            for holder in self._holders.get(shingle, ()):
                common[holder] += 1
        shares = {holder: count / min(len(shingles), self._sizes[holder]) for holder, count in common.items()}
        holder = max(sorted(shares), key=shares.__getitem__, default=None)
        if holder is None or shares[holder] < near:
            return None
        return Contamination(task_id=id, kind="near text", other=holder, share=shares[holder])


def _words(text: str) -> tuple[str, ...]:
    return tuple(_WORDS.findall(text.lower()))


def _shingles(words: tuple[str, ...]) -> set[tuple[str, ...]]:
    """Every run of `SHINGLE_WORDS` words; a shorter text is one shingle."""
    if len(words) <= SHINGLE_WORDS:
        return {words} if words else set()
    return {words[start : start + SHINGLE_WORDS] for start in range(len(words) - SHINGLE_WORDS + 1)}
