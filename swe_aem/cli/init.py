"""`swe-aem init`: a small package of a user's own, to begin with."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from swe_aem.scaffold import KINDS, Kind, write_package


class _Kinds(TyperGroup):
    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The kind that the first word names. The verbs that begin with `init-` are others."""
        from swe_aem.cli import VERBS

        if args and (verb := f"init-{args[0]}") in VERBS:
            ctx.fail(f"swe-aem init writes packages; did you mean swe-aem {verb}?")
        return super().resolve_command(ctx, args)


app = typer.Typer(
    cls=_Kinds,
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
    help="Begin a package of your own that adds to swe-aem: a module, a test, a README, and the entry point by which "
    "settings name it. It works as it is written; then make it yours. (A tiny model: swe-aem init-tiny-model.)",
)


def _command(kind: Kind) -> Callable[..., None]:
    def init(
        name: Annotated[
            str, typer.Argument(metavar="NAME", help="What it is called, in settings too: lower-case, as in my-own.")
        ],
        out: Annotated[
            Path | None, typer.Option("--out", metavar="DIR", help="Directory to make. [default: NAME]")
        ] = None,
    ) -> None:
        made = write_package(kind, name, out)
        typer.echo(f"{made.directory}: {', '.join(made.files)}")
        typer.echo(f"Test it:  cd {made.directory} && pytest")
        typer.echo(f"Use it:   uv pip install -e {made.directory}, and then")
        typer.echo(f"          {made.use}")

    return init


for one in KINDS.values():
    about = f"{one.summary}\n\nExample: swe-aem init {one.name} my-{one.name}"
    app.command(one.name, help=about, short_help=one.summary)(_command(one))
