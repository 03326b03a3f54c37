"""Commands and groups as this command line has them: plain help in sections, verbs imported when they run."""

import importlib
import re
from collections.abc import Mapping
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from swe_aem.cli.logged import log_runs
from swe_aem.cli.tell import complain
from swe_aem.suggest import did_you_mean

_PLAIN = {
    r"^Value error, ": "",
    r"^Input should be a valid integer.*": "expected a whole number",
    r"^Input should be a valid number.*": "expected a number",
    r"^Input should be greater than or equal to (\S+)": r"must be at least \1",
    r"^Input should be less than or equal to (\S+)": r"must be at most \1",
    r"^Input should be ": "expected ",
}
"""What typer says of a wrong value, in the words of a validation library, and what is said here."""


def _plain(message: str) -> str:
    for words, better in _PLAIN.items():
        message = re.sub(words, better, message)
    return message


_ORDER = {"Arguments": 0, "Options": 2}
"""Sections that are not between the others, which keep the order of their definition."""


class SectionedCommand(TyperCommand):
    """A command whose help has a section per panel of options."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write arguments, panels of options and what is in no panel, each under its title."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            if (record := param.get_help_record(ctx)) is None:
                continue
            plain = "Arguments" if param.param_type_name == "argument" else "Options"
            sections.setdefault(getattr(param, "rich_help_panel", None) or plain, []).append(record)
        for title, rows in sorted(sections.items(), key=lambda one: _ORDER.get(one[0], 1)):
            with formatter.section(title):
                formatter.write_dl(rows)


class LazyGroup(TyperGroup):
    """A command group that imports a verb when it is called for."""

    package: str
    """Where the modules of the verbs are."""
    verbs: Mapping[str, str]
    """Every verb with the line that help shows for it, so that no verb is imported for that."""
    renamed: Mapping[str, str]
    """Old names of verbs to what they are called now."""
    _only_listed = False

    def list_commands(self, ctx: Any) -> list[str]:
        """Names of all verbs."""
        return list(self.verbs)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of one verb, or None for an unknown name."""
        if cmd_name not in self.verbs:
            return None
        if self._only_listed:
            return TyperCommand(cmd_name, help=self.verbs[cmd_name])
        module = importlib.import_module(f"{self.package}.{cmd_name.replace('-', '_')}")
        command = typer.main.get_command(module.app)
        command.name = cmd_name
        log_runs(command, cmd_name)
        return command

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that the first word names; refuses an unknown one with what it may stand for."""
        name = args[0]
        if name in self.renamed:
            ctx.fail(f"The command {name} is now called {self.renamed[name]}.")
        if name not in self.verbs and name[:1] != "-" and not ctx.resilient_parsing:
            ctx.fail(f"No such command '{name}'{did_you_mean(name, self.verbs)}. `swe-aem --help` lists all.")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run a verb. Ctrl-C that the verb did not answer itself is one line and exit code 130."""
        try:
            return super().invoke(ctx)
        except typer.BadParameter as error:
            error.message = _plain(error.message)
            raise
        except KeyboardInterrupt:
            complain("interrupted")
            raise typer.Exit(130) from None

    def shell_complete(self, ctx: Any, incomplete: str) -> Any:
        """Verbs and options that begin so; no verb is imported for that."""
        self._only_listed = True
        try:
            return super().shell_complete(ctx, incomplete)
        finally:
            self._only_listed = False

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the verbs' table without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(self.verbs.items()))
