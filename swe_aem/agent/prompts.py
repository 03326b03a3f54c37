"""The native agent's texts, as Jinja templates: `prompts/*.jinja`. A user's file can replace each of them.

An undefined variable is an error. Nothing is escaped, so a problem statement is inserted unchanged.
"""

from pathlib import Path
from typing import Any

from swe_aem.core import ExecResult
from swe_aem.errors import UserError

_SHIPPED = Path(__file__).parent / "prompts"


class Prompts:
    """Templates by name (the file name without `.jinja`)."""

    def __init__(self, directory: Path | None = None) -> None:
        """`directory` holds replacements; templates that it lacks are the shipped ones.

        Raises `UserError` if it is not a directory or a template has a syntax error.
        """
        import jinja2

        if directory is not None and not directory.is_dir():
            raise UserError(f"{directory}: no such directory of prompt templates")
        environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader([path for path in (directory, _SHIPPED) if path is not None]),
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            autoescape=False,
        )
        self._templates: dict[str, jinja2.Template] = {}
        for file in _SHIPPED.glob("*.jinja"):
            try:
                self._templates[file.stem] = environment.get_template(file.name)
            except jinja2.TemplateError as error:
                raise UserError(f"prompt template {file.name}: {error}") from error

    def render(self, name: str, **variables: Any) -> str:
        """The text of one template; raises `UserError` if the template uses an undefined variable."""
        import jinja2

        try:
            return self._templates[name].render(**variables)
        except jinja2.TemplateError as error:
            raise UserError(f"prompt template {name}.jinja: {error}") from error

    def bash_result(self, result: ExecResult, timeout_s: float) -> str:
        """The observation of one bash command."""
        return self.render(
            "bash",
            output=result.output.removesuffix("\n"),
            exit_code=result.exit_code,
            timed_out=result.timed_out,
            disk=result.killed_for == "disk",
            oom=result.oom,
            killed=result.killed,
            timeout_s=f"{round(timeout_s, 1):g}",
        )
