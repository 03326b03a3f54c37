"""`ExtensionPoint`: what a setting may name, built in or a user's own.

A name is one of

- a built-in (`aem`),
- the name of an entry point that an installed package declares,
- `package.module:object`, imported,
- `file.py:object`, a file that is read from the working directory.

A setting is a name, or a mapping of a `type`, which is a name, and of the settings of what it names. Models of
settings call `check`, which imports nothing, so that a stored configuration can be read where the user's code is not; a
run calls `make` when it starts. `Found.identity` is what a run records, so that a rerun with other code is refused.
"""

import hashlib
import importlib
import importlib.metadata
import importlib.util
import inspect
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cached_property
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any, Generic, TypeVar

from swe_aem.errors import UserError
from swe_aem.suggest import did_you_mean

T = TypeVar("T")

_OBJECT = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
_HERE = "python"
"""What stands in the place of a module for objects that no other process could import, as of a notebook."""

_stored = ContextVar("stored_names", default=False)
_only_here: set[str] = set()
"""Names of objects that were handed over and that no other process should import."""


@contextmanager
def stored_names() -> Iterator[None]:
    """Within it, `check` takes every name for one that can be: what a stored configuration names need not be installed
    where it is read."""
    token = _stored.set(True)
    try:
        yield
    finally:
        _stored.reset(token)


def only_here(settings: Any) -> tuple[str, ...]:
    """What plain settings name and no other process should import: it is not in a module or file, or in the script that
    runs here, which would run once more."""
    if isinstance(settings, str):
        return (settings,) if settings in _only_here else ()
    inner = (
        settings.values() if isinstance(settings, Mapping) else settings if isinstance(settings, list | tuple) else ()
    )
    return tuple(dict.fromkeys(name for one in inner for name in only_here(one)))


@dataclass(frozen=True)
class Found(Generic[T]):
    """What a name stands for."""

    name: str
    value: T
    identity: str
    """Empty for a built-in; otherwise the version of its distribution, if it has one, and the hash of its source, such
    as `my-rewards 1.2, sha256:1f3a5c7e9b2d`."""


class ExtensionPoint(Generic[T]):
    """One kind of thing that users may bring: its built-in names, and how others are found."""

    def __init__(self, what: str, *, group: str, builtin: Mapping[str, str], key: str = "type") -> None:
        """`what` it is, in the singular, for messages; `group` of entry points; `builtin`: name to `module:object`,
        which is imported when it is used; `key`: the key of a mapping that holds the name."""
        self.what = what
        self.group = group
        self.key = key
        self._builtin = builtin
        self._added: dict[str, Found[T]] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """Names without a colon: the built-in ones, then those of entry points. Nothing is imported."""
        return (*self._builtin, *(name for name in self._entry_points if name not in self._builtin))

    def is_builtin(self, name: str) -> bool:
        """Is it a built-in name, whose settings may be checked at any time?"""
        return name in self._builtin

    def name_of(self, setting: str | Mapping[str, Any]) -> str:
        """The name in a setting. Raises `UserError` if there is none."""
        if isinstance(setting, str):
            return setting
        name = setting.get(self.key)
        if not isinstance(name, str):
            raise UserError(f"a {self.what} of several settings needs {self.key}: one of {self._choices}")
        return name

    def check(self, name: str) -> None:
        """Raises `UserError` if nothing can have this name. Imports nothing, and reads no file."""
        if not _stored.get():
            self._require_possible(name)

    def find(self, name: str) -> Found[T]:
        """What a name stands for, imported.

        Raises `UserError` for a name that stands for nothing; an exception of the imported code is raised as it is.
        """
        self._require_possible(name)
        if name in self._added:
            return self._added[name]
        if name in self._builtin:
            return Found(name, _object_of(self._builtin[name], self.what), "")
        if name in self._entry_points:
            return self._find_entry_point(name)
        if name.startswith(f"{_HERE}:"):
            raise UserError(
                f"{self.what} {name} was an object of the process that began this run, and no file of Python has it: "
                "hand it over from Python again, or put it into a file and name file.py:object"
            )
        return Found(name, _object_of(name, self.what), identity_of(name))

    def identity(self, name: str) -> str:
        """The identity of what `find` finds; for a built-in, which is not imported for it, the empty text."""
        return "" if self.is_builtin(name) else self.find(name).identity

    def make(self, setting: str | Mapping[str, Any]) -> Any:
        """What a setting stands for: a class is called with the settings beside its name, and anything else is taken
        as it is. Raises `UserError` for settings that do not fit."""
        name = self.name_of(setting)
        found: Found[Any] = self.find(name)
        value = found.value
        given = {} if isinstance(setting, str) else {key: one for key, one in setting.items() if key != self.key}
        where = f"{self.what} {name}"
        if not inspect.isclass(value):
            if given:
                raise UserError(f"{where} takes no settings, but {', '.join(sorted(given))} are given")
            return value
        if hasattr(value, "model_validate"):  # pydantic's mark; this module must not import it
            from swe_aem.core.settings import check

            model: Any = value
            return check(model, given, where=where)
        try:
            inspect.signature(value).bind(**given)
        except TypeError as error:
            raise UserError(f"{where}: its settings do not fit: {error}") from None
        return value(**given)

    def function(self, setting: str | Mapping[str, Any], *arguments: str) -> Any:
        """What a setting stands for, as something that is called with these arguments. Raises `UserError` for what
        cannot be called with them, or is asynchronous."""
        made = self.make(setting)
        where = f"{self.what} {self.name_of(setting)}"
        form = f"a function NAME({', '.join(arguments)}), or a class with __call__(self, {', '.join(arguments)})"
        if not callable(made):
            raise UserError(f"{where} is {type(made).__name__}, which cannot be called: write {form}")
        if inspect.iscoroutinefunction(made) or inspect.iscoroutinefunction(getattr(made, "__call__", None)):  # noqa: B004
            raise UserError(f"{where} is asynchronous: write def in the place of async def")
        try:
            signature = inspect.signature(made)
        except ValueError:  # of something that is not written in Python
            return made
        try:
            signature.bind(*arguments)
        except TypeError as error:
            raise UserError(f"{where} is called with {' and '.join(arguments)}: {error}; write {form}") from None
        return made

    def setting_of(self, value: Any) -> str | dict[str, Any]:
        """The setting that stands for an object of this process: a function, a class, or an instance of a pydantic
        class; a string or a mapping is a setting already. For callers that hand over objects, not names."""
        if isinstance(value, str):
            return value
        if isinstance(value, Mapping):
            return dict(value)
        if hasattr(value, "model_dump") and not inspect.isclass(value):
            return {**value.model_dump(mode="json"), self.key: self.add(type(value))}
        return self.add(value)

    def add(self, value: Any) -> str:
        """The name by which `find` finds an object of this process from now on: one that another process can import
        too, if there is one."""
        name = importable_name(value)
        for builtin, reference in self._builtin.items():
            if name == reference:
                return builtin
        if name is not None:
            self._added[name] = Found(name, value, identity_of(name))
            if not _others_import(value.__module__):
                _only_here.add(name)
            return name
        plain = re.sub(r"\W+", "_", getattr(value, "__qualname__", type(value).__qualname__)).strip("_")
        name = f"{_HERE}:{plain}"
        self._added[name] = Found(name, value, _hash_of_source(value))
        _only_here.add(name)
        return name

    def _require_possible(self, name: str) -> None:
        if name in self._builtin or name in self._added or name in self._entry_points:  # which are looked up last
            return
        module, colon, attribute = name.rpartition(":")
        if colon and module and _OBJECT.fullmatch(attribute):
            return
        if colon:
            raise UserError(f"{self.what} {name!r}: {attribute!r} is no name of a Python object; {self._forms}")
        if name.endswith(".py"):
            raise UserError(f"{self.what} {name}: say which object of the file, as in {name}:NAME")
        raise UserError(f"no {self.what} {name!r}{did_you_mean(name, self.names)}; choose one of {self._choices}")

    @cached_property
    def _entry_points(self) -> dict[str, list[importlib.metadata.EntryPoint]]:
        found: dict[str, list[importlib.metadata.EntryPoint]] = {}
        for one in importlib.metadata.entry_points(group=self.group):
            found.setdefault(one.name, []).append(one)
        return found

    def _find_entry_point(self, name: str) -> Found[T]:
        several = {one.value: one for one in self._entry_points[name]}
        if len(several) > 1:
            owners = ", ".join(sorted(f"{one.value} of {_owner(one)}" for one in several.values()))
            raise UserError(f"the {self.what} {name} is declared more than once: {owners}; name one as module:object")
        (one,) = several.values()
        reference = one.value.partition("[")[0].strip()
        value = _object_of(reference, f"{self.what} {name} of {_owner(one)}")
        return Found(name, value, identity_of(reference, _owner(one)))

    @property
    def _choices(self) -> str:
        return ", ".join((*self.names, "package.module:object", "file.py:object"))

    @property
    def _forms(self) -> str:
        return "a name of your own is package.module:object or file.py:object"


def importable_name(value: Any) -> str | None:
    """`package.module:object` or `file.py:object` of a function or class at the top of a module; None for others."""
    module = sys.modules.get(getattr(value, "__module__", None) or "")
    attribute = getattr(value, "__qualname__", None)
    if module is None or attribute is None or not _OBJECT.fullmatch(attribute):
        return None
    if _attribute(module, attribute, default=None) is not value:
        return None
    file = getattr(module, "__file__", None)
    here = _seen_from_here(file) if file is not None and file.endswith(".py") else None
    if module.__name__ == "__main__" or module.__name__.startswith(_FILE_MODULE):
        return f"{here}:{attribute}" if here is not None else None
    if here == Path(f"{module.__name__}.py"):  # importable only while Python looks into the working directory
        return f"{here}:{attribute}"
    return f"{module.__name__}:{attribute}"


def _others_import(module: str) -> bool:
    """Could another process with this one's `sys.path` import the module, without running the script that runs here?"""
    if module == "__main__":
        return False
    top = module.partition(".")[0]
    return module.startswith(_FILE_MODULE) or any(finder.find_spec(top, None) for finder in sys.meta_path)


def _seen_from_here(file: str) -> Path:
    """The path of a file, relative to the working directory if it is below: as one would type it there."""
    path = Path(file).absolute()
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def identity_of(reference: str, declared_by: str | None = None) -> str:
    """What code `module:object` or `file.py:object` stands for: distribution and version, and the hash of its source,
    which is every `.py` file of its package, or its one file. `declared_by` is the distribution where nothing else says
    which one a module belongs to, as if it is installed in place."""
    place = reference.rpartition(":")[0]
    if place.endswith(".py"):
        return _hash_of([Path(place)])
    module = importlib.import_module(place)
    top = importlib.import_module(place.partition(".")[0])
    folder = Path(top.__file__).parent if hasattr(top, "__path__") and top.__file__ else None
    files = sorted(folder.rglob("*.py")) if folder is not None else [Path(module.__file__)] if module.__file__ else []
    owners = importlib.metadata.packages_distributions().get(place.partition(".")[0], [])
    versions = [f"{owner} {importlib.metadata.version(owner)}" for owner in sorted(set(owners))]
    return ", ".join([*(versions or filter(None, [declared_by])), _hash_of(files, folder)])


_FILE_MODULE = "swe_aem_file_"


def _object_of(reference: str, what: str) -> Any:
    """The object of `module:object` or `file.py:object`."""
    place, _, attribute = reference.rpartition(":")
    module = _module_of_file(Path(place), what) if place.endswith(".py") else _module(place, what)
    missing = object()
    value = _attribute(module, attribute, default=missing)
    if value is missing:
        names = [name for name in vars(module) if not name.startswith("_")]
        raise UserError(f"{what}: {place} has no {attribute}{did_you_mean(attribute, names)}")
    return value


def _module(name: str, what: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # a module that the user's own module imports
        raise UserError(
            f"{what}: there is no module {error.name}; install its package in this environment, or give file.py:object"
        ) from None


class _AsItIs(SourceFileLoader):
    """Compiles the file each time: cached bytecode is taken for that of any file of the same size and second."""

    def get_code(self, fullname: str) -> CodeType:
        """The code of the file."""
        return self.source_to_code(self.get_data(self.path), self.path)


def _module_of_file(file: Path, what: str) -> ModuleType:
    """The module of a file, executed once in a process, and once more when the file has changed: what is recorded is
    the file as it is."""
    path = file.resolve()
    if not path.is_file():
        raise UserError(f"{what}: there is no file {file} (looked for {path})")
    name = _FILE_MODULE + hashlib.sha256(f"{path} {_hash_of([path])}".encode()).hexdigest()[:12]
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path, loader=_AsItIs(name, str(path)))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _attribute(module: ModuleType, path: str, *, default: Any) -> Any:
    value: Any = module
    for part in path.split("."):
        value = getattr(value, part, default)
        if value is default:
            return default
    return value


def _hash_of(files: list[Path], folder: Path | None = None) -> str:
    """Hash of the files' contents and, below a folder, of their names."""
    digest = hashlib.sha256()
    for file in files:
        content = file.read_bytes()
        name = file.relative_to(folder).as_posix() if folder is not None else ""
        digest.update(f"{name} {len(content)}\n".encode())
        digest.update(content)
    return f"sha256:{digest.hexdigest()[:16]}"


def _hash_of_source(value: Callable[..., Any]) -> str:
    """Hash of an object's source text, and of the numbers and texts that it holds; raises `UserError` where Python does
    not know the source."""
    try:
        source = inspect.getsource(value)
    except (OSError, TypeError):
        raise UserError(
            f"{value!r} cannot be recorded, since Python does not know its source: define it in a file, as a function "
            "or class"
        ) from None
    held = "\n".join([source, *_held_by(value)])
    return f"sha256:{hashlib.sha256(held.encode()).hexdigest()[:16]}"


def _held_by(value: Any) -> list[str]:
    """What tells functions of the same source apart, a line each: numbers and texts that they close over or have as
    defaults, and those of the object whose method they are. What may change while it is used is left out."""
    function = getattr(value, "__func__", value)
    if not isinstance(function, FunctionType):
        return []
    held: dict[str, Any] = dict(getattr(getattr(value, "__self__", None), "__dict__", {}))
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        with suppress(ValueError):  # a variable that has no value
            held[name] = cell.cell_contents
    held |= {f"default {n}": one for n, one in enumerate(function.__defaults__ or ())}
    held |= {f"default {name}": one for name, one in (function.__kwdefaults__ or {}).items()}
    return [f"{name} = {one!r}" for name, one in sorted(held.items()) if _is_plain(one)]


def _is_plain(value: Any) -> bool:
    """Is it a number or a text, or a tuple of such?"""
    if isinstance(value, tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | str | bytes)


def _owner(entry: importlib.metadata.EntryPoint) -> str:
    return "an unknown package" if entry.dist is None else f"{entry.dist.name} {entry.dist.version}"
