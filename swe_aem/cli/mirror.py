"""Options made from settings: type, choices, range, help and default of an option are those of the setting."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo


@dataclass(frozen=True)
class Mirrored:
    """An option for one setting."""

    setting: str
    """Dotted name."""
    flag: str | None = None
    """The option's name; without it, the last part of the setting's."""
    help: str | None = None
    """Help in place of the setting's docstring."""
    default: str | None = None
    """How the default is shown, where its value alone says little."""
    least: float | None = None
    """Smallest value, where the setting itself has no bound."""
    metavar: str | None = None
    parser: Callable[[str], Any] | None = None
    """From the text that was given to the setting's value."""
    completion: Callable[[str], Any] | None = None

    @property
    def option(self) -> str:
        """The option as it is typed."""
        return self.flag or "--" + self.setting.rpartition(".")[2].replace("_", "-")

    @property
    def parameter(self) -> str:
        """The option as a Python parameter."""
        return self.option.removeprefix("--").replace("-", "_")


def with_settings(
    model: type[BaseModel], panels: Mapping[str, Sequence[Mirrored]]
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command options for settings of `model`, in panels of its help.

    The command is called with `given`, what was given by the setting's dotted name, and with its own options.
    """
    options = {one.parameter: one for many in panels.values() for one in many}

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        def called(**values: Any) -> None:
            mirrored = {one.setting: values.pop(name) for name, one in options.items()}
            command(given={name: value for name, value in mirrored.items() if value not in (None, [])}, **values)

        own = [one for one in inspect.signature(command).parameters.values() if one.name != "given"]
        made = [_parameter(model, one, panel) for panel, many in panels.items() for one in many]
        needed = [one for one in own if one.default is inspect.Parameter.empty]
        others = [one for one in own if one not in needed]
        called.__signature__ = inspect.Signature([*needed, *made, *others])  # type: ignore[attr-defined]
        called.__doc__, called.__name__ = command.__doc__, command.__name__
        return called

    return decorate


def _parameter(model: type[BaseModel], option: Mirrored, panel: str) -> inspect.Parameter:
    """The parameter from which typer makes an option. It is None, or empty, if the option is not given."""
    field = _field(model, option.setting)
    kind, bounds = (str, {}) if option.parser is not None else _kind(field.annotation)
    if option.parser is None:
        bounds = {"min": option.least, **bounds, **_bounds(field.metadata)}
    info = typer.Option(
        option.option,
        help=_help(field, option),
        show_default=False,
        metavar=option.metavar,
        parser=option.parser,
        autocompletion=option.completion,
        rich_help_panel=panel,
        **bounds,
    )
    annotation = Annotated[kind | None, info]
    return inspect.Parameter(
        option.parameter, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=None, annotation=annotation
    )


def _field(model: Any, name: str) -> FieldInfo:
    *sections, last = name.split(".")
    for section in sections:
        model = model.model_fields[section].annotation
    return model.model_fields[last]


def _kind(annotation: Any) -> tuple[Any, dict[str, Any]]:
    """What typer is to make of a setting's type, and its bounds: the type less None, a tuple as a list."""
    bounds: dict[str, Any] = {}
    if get_origin(annotation) not in (None, Literal, tuple, Annotated):  # a union with None
        kinds = [one for one in get_args(annotation) if one is not NoneType]
        annotation = str if str in kinds else kinds[0]  # of a name and a mapping, an option gives the name
    if get_origin(annotation) is Annotated:
        annotation, *metadata = get_args(annotation)
        bounds = _bounds([one for info in metadata for one in (info.metadata if isinstance(info, FieldInfo) else [])])
    if hasattr(annotation, "NAME_KEY"):  # a section that a plain name is short for
        annotation = str
    if get_origin(annotation) is tuple:
        annotation = list[get_args(annotation)[0]]
    return annotation, bounds


def _bounds(metadata: Sequence[Any]) -> dict[str, Any]:
    """The bounds that belong to the range; those that do not are checked with the settings."""
    found = {
        "min": [getattr(one, "ge", None) for one in metadata],
        "max": [getattr(one, "le", None) for one in metadata],
    }
    return {name: value for name, values in found.items() for value in values if value is not None}


def _help(field: FieldInfo, option: Mirrored) -> str:
    value = option.default or field.default
    shown = "" if value in (None, (), False) else f" [default: {value}]"
    return " ".join((option.help or field.description or "").split()) + shown
