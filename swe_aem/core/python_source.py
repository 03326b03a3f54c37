"""Python source as a syntax tree, from any thread. Nothing else of this package calls `ast.parse`.

CPython 3.11 counts the depth of a tree that it builds for all threads in one place: a parse that another thread's
interrupts, as the garbage collector lets it, ends with `SystemError`. The filters of warnings are everybody's, too.
"""

import ast
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_ONE_AT_A_TIME = threading.RLock()


def parsed_module(source: str | bytes) -> ast.Module:
    """The tree of a file. Raises what `ast.parse` does; warnings about the source are dropped."""
    with _alone():
        return ast.parse(source)


def parsed_expression(source: str | bytes) -> ast.Expression:
    """The tree of an expression, otherwise as `parsed_module`."""
    with _alone():
        return ast.parse(source, mode="eval")


@contextmanager
def _alone() -> Iterator[None]:
    with _ONE_AT_A_TIME, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
