"""`swe-aem docs`: the docs of this version, which come with the package."""

from pathlib import Path
from typing import Annotated

import typer

from swe_aem.errors import UserError
from swe_aem.suggest import did_you_mean

app = typer.Typer(rich_markup_mode=None, add_completion=False)

_PACKAGE = Path(__file__).resolve().parents[1]
_HOMES = (_PACKAGE / "bundled" / "docs", _PACKAGE.parent / "docs")
"""Where the pages are: in an installed wheel, and in a checkout."""


def pages() -> dict[str, Path]:
    """Every page by its name, such as `bench` or `extend/reward`."""
    home = next((home for home in _HOMES if (home / "index.md").is_file()), None)
    if home is None:
        raise UserError("this installation has no docs: install swe-aem from a wheel, or from a checkout")
    found = {path.relative_to(home).with_suffix("").as_posix(): path for path in home.rglob("*.md")}
    return dict(sorted(found.items(), key=lambda one: ("/" in one[0], one[0])))


def _complete(incomplete: str) -> list[str]:
    return [name for name in pages() if name.startswith(incomplete)]


@app.command(epilog="Example: swe-aem docs learn/first-run. Piped, a page is Markdown as it was written.")
def docs(
    page: Annotated[
        str | None,
        typer.Argument(metavar="PAGE", help="Name of a page; without one, all are listed.", autocompletion=_complete),
    ] = None,
    path: Annotated[bool, typer.Option("--path", help="Print where the page's file is instead.")] = False,
) -> None:
    """Read the docs of this version: list the pages, or print one."""
    from swe_aem.table import table

    found = pages()
    if page is None:
        rows = [(name, _title(file)) for name, file in found.items()]
        typer.echo("\n".join(table(rows, head=("page", "is about"))))
        return
    name = page.removeprefix("docs/").removesuffix(".md")
    if name not in found:
        raise UserError(f"there is no page {name}{did_you_mean(name, found)}; `swe-aem docs` lists them")
    if path:
        typer.echo(found[name])
        return
    _show(found[name].read_text(encoding="utf-8"))


def _title(file: Path) -> str:
    return file.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")


def _show(text: str) -> None:
    """Print a page; laid out where somebody reads it, as it is where a program does."""
    from rich.console import Console
    from rich.markdown import Markdown

    console = Console()
    if console.is_terminal:
        console.print(Markdown(text))
    else:
        typer.echo(text, nl=False)
