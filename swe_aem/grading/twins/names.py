"""Names of tests, as the log parsers give them: where the test is that a name stands for."""

import re
from collections.abc import Iterable
from typing import NamedTuple

_UNITTEST = re.compile(r"(\w+) \(([\w.]+)\)")


class TestName(NamedTuple):
    """A test's name, taken apart."""

    __test__ = False

    module: str
    """A path, or a module with dots; empty if the name has neither."""
    classes: tuple[str, ...]
    function: str
    parameters: str | None
    """What stands in brackets behind a parametrized test, without the bracket that ends it."""
    cut: bool
    """Did a parser cut the name at a space within the brackets?"""


def parse_name(name: str) -> TestName | None:
    """`path::Class::test[parameters]`, unittest's `test (module.Class.test)` and `test (module.Class)`, or
    `Class.test[parameters]`; None for anything else."""
    if found := _UNITTEST.match(name):
        function, dotted = found.groups()
        *parents, last = dotted.split(".")
        if last != function:
            parents.append(last)
        if not parents:
            return None
        return TestName(".".join(parents[:-1]), (parents[-1],), function, None, cut=False)
    head, bracket, rest = name.partition("[")
    parts = head.split("::")
    if len(parts) > 1:
        module, *inner = parts
    else:
        module, inner = "", head.split(".")
    if not all(part.isidentifier() for part in inner):
        return None
    cut = bool(bracket) and not rest.endswith("]")
    parameters = (rest if cut else rest[:-1]) if bracket else None
    return TestName(module, tuple(inner[:-1]), inner[-1], parameters, cut)


def files_of(name: TestName, paths: Iterable[str]) -> list[str]:
    """Those of `paths` that the name may mean, the most fitting only."""
    paths = list(paths)
    if not name.module:
        return paths
    if name.module in paths:
        return [name.module]
    wanted = name.module.removesuffix(".py").replace("/", ".")
    dotted = {path: path.removesuffix(".py").replace("/", ".").strip(".") for path in paths}
    same = [path for path in paths if dotted[path] == wanted]
    return same or [path for path in paths if _ends_with(dotted[path], wanted) or _ends_with(wanted, dotted[path])]


def _ends_with(module: str, tail: str) -> bool:
    return module.endswith(f".{tail}")
