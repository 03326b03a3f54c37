"""Source is parsed by one thread at a time: in CPython 3.11 a parse that another thread's interrupts fails."""

import ast
import gc
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator

import pytest

from swe_aem.core.python_source import parsed_expression, parsed_module

TEXT = "\n".join(f"def test_{n}(a, b):\n    assert [a + {n}, (b, a[{n}])]" for n in range(60))
PATIENCE_S = 1.0
"""How long a parse that is interrupted leaves the other thread the time to begin and end its own."""


class Garbage:
    """Part of a cycle, so that the collector finds it, in whatever it interrupts."""

    def __init__(self, found: Callable[[], None]) -> None:
        self._me = self
        self._found = found

    def __del__(self) -> None:
        self._found()


@pytest.fixture
def collected_soon() -> Iterator[None]:
    before = gc.get_threshold()
    gc.set_threshold(200)  # a syntax tree has more nodes
    yield
    gc.set_threshold(*before)


def test_a_parse_that_is_interrupted_is_by_no_other_parse(collected_soon: None) -> None:
    parsing, parsed = threading.Event(), threading.Event()
    overlaps: list[bool] = []

    def interrupt() -> None:
        within = {frame.f_code for frame, _ in traceback.walk_stack(sys._getframe())}
        if ast.parse.__code__ in within:
            parsing.set()
            overlaps.append(parsed.wait(PATIENCE_S))

    def second() -> None:
        parsing.wait()
        parsed_module(TEXT)
        parsed.set()

    other = threading.Thread(target=second)
    other.start()
    gc.collect()
    Garbage(interrupt)
    try:
        assert len(parsed_module(TEXT).body) == 60
    finally:
        parsing.set()
        other.join()
    assert overlaps == [False]


@pytest.mark.parametrize("parse", [parsed_module, parsed_expression])
def test_warnings_about_the_source_are_dropped(parse: Callable[[str], object]) -> None:
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        parse(r"'\d'")
        assert not said
        warnings.warn("mine", stacklevel=1)
    assert [str(one.message) for one in said] == ["mine"]
