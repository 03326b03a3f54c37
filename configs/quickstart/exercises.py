"""`Exercises`: conversations in which one line is found and repaired, word for word as in rollouts of the agent `demo`.

Most are about functions that nobody wrote (`inventions`), with a slip or a bug of one of the kinds `SHOWN`. The others
are slips in functions of `tasks/nano`. None has a bug of a task, one of a kind that is new in the tasks, or a function
that is new there.
"""

import itertools
import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from swe_aem.policy.demonstrator import Repair
from swe_aem.tasks.library import Function, FunctionLibrary
from swe_aem.tasks.synthesis.compose import MODULES, NEW_FUNCTION, NEW_KINDS, part, replaced_line, statement
from swe_aem.tasks.synthesis.inventions import inventions, seen
from swe_aem.tasks.synthesis.mutate import RULES, Mutation, find_mutations
from swe_aem.tasks.synthesis.slips import SLIPS

Conversation = list[tuple[str, bool]]
"""Pieces of text, and whether the policy says them."""

SHOWN = tuple((kind, rule) for kind, rule in RULES if kind not in NEW_KINDS)
"""The kinds of bugs of tasks that exercises show too."""
_BUNDLED = 0.25
"""Share of the exercises that are about functions of `tasks/nano`."""
_ALONE = 0.3
"""Share of the modules that have one function and not two."""
_PER_FUNCTION = 3
"""Most exercises about one invented function."""
_BEFORE = 3
"""Lines that the search prints before the one that it finds."""
_LONGEST_SIGHT = 30
"""Characters of what a failing check sees, as it is written."""
_ISSUE = "<|im_start|>system\nRepair the function.<|im_end|>\n<|im_start|>user\n"
_ANSWER = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"


@dataclass(frozen=True)
class Exercise:
    """A bug, by the texts of its function, and what one check of it sees."""

    function: Function
    broken: str
    number: int
    """Of the check, from 1."""
    seen: str


class Exercises:
    """Exercises without end, of functions that `library` may show and of invented ones."""

    def __init__(self, library: FunctionLibrary, tasks_seed: int = 0) -> None:
        """`tasks_seed` is the seed of the tasks, which decides what functions are new."""
        functions = library.functions.values()
        self._all = tuple(functions)
        self.shown = tuple(one for one in functions if part(one.name, "", tasks_seed) != NEW_FUNCTION)

    def conversations(self, seed: str, hasty: float = 0.0) -> Iterator[Conversation]:
        """The same for the same seed. The share `hasty` edits without a search, as if it knew the line's place."""
        dice = random.Random(seed)
        earlier: list[Function] = []
        for invented in self._invented(dice):
            while dice.random() < _BUNDLED:
                bundled = dice.choice(self._bundled[dice.choice(sorted(self._bundled))])
                yield _conversation(bundled, self.shown, dice, hasty)
            yield _conversation(invented, earlier, dice, hasty)
            if invented.function not in earlier[-1:]:
                earlier = [*earlier[-199:], invented.function]

    def _invented(self, dice: random.Random) -> Iterator[Exercise]:
        for function in inventions(dice.getrandbits(64), self._all):
            by_kind = _by_kind(find_mutations(f"{function.name}.py", function.text, dice.choice((SLIPS, SHOWN))))
            found = 0
            for _ in range(4 * _PER_FUNCTION):
                if by_kind and found < _PER_FUNCTION:
                    kind = dice.choice(sorted(by_kind))
                    broken = by_kind[kind].pop(dice.randrange(len(by_kind[kind]))).text
                    by_kind = {kind: some for kind, some in by_kind.items() if some}
                    if noticed := list(_noticed(function, broken)):
                        found += 1
                        yield dice.choice(noticed)

    @cached_property
    def _bundled(self) -> Mapping[str, Sequence[Exercise]]:
        """Slips in functions of tasks by kind, without what is a bug of a task."""
        found: dict[str, list[Exercise]] = {}
        for function in self.shown:
            path = f"{function.name}.py"
            of_tasks = {mutation.text for mutation in find_mutations(path, function.text)}
            for mutation in find_mutations(path, function.text, SLIPS):
                if mutation.text not in of_tasks:
                    found.setdefault(mutation.kind, []).extend(_noticed(function, mutation.text))
        return found


def _by_kind(mutations: Sequence[Mutation]) -> dict[str, list[Mutation]]:
    ordered = sorted(mutations, key=lambda mutation: mutation.kind)
    return {kind: list(some) for kind, some in itertools.groupby(ordered, lambda mutation: mutation.kind)}


def _noticed(function: Function, broken: str) -> Iterator[Exercise]:
    """One for each check that notices the bug, if writing one line new repairs it."""
    if replaced_line(broken, function.text):
        for number, (check, sight) in enumerate(zip(function.checks, seen(broken, function.checks), strict=False), 1):
            if sight != f"gives {check.expected}" and len(sight) <= _LONGEST_SIGHT:
                yield Exercise(function, broken, number, sight)


def _conversation(exercise: Exercise, others: Sequence[Function], dice: random.Random, hasty: float) -> Conversation:
    """A module with the function, and perhaps another one, is repaired."""
    clean, broken = [exercise.function.text], [exercise.broken]
    if others and dice.random() >= _ALONE:
        other, place = dice.choice(others), dice.randrange(2)
        if other.name != exercise.function.name:
            clean.insert(place, other.text)
            broken.insert(place, other.text)
    issue = statement(exercise.function, exercise.broken, exercise.number, exercise.seen)
    path = f"{dice.choice(MODULES)}.py"
    return conversation(issue, path, "\n\n".join(broken), "\n\n".join(clean), dice.random() >= hasty)


def conversation(issue: str, path: str, broken: str, clean: str, looks: bool = True) -> Conversation:
    """How the only file of a repository is repaired; raises `ValueError` if that takes more than writing one line."""
    replaced = replaced_line(broken, clean)
    if replaced is None:
        raise ValueError(f"{path}: its repair is more than one line written new")
    number, added = replaced
    lines = broken.splitlines()
    repair = Repair(path, number, lines[number - 1], tuple(added))
    pieces: Conversation = [(f"{_ISSUE}{issue}{_ANSWER}", False)]
    if looks:
        found = f"./{path}\n{_grep(lines, repair.line.strip())}\n"
        pieces.append((_call("bash", command=repair.search) + "<|im_end|>", True))
        pieces.append((f"\n<|im_start|>user\n<tool_response>\n{found}\n</tool_response>{_ANSWER}", False))
    edit = _call("bash", command=repair.edit)
    return [*pieces, (f"{edit}\n{_call('submit')}<|im_end|>", True)]


def _grep(lines: Sequence[str], wanted: str) -> str:
    """What `grep -nFB3` prints of one file."""
    printed: list[str] = []
    last = -1
    for hit in [number for number, line in enumerate(lines) if wanted in line]:
        start = max(last + 1, hit - _BEFORE)
        if printed and start > last + 1:
            printed.append("--")
        printed += [f"{number + 1}-{lines[number]}" for number in range(start, hit)]
        printed.append(f"{hit + 1}:{lines[hit]}")
        last = hit
    return "\n".join(printed)


def _call(tool: str, **arguments: str) -> str:
    called = json.dumps({"name": tool, "arguments": arguments}, ensure_ascii=False)
    return f"<tool_call>\n{called}\n</tool_call>"
