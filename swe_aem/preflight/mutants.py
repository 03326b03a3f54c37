"""Mutants of a gold patch: the same patch with one small bug in the lines that it changes, or with a part left out.

Pure and deterministic. Two that are the same program count once; what is the untouched file's program is no mutant but
the task itself.
"""

import ast
import hashlib
import warnings
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Literal, assert_never

from swe_aem.grading import LINK, Blob, Change, printable
from swe_aem.preflight.hunks import changed_lines, hunks, without_hunk
from swe_aem.preflight.same_program import meaning, runs_nothing
from swe_aem.preflight.source_text import find_text_edits
from swe_aem.tasks.synthesis.mutate import RULES, find_edits
from swe_aem.tasks.synthesis.mutate_branches import omissions
from swe_aem.tasks.synthesis.mutate_values import quoted_constants
from swe_aem.tasks.synthesis.slips import local_names
from swe_aem.tasks.synthesis.source import Edit, Source

_RULES = (*RULES, ("constant", quoted_constants), ("missing_statement", omissions))
_MORE_RULES = (("wrong_name", local_names),)
"""Make so many that they come after all others."""
_LOG_METHODS = frozenset({"debug", "info", "warning", "warn", "error", "exception", "critical", "log", "print"})
_HELP_ARGUMENTS = frozenset({"help", "help_text", "description", "verbose_name", "doc", "message", "msg"})
_SHOWN_CHARACTERS = 40


@dataclass(frozen=True)
class Mutant:
    """One wrong patch."""

    what: str
    """Where it differs from the gold patch, and how; one line."""
    changes: tuple[Change, ...]
    """The whole patch."""


@dataclass(frozen=True)
class Mutants:
    """The mutants of one gold patch."""

    made: tuple[Mutant, ...]
    equivalent: int
    """How many more were met on the way that are the gold patch's own program."""


def make_mutants(gold: Sequence[Change], count: int, seed: str) -> Mutants:
    """At most `count` mutants of a gold patch, half of them partial patches where there are that many.

    The same changes, count and seed give the same mutants.
    """
    maker = _Maker(tuple(gold), seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)
        partial, mutated = maker.partial(), maker.mutated()
        made = list(islice(partial, (count + 1) // 2))
        made += islice(mutated, count - len(made))
        made += islice(partial, count - len(made))
    return Mutants(tuple(made), maker.equivalent)


@dataclass(frozen=True)
class _Candidate:
    """One path of the gold patch as it might be."""

    what: str
    change: Change
    new: Blob | None
    """What is there in place of the gold patch's."""
    place: str = ""
    """Where it differs."""
    rank: tuple[int, int] = (0, 0)
    """Those of a higher rank come later."""


class _Maker:
    """Tells mutants from what is none, in an order that the seed decides."""

    def __init__(self, gold: tuple[Change, ...], seed: str) -> None:
        self._gold = gold
        self._seed = seed
        self._seen: set[tuple[str, object]] = set()
        self._meanings = {
            change.path: (_meaning_or_text(change, change.new), _meaning_or_text(change, change.old)) for change in gold
        }
        self._effective = {change.path for change in gold if self._has_effect(change)}
        self.equivalent = 0

    def partial(self) -> Iterator[Mutant]:
        """The patch without one file or one hunk; not without a removal: that a file is still there says little."""
        return self._real([one for change in self._gold if change.new is not None for one in self._parts(change)])

    def mutated(self) -> Iterator[Mutant]:
        """The patch with one small bug: one bug of each place, then another of each."""
        turns, ranked = Counter[str](), list[_Candidate]()
        for one in sorted((one for change in self._gold for one in _bugs(change)), key=self._order):
            ranked.append(replace(one, rank=(one.rank[0], turns[one.place])))
            turns[one.place] += 1
        return self._real(ranked)

    def _parts(self, change: Change) -> Iterator[_Candidate]:
        path = printable(change.path)
        yield _Candidate(f"{path}: left out", change, change.old)
        if change.new is None or change.old is None or LINK in (change.new.mode, change.old.mode):
            return
        found = hunks(change.old.content, change.new.content)
        for hunk in found if len(found) > 1 else ():
            content = without_hunk(change.old.content, change.new.content, hunk)
            yield _Candidate(
                f"{path}:{hunk.new_start + 1}: change left out", change, change.new._replace(content=content)
            )

    def _real(self, candidates: Sequence[_Candidate]) -> Iterator[Mutant]:
        for candidate in sorted(candidates, key=self._order):
            match self._kind(candidate):
                case "equivalent":
                    self.equivalent += 1
                case "mutant":
                    yield Mutant(candidate.what, self._patch(candidate))
                case "none":
                    pass
                case unknown:
                    assert_never(unknown)

    def _order(self, candidate: _Candidate) -> tuple[tuple[int, int], str]:
        content = b"-" if candidate.new is None else candidate.new.content
        key = f"{self._seed}\0{candidate.change.path}\0".encode("utf-8", "surrogateescape")
        return candidate.rank, hashlib.sha256(key + content).hexdigest()

    def _kind(self, candidate: _Candidate) -> Literal["mutant", "equivalent", "none"]:
        """None is what was made before, what is the task itself, and what is no program."""
        change = candidate.change
        gold, before = self._meanings[change.path]
        try:
            found = _meaning(change, candidate.new)
        except SyntaxError:
            if gold != change.new:
                return "none"
            found = candidate.new  # nor is the gold patch a program of this Python's
        if change.path not in self._effective or found == gold:
            return "equivalent"
        if (change.path, found) in self._seen:
            return "none"
        self._seen.add((change.path, found))
        if self._effective == {change.path} and found == before:
            return "none"
        return "mutant"

    def _has_effect(self, change: Change) -> bool:
        gold, before = self._meanings[change.path]
        return gold != before and not runs_nothing(change.path)

    def _patch(self, candidate: _Candidate) -> tuple[Change, ...]:
        others = [change for change in self._gold if change is not candidate.change]
        if candidate.new == candidate.change.old:
            return tuple(others)
        return (*others, replace(candidate.change, new=candidate.new))


def _meaning(change: Change, blob: Blob | None) -> object:
    """Equal for what is the same program at the path of a change; raises `SyntaxError` for what is none."""
    if blob is None or blob.mode == LINK:
        return blob
    return blob.mode, meaning(change.path, blob.content)


def _meaning_or_text(change: Change, blob: Blob | None) -> object:
    try:
        return _meaning(change, blob)
    except SyntaxError:
        return blob


def _bugs(change: Change) -> Iterator[_Candidate]:
    """The file of a change with one small bug in lines that the change made."""
    if change.new is None or change.new.mode == LINK or runs_nothing(change.path):
        return
    content = change.new.content
    lines = changed_lines(b"" if change.old is None else change.old.content, content)
    try:
        text = content.decode()
        edits = list(_python_edits(text, lines) if change.path.endswith(".py") else find_text_edits(change.path, text))
    except (SyntaxError, ValueError, RecursionError):  # another encoding, another Python's syntax
        return
    for kind, edit in edits:
        first = content.count(b"\n", 0, edit.start) + 1
        last = first + content.count(b"\n", edit.start, max(edit.start, edit.end - 1))
        if lines.issuperset(range(first, last + 1)):
            column = edit.start - content.rfind(b"\n", 0, edit.start)
            old = content[edit.start : edit.end].decode()
            new = content[: edit.start] + edit.replacement.encode() + content[edit.end :]
            place = f"{printable(change.path)}:{first}:{column}"
            what = f"{place}: {kind}: {_shown(old)} -> {_shown(edit.replacement)}"
            rank = (int(kind in dict(_MORE_RULES)), 0)
            yield _Candidate(what, change, change.new._replace(content=new), place, rank)


def _shown(text: str) -> str:
    line = printable(" ".join(text.split()))
    return f"`{line}`" if len(line) <= _SHOWN_CHARACTERS else f"`{line[: _SHOWN_CHARACTERS - 3]}...`"


def _python_edits(text: str, lines: Collection[int]) -> Iterator[tuple[str, Edit]]:
    source = Source(text)
    spared = [(source.start(node), source.end(node)) for node in _spared(source.tree)]
    sums = {(source.start(node), source.end(node)) for node in _sums(source.tree)}
    for kind, edit in find_edits(source, (*_RULES, *_MORE_RULES), lines):
        is_swapped_sum = kind == "swapped_arguments" and (edit.start, edit.end) in sums
        if not is_swapped_sum and not any(start <= edit.start and edit.end <= end for start, end in spared):
            yield kind, edit


def _sums(tree: ast.Module) -> Iterator[ast.BinOp]:
    """Additions without a literal of a text or list: of numbers, most likely, which may be swapped."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.BinOp) or not isinstance(node.op, ast.Add):
            continue
        if not _is_sequence(node.left) and not _is_sequence(node.right):
            yield node


def _is_sequence(node: ast.expr) -> bool:
    is_text = isinstance(node, ast.Constant) and isinstance(node.value, str | bytes)
    return is_text or isinstance(node, ast.JoinedStr | ast.List | ast.ListComp | ast.Tuple)


def _spared(tree: ast.Module) -> Iterator[ast.expr | ast.stmt]:
    """Code that no test should have to look at: log lines, warnings, prints, help texts, `__all__` and the like."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            if _is_log_call(node.func):
                yield node
            yield from (keyword.value for keyword in node.keywords if keyword.arg in _HELP_ARGUMENTS)
        elif isinstance(node, ast.Assign) and all(_is_dunder(target) for target in node.targets):
            yield node


def _is_log_call(function: ast.expr) -> bool:
    if isinstance(function, ast.Name):
        return function.id in ("print", "warn")
    if not isinstance(function, ast.Attribute) or function.attr not in _LOG_METHODS:
        return False
    owner = function.value
    name = owner.id if isinstance(owner, ast.Name) else owner.attr if isinstance(owner, ast.Attribute) else ""
    return "log" in name.lower() or name == "warnings"


def _is_dunder(target: ast.expr) -> bool:
    return isinstance(target, ast.Name) and target.id.startswith("__") and target.id.endswith("__")
