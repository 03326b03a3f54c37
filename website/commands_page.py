"""The page of all commands, from the command line itself."""

import re
from collections.abc import Iterator
from typing import Any

import typer

from swe_aem.cli import VERBS, app

MARK = "<!-- commands -->"


def with_commands(markdown: str) -> str:
    """The page with a section for each command in the place of its mark."""
    return markdown.replace(MARK, "\n".join(_every_command()))


def _every_command() -> Iterator[str]:
    root: Any = typer.main.get_command(app)
    for verb in VERBS:
        yield from _sections(f"swe-aem {verb}", root.get_command(None, verb), level=2)


def _sections(name: str, command: Any, level: int) -> Iterator[str]:
    """The section of a command, and those of its subcommands below it."""
    context = command.make_context(name, [], resilient_parsing=True)
    yield f"{'#' * level} {name}\n"
    yield _prose(command.help)
    yield from _tables(command, context)
    yield _prose(command.epilog)
    for other in command.list_commands(context) if hasattr(command, "list_commands") else ():
        yield from _sections(f"{name} {other}", command.get_command(context, other), level + 1)


def _tables(command: Any, context: Any) -> Iterator[str]:
    """A table for each panel of options, as help has them."""
    panels: dict[str, list[str]] = {}
    for param in command.get_params(context):
        record = param.get_help_record(context)
        if record is None or "--help" in param.opts:
            continue
        plain = "Arguments" if param.param_type_name == "argument" else "Options"
        panel = getattr(param, "rich_help_panel", None) or plain
        panels.setdefault(panel, []).append(f"| `{_cell(record[0])}` | {_escaped(_cell(record[1]))} |")
    for panel, rows in panels.items():
        yield f"| {panel} | |\n|---|---|\n" + "\n".join(rows) + "\n"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _escaped(text: str) -> str:
    """Text without what Markdown would read as markup, but for its code in backticks."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(part if part.startswith("`") else re.sub(r"([\[\]*_<>$])", r"\\\1", part) for part in parts)


def _prose(text: str | None) -> str:
    r"""Help as Markdown: a paragraph that keeps its lines (`\b`) becomes a block."""
    paragraphs = []
    for paragraph in re.split(r"\n\s*\n", (text or "").strip("\n")):
        kept = paragraph.strip("\n").removeprefix("\b\n")
        if kept == paragraph.strip("\n"):
            paragraphs.append(_escaped(" ".join(paragraph.split())))
        elif re.search(r"^  ", kept, re.MULTILINE):
            paragraphs.append(f"```text\n{kept.rstrip()}\n```")
        else:
            paragraphs.append(_escaped(" ".join(kept.split())))
    return "\n\n".join(paragraphs) + "\n"
