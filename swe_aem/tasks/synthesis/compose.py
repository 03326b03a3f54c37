"""The generator of `tasks/nano`: small repositories composed from a library of functions, one bug in each.

Command: `swe-aem tasks compose --functions tasks/nano/functions --out tasks/nano --seed 0`.

A policy of a few million parameters can learn these, so the whole loop can be seen on a laptop. Bugs are those of
`mutate.py` that checks notice. A third of them is held out. Warm-start demonstrations (split `demos`) have none of
these bugs: they show slips of one token (`slips.py`), in four fifths of the functions, and nothing at all of the
others. No repository of a held-out task is in another split, so it is an unseen bug in an unseen layout. `part` says
what demonstrations cover of a task: bugs of the kinds `NEW_KINDS` are no such slips, and a fifth of the functions is
new. What is left is for reinforcement learning to find.
"""

import hashlib
import os
import random
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swe_aem.core.base import Frozen
from swe_aem.core.scratch import scratch_directory
from swe_aem.errors import UserError
from swe_aem.tasks.library import Function, FunctionLibrary, Layout
from swe_aem.tasks.synthesis.codebase import MICRO_IMAGE
from swe_aem.tasks.synthesis.instance import CREATED_AT, git_diff
from swe_aem.tasks.synthesis.mutate import RULES, Rule, find_mutations
from swe_aem.tasks.synthesis.notice import notice
from swe_aem.tasks.synthesis.slips import SLIPS
from swe_aem.tasks.tree import build_tree

TRAIN, HELDOUT, DEMOS = "train", "heldout", "demos"
NEW_KINDS = ("swapped_arguments", "missing_branch", "wrong_return")
DEMONSTRATED, NEW_KIND, NEW_FUNCTION = "demonstrated", "new kind", "new function"
MODULES = ("ranges", "counts", "items", "words", "basics", "helpers", "toolbox", "measures", "sums", "pieces")
FUNCTIONS_PER_MODULE = (1, 2)
_LAYOUT_TRIES = 10_000
_HELDOUT_BUGS = 1 / 3
_NEW_FUNCTIONS = 1 / 5
_TEST_CPU_S = 1
"""Processor seconds of a test run, which needs a twentieth. An endless loop ends there however busy the machine is."""
_HEREDOC = "EOF_114329324912"


class ComposeConfig(Frozen):
    """Settings of the generator. The numbers of rows decide the layouts, even if only some splits are made."""

    functions: Path
    """Directory of the library."""
    train: int = 640
    """Rows."""
    heldout: int = 192
    demos: int = 4000
    """Rows for demonstrations."""
    seed: int = 0
    splits: tuple[str, ...] = (TRAIN, HELDOUT)
    """The splits that rows are made for."""


@dataclass(frozen=True)
class Bug:
    """A mutated function, and the checks that notice, with what they see."""

    function: str
    kind: str
    text: str
    line: int
    """Line, counted from 1, that a fix must write again."""
    noticed: tuple[tuple[int, str], ...]
    """Number of a check, from 1, and the value or exception that it sees."""

    @property
    def id(self) -> str:
        """Eight digits that tell bugs of one function and kind apart."""
        return hashlib.sha256(f"{self.function}\0{self.text}".encode()).hexdigest()[:8]


@dataclass(frozen=True)
class Plan:
    """The plan of one row."""

    layout: Layout
    bug: Bug
    told: tuple[int, str]
    """The check that the issue shows, one of `bug.noticed`."""


def compose(config: ComposeConfig, progress: Callable[[int, int], None] = lambda done, wanted: None) -> dict[str, Any]:
    """Rows by split, sorted by id; `progress` is told how many are made. Raises `UserError` for a library that has no
    functions, a wrong check, bugs of too few kinds, or too few functions for so many layouts."""
    library = FunctionLibrary(config.functions.resolve())
    if not library.functions:
        raise UserError(f"{config.functions}: has no functions; give the directory that holds NAME.py files")
    plans = _plans(library, config)
    total = sum(len(plans[split]) for split in config.splits)
    splits: dict[str, list[Any]] = {}
    done = 0
    for split in config.splits:
        rows = []
        for plan in plans[split]:
            rows.append(_row(library, plan, config.seed))
            done += 1
            progress(done, total)
        splits[split] = sorted(rows, key=lambda row: row["instance_id"])
    return splits


def _plans(library: FunctionLibrary, config: ComposeConfig) -> dict[str, list[Plan]]:
    """The plans of the rows of each split."""
    bugs = _bugs_of_all(library.functions.values(), RULES)
    held = {bug.id for bug in bugs if _share(config.seed, "bug", bug.id) < _HELDOUT_BUGS}
    demonstrated = _to_demonstrate(library, {bug.id for bug in bugs}, config.seed) if config.demos else []
    of_split = {
        DEMOS: (config.demos, demonstrated),
        TRAIN: (config.train, [bug for bug in bugs if bug.id not in held]),
        HELDOUT: (config.heldout, [bug for bug in bugs if bug.id in held]),
    }
    plans: dict[str, list[Plan]] = {}
    for split, (count, pool) in of_split.items():
        names = [name for name in library.functions if split != DEMOS or not _is_new(name, config.seed)]
        dice = random.Random(f"{config.seed} {split}")
        taken = {plan.layout.name for some in plans.values() for plan in some} if split == HELDOUT else set[str]()
        plans[split] = [
            Plan(_layout(names, bug.function, dice, taken), bug, dice.choice(bug.noticed))
            for bug in _dealt(pool, count, dice)
        ]
    return plans


def _to_demonstrate(library: FunctionLibrary, others: Collection[str], seed: int) -> list[Bug]:
    """Slips in the functions that demonstrations cover, without the bugs `others`."""
    covered = [function for function in library.functions.values() if not _is_new(function.name, seed)]
    return [bug for bug in _bugs_of_all(covered, SLIPS) if bug.id not in others]


def part(function: str, kind: str, seed: int) -> str:
    """What demonstrations cover of a bug: all but the bug itself, not its kind, or not its function."""
    if _is_new(function, seed):
        return NEW_FUNCTION
    return NEW_KIND if kind in NEW_KINDS else DEMONSTRATED


def _is_new(function: str, seed: int) -> bool:
    return _share(seed, "function", function) < _NEW_FUNCTIONS


def _share(seed: int, *words: str) -> float:
    """A number in 0..1 that the words decide."""
    digest = hashlib.sha256("\0".join([str(seed), *words]).encode()).digest()
    return int.from_bytes(digest[:8]) / 2**64


def _dealt(pool: Sequence[Bug], count: int, dice: random.Random) -> Iterator[Bug]:
    """`count` bugs, kind after kind so that none dominates; each bug of a kind as often as every other."""
    kinds = sorted({bug.kind for bug in pool})
    by_kind = {kind: [bug for bug in pool if bug.kind == kind] for kind in kinds}
    if count and not kinds:
        raise UserError("the library yields no bugs for this split; give it more functions or checks")
    hands: dict[str, list[Bug]] = {kind: [] for kind in kinds}
    for number in range(count):
        kind = kinds[number % len(kinds)]
        if not hands[kind]:
            hands[kind] = dice.sample(by_kind[kind], len(by_kind[kind]))
        yield hands[kind].pop()


def _layout(names: Sequence[str], function: str, dice: random.Random, taken: set[str]) -> Layout:
    """A layout of the function, and perhaps another one of `names`, that is not in `taken`, where it is put."""
    others = [name for name in names if name != function]
    for _ in range(_LAYOUT_TRIES):
        names = [function, *dice.sample(others, min(len(others), dice.randint(*FUNCTIONS_PER_MODULE) - 1))]
        dice.shuffle(names)
        layout = Layout(dice.choice(MODULES), tuple(names))
        if layout.name not in taken:
            taken.add(layout.name)
            return layout
    raise UserError("the library has too few functions for so many repositories; ask for fewer rows")


def _bugs_of_all(functions: Iterable[Function], rules: Sequence[tuple[str, Rule]]) -> list[Bug]:
    """Function after function; as many at a time as there are processors, since children do the work."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return [bug for some in pool.map(lambda function: list(_bugs(function, rules)), functions) for bug in some]


def _bugs(function: Function, rules: Sequence[tuple[str, Rule]]) -> Iterator[Bug]:
    """Bugs of a function that some of its checks notice."""
    mutations = find_mutations(f"{function.name}.py", function.text, rules)
    checks = [(check.call, check.expected) for check in function.checks]
    clean, *found = notice([function.text, *(mutation.text for mutation in mutations)], checks)
    if clean is None or clean:
        raise UserError(f"{function.name}: its own checks fail; run `pytest {function.name}.py`")
    for mutation, noticed in zip(mutations, found, strict=True):
        fixed_lines = replaced_line(mutation.text, function.text)
        if noticed and fixed_lines is not None:
            yield Bug(function.name, mutation.kind, mutation.text, fixed_lines[0], tuple(noticed))


def replaced_line(broken: str, clean: str) -> tuple[int, list[str]] | None:
    """(line number from 1, lines that replace it) to get from one text to the other; None if that is not enough."""
    old, new = broken.splitlines(), clean.splitlines()
    head = next((n for n, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))
    tail = 0
    while tail < len(old) - head and tail < len(new) - head and old[-1 - tail] == new[-1 - tail]:
        tail += 1
    if len(old) - head - tail == 0 and head < len(old):  # lines are missing: the next line is written again
        tail -= 1
    if len(old) - head - tail != 1 or len(new) - head - tail < 1:
        return None
    return head + 1, new[head : len(new) - tail]


def _row(library: FunctionLibrary, plan: Plan, seed: int) -> dict[str, Any]:
    layout, bug = plan.layout, plan.bug
    clean = library.compose(layout)
    broken = library.compose(layout, changed={bug.function: bug.text})
    gold_patch = git_diff(layout.source, broken[layout.source], clean[layout.source])
    test_patch = _new_file(layout.tests, clean[layout.tests])
    with scratch_directory("tree") as directory:
        base_commit = build_tree(directory, clean, gold_patch, test_patch)
    tests = {
        (name, number): f"test_{number} (tests.test_{layout.module}.{library.functions[name].test_class}.test_{number})"
        for name in layout.functions
        for number in range(1, len(library.functions[name].checks) + 1)
    }
    failing = {(bug.function, number) for number, _ in bug.noticed}
    return {
        "instance_id": f"nano__{layout.name}-{bug.kind}-{bug.id}",
        "repo": f"nano/{layout.name}",
        "base_commit": base_commit,
        "patch": gold_patch,
        "test_patch": test_patch,
        "problem_statement": statement(library.functions[bug.function], bug.text, *plan.told),
        "hints_text": "",
        "created_at": CREATED_AT,
        "version": "1",
        "FAIL_TO_PASS": sorted(test for key, test in tests.items() if key in failing),
        "PASS_TO_PASS": sorted(test for key, test in tests.items() if key not in failing),
        "environment_setup_commit": base_commit,
        "image": MICRO_IMAGE,
        "eval_script": _eval_script(layout, test_patch),
        "log_parser": "parse_log_django",
        "eval_type": "pass_and_fail",
        "timeout_s": 20,
        "mutation_kind": bug.kind,
        "function": bug.function,
        "part": part(bug.function, bug.kind, seed),
    }


def statement(function: Function, broken: str, number: int, seen: str) -> str:
    """What is wrong, by one failing check and the line that its reporter suspects (where lines are missing, the one
    behind them); not in which file, nor where. Short, since every token of it is read in every step of the loop.
    `number` is the check's, from 1, and `seen` what it sees of the text `broken`."""
    check = function.checks[number - 1]
    replaced = replaced_line(broken, function.text)
    assert replaced is not None
    line = broken.splitlines()[replaced[0] - 1].strip()
    return f"`{function.name}`: `{check.call}` {seen}, expected {check.expected}; `{line}`?\n"


def _new_file(path: str, text: str) -> str:
    lines = text.splitlines()
    header = (
        f"diff --git a/{path} b/{path}\nnew file mode 100644\n--- /dev/null\n+++ b/{path}\n@@ -0,0 +1,{len(lines)} @@\n"
    )
    return header + "".join(f"+{line}\n" for line in lines)


def _eval_script(layout: Layout, test_patch: str) -> str:
    lines = [
        "#!/bin/bash",
        "set -uxo pipefail",
        "cd /testbed",
        "git config --global --add safe.directory /testbed",
        "export PYTHONDONTWRITEBYTECODE=1 PYTHONHASHSEED=0",
        f"git apply -v - <<'{_HEREDOC}'",
        test_patch.rstrip("\n"),
        "",
        _HEREDOC,
        f"ulimit -t {_TEST_CPU_S}",
        ": '>>>>> Start Test Output'",
        f"python -S -m unittest -v {layout.tests}",
        ": '>>>>> End Test Output'",
    ]
    return "\n".join(lines) + "\n"
