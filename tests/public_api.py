"""What `swe_aem.__all__` promises, one line per public name: signatures, fields with their types, members.

python -m tests.public_api > tests/public_api.txt      # when a version is released
"""

import inspect
import re
from collections.abc import Iterator
from enum import Enum
from types import ModuleType
from typing import Any

import swe_aem as sa
from swe_aem.core import Response, Task, TaskRecord, TestStatus, ToolCall
from swe_aem.evaluate import RunReport
from swe_aem.rollout import RolloutResult
from swe_aem.tasks import TaskSet
from swe_aem.train.records import RunSummary

RETURNED = (Response, RolloutResult, RunReport, RunSummary, Task, TaskRecord, TaskSet, TestStatus, ToolCall)
"""Types without a public name of their own in what public functions return."""
_MODULE = re.compile(r"\b(?:[a-z_]\w*\.)+(?=[A-Z])")
"""The module in front of a type's name, which may move."""


def listing() -> list[str]:
    """Every public name with what it promises, sorted."""
    found = {name: getattr(sa, name) for name in sa.__all__} | {kind.__name__: kind for kind in RETURNED}
    return sorted(line for name, value in found.items() for line in _lines(name, value))


def _lines(name: str, value: Any) -> Iterator[str]:
    if isinstance(value, ModuleType):
        for inner, kind in vars(value).items():
            if inspect.isclass(kind) and kind.__module__ == value.__name__:
                yield f"{name}.{inner}({', '.join(base.__name__ for base in kind.__bases__)})"
    elif not inspect.isclass(value):
        yield f"{name}{_signature(value)}"
    elif issubclass(value, Enum):
        yield from (f"{name}.{member.name} = {member.value!r}" for member in value)
    else:
        yield from _members(name, value)


def _members(name: str, kind: type) -> Iterator[str]:
    """Fields and methods of a class, inherited fields too."""
    fields = getattr(kind, "model_fields", None) or getattr(kind, "__dataclass_fields__", {})
    for field, info in fields.items():
        annotation = getattr(info, "annotation", None) or getattr(info, "type", None)
        kind_name = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
        yield f"{name}.{field}: {_MODULE.sub('', kind_name)}"
    for method, value in vars(kind).items():
        plain = value.__func__ if isinstance(value, staticmethod | classmethod) else value
        if isinstance(value, property):
            yield f"{name}.{method} (property)"
        elif inspect.isfunction(plain) and (not method.startswith("_") or method in ("__len__", "__getitem__")):
            yield f"{name}.{method}{_signature(plain)}"


def _signature(function: Any) -> str:
    return _MODULE.sub("", str(inspect.signature(function)))


if __name__ == "__main__":
    print(*listing(), sep="\n")
