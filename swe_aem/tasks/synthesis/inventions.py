"""Functions that nobody wrote, in the form of `tasks/nano/functions`: any number of them for demonstrations.

A policy that sees the same names and lines again and again learns them by heart and can repair nothing else. Here
nearly every name is new and is made of several tokens, so the only way to write a line is to copy what was read.

Everything follows from a seed. Functions are run in this process under a limit on lines, numbers and lengths and not on
time, so what is invented does not depend on how busy the machine is.
"""

import ast
import builtins
import copy
import random
import sys
from collections.abc import Collection, Iterator, Sequence
from types import FrameType
from typing import Any

from swe_aem.core.python_source import parsed_module
from swe_aem.tasks.library import Equation, Function
from swe_aem.tasks.synthesis.inventor import Invented, invent, random_value

_INPUTS = 8
_FEWEST_CHECKS, _MOST_CHECKS = 3, 5
_MOST_LINES = 300
_LARGEST, _LONGEST = 130, 60
"""Largest number, and longest text or list, that a variable may have while an invented function runs."""
_LONGEST_RESULT, _LONGEST_LINE = 24, 72
"""Characters of a result as it is written, and of a line of code."""


def seen(text: str, checks: Sequence[Equation]) -> tuple[str, ...]:
    """What each check sees of a function: `gives VALUE` or `raises ERROR`. Nothing if it does too much."""
    scope: dict[str, Any] = {}
    exec(text, scope)
    found: list[str] = []
    for check in checks:
        try:
            found.append(f"gives {_run(lambda call=check.call: eval(call, scope), ())!r}")
        except _TooMuch:
            return ()
        except Exception as error:
            found.append(f"raises {type(error).__name__}")
    return tuple(found)


class _TooMuch(BaseException):
    """An invented function takes too many lines or has too large a value."""


def inventions(seed: int, apart_from: Collection[Function] = ()) -> Iterator[Function]:
    """Functions without end, each with a name of its own. None has a name of `apart_from`, in it or as its own, nor a
    body that is one of theirs but for names."""
    dice = random.Random(seed)
    names = {function.name for function in apart_from}
    shapes = {shape(function.text) for function in apart_from}
    while True:
        invented = invent(dice, names)
        checks = _checks(invented, dice, names)
        if checks and shape(invented.text) not in shapes:
            names.add(invented.name)
            yield Function(invented.name, invented.text, checks)


def shape(text: str) -> str:
    """A function's syntax tree with its own names replaced by numbers, in the order in which they are met."""
    tree = parsed_module(text)
    numbers: dict[str, str] = {}
    for node in ast.walk(tree):
        for field in ("name", "arg", "id"):
            name = getattr(node, field, None)
            if isinstance(name, str) and not hasattr(builtins, name):
                setattr(node, field, numbers.setdefault(name, str(len(numbers))))
    return ast.dump(tree)


def _checks(invented: Invented, dice: random.Random, avoid: Collection[str]) -> tuple[Equation, ...]:
    """What the function gives for some inputs. None for one that is of no use: its lines are long, it does too much,
    or it gives too few results or always the same."""
    inputs = [[random_value(dice, kind, avoid) for kind in invented.arguments] for _ in range(_INPUTS)]
    if max(map(len, invented.text.splitlines())) > _LONGEST_LINE:
        return ()
    scope: dict[str, Any] = {}
    exec(compile(invented.text, f"{invented.name}.py", "exec"), scope)
    found: dict[str, str] = {}
    for arguments in inputs:
        call = f"{invented.name}({', '.join(map(repr, arguments))})"
        try:
            result = repr(_run(scope[invented.name], arguments))
        except _TooMuch:
            return ()
        except Exception:
            continue
        if len(result) <= _LONGEST_RESULT and len(found) < _MOST_CHECKS:
            found[call] = result
    if len(found) < _FEWEST_CHECKS or len(set(found.values())) < 2:
        return ()
    return tuple(Equation(call, result) for call, result in found.items())


def _run(function: Any, arguments: Sequence[Any]) -> Any:
    """What the function returns; raises what it raises, and `_TooMuch`."""
    given = copy.deepcopy(arguments)
    before = sys.gettrace()
    sys.settrace(_Watch().trace)
    try:
        return function(*given)
    finally:
        sys.settrace(before)


class _Watch:
    """A trace function that stops what does too much."""

    def __init__(self) -> None:
        self._lines = 0

    def trace(self, frame: FrameType, event: str, argument: Any) -> Any:
        self._lines += 1
        if self._lines > _MOST_LINES or any(map(_is_too_large, frame.f_locals.values())):
            raise _TooMuch
        return self.trace


def _is_too_large(value: Any) -> bool:
    """Is it a large number, a long text or list, or does it hold one? A list may not hold itself."""
    if type(value) is int:
        return abs(value) > _LARGEST
    if type(value) is list:
        return len(value) > _LONGEST or any(type(one) is list or _is_too_large(one) for one in value)
    return type(value) is str and len(value) > _LONGEST
