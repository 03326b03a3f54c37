"""`run.log` of every verb that writes into a directory of its own, `--out`: see `swe_aem.runlog`."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import typer

from swe_aem.errors import ExtensionFailed, InfrastructureError, UserError
from swe_aem.runlog import run_log

WITHOUT = {
    "audit": "its --out is a file",
    "export": "its --out is a file",
    "tasks select": "its --out is a file",
    "init-tiny-model": "its --out is a model, and every file beside it would be published with it",
    "init": "its --out is a new package, which goes under version control",
}
"""Verbs, or groups of verbs, with an `--out` that no run.log is for, each with the reason."""


def log_runs(command: Any, name: str) -> None:
    """Give a verb, or each verb of a group of verbs, a run.log in its `--out`. A verb that has another directory where
    none is given says so itself, with `keep_in`."""
    if name in WITHOUT:
        return
    for verb, one in getattr(command, "commands", {}).items():
        log_runs(one, f"{name} {verb}")
    if any(param.name == "out" for param in command.params):
        command.callback = _logged(command.callback)


def _logged(callback: Callable[..., Any]) -> Callable[..., Any]:
    def run(**given: Any) -> Any:
        if given.get("dry_run"):  # writes nothing
            return callback(**given)
        with run_log(_directory(given)) as log:
            try:
                result = callback(**given)
            except typer.Exit as end:
                log.exit_code, ended = end.exit_code, end
            except BaseException as error:
                log.exit_code = exit_code_of(error)
                raise
            else:
                log.exit_code = 0
                return result
        raise ended  # outside, for it is no failure of the run

    return run


def _directory(given: Mapping[str, Any]) -> Path | None:
    return None if given["out"] is None else Path(given["out"])


def exit_code_of(error: BaseException) -> int:
    """The exit code of a process that ends with this exception."""
    if isinstance(error, KeyboardInterrupt):
        return 130
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    if isinstance(error, (ExtensionFailed, InfrastructureError)):
        return 1
    if isinstance(error, UserError) or (isinstance(error, OSError) and error.filename is not None):
        return 2
    return getattr(error, "exit_code", 1)  # of a usage error
