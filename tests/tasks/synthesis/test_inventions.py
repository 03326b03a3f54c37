"""Functions that nobody wrote: they run, are always the same, and none is a bundled one under other names."""

import ast
import itertools
import random
import re

import pytest

from swe_aem.tasks.library import Equation, Function, FunctionLibrary
from swe_aem.tasks.load import bundled
from swe_aem.tasks.synthesis.inventions import _checks, inventions, seen, shape
from swe_aem.tasks.synthesis.inventor import Invented

COUNT = """def count_even(values):
    count = 0
    for value in values:
        if value % 2 == 0:
            count = count + 1
    return count
"""
RENAMED = COUNT.replace("count_even", "plorst").replace("values", "xs").replace("value", "x").replace("count", "total")


@pytest.fixture(scope="module")
def known() -> list[Function]:
    directory = bundled("nano")
    assert directory is not None
    return list(FunctionLibrary(directory / "functions").functions.values())


def some(count: int, known: list[Function], seed: int = 0) -> list[Function]:
    return list(itertools.islice(inventions(seed, known), count))


def test_the_same_seed_invents_the_same_functions(known: list[Function]) -> None:
    assert some(20, known) == some(30, known)[:20]
    assert some(20, known) != some(20, known, seed=1)


def test_no_invented_function_has_a_bundled_name_or_a_bundled_body(known: list[Function]) -> None:
    names, shapes = {function.name for function in known}, {shape(function.text) for function in known}
    found = some(100, known)
    assert len({function.name for function in found}) == 100
    for function in found:
        said = function.text + "".join(check.call + check.expected for check in function.checks)
        assert not names & set(re.findall(r"\w+", said))
        assert shape(function.text) not in shapes


def test_the_checks_of_invented_functions_hold_and_differ(known: list[Function]) -> None:
    for function in some(40, known):
        scope: dict[str, object] = {}
        exec(function.text, scope)
        assert all(eval(check.call, scope) == ast.literal_eval(check.expected) for check in function.checks)
        assert len({check.expected for check in function.checks}) > 1


def test_a_body_with_other_names_has_the_same_shape() -> None:
    assert shape(COUNT) == shape(RENAMED)
    assert shape(COUNT) != shape(COUNT.replace("== 0", "== 1"))
    assert shape("def a(b):\n    return len(b)\n") != shape("def a(b):\n    return sum(b)\n")


@pytest.mark.parametrize("body", ["while True:\n        n = 1", "n = 1000", 'text = "a" * 100', "raise ValueError"])
def test_a_function_that_does_too_much_or_gives_nothing_is_left_out(body: str) -> None:
    text = f"def zant(n):\n    {body}\n    return n + 1\n"
    assert not _checks(Invented("zant", ("int",), text), random.Random(0), ())
    assert _checks(Invented("zant", ("int",), "def zant(n):\n    return n + 1\n"), random.Random(0), ())


def test_what_a_check_sees_is_told_as_the_generator_of_tasks_tells_it() -> None:
    text = "def zant(n):\n    return n // 2\n"
    checks = (Equation("zant(4)", "2"), Equation("zant('a')", "1"), Equation("zant(7)", "4"))
    assert seen(text, checks) == ("gives 2", "raises TypeError", "gives 3")
    assert seen("def zant(n):\n    while True:\n        n = 1\n", checks) == ()
