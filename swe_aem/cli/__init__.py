"""The command line: one file per verb. A verb's file is imported when that verb runs, so that `--help` stays fast.

A verb is a file `swe_aem/cli/<verb>.py` (with underscores for hyphens) that exports a typer `app`, plus one row in
`VERBS`.
"""

import importlib
import sys
from typing import Any

import typer
from typer.core import TyperGroup

from swe_aem import __version__
from swe_aem.errors import UserError

VERBS = {
    "rollout": "Run an agent against tasks, grade its patches, store the trajectories.",
    "train": "Train a policy by reinforcement learning: GRPO with AEM on live rollouts.",
    "serve": "Serve a policy with vLLM, so that rollouts and training may use it.",
    "sft": "Warm start: fine-tune a policy on resolved trajectories.",
    "init-tiny-model": "A tokenizer and a small random model, for experiments on a laptop.",
    "tasks": "List, show, check and synthesise tasks.",
    "images": "List, pull, build, unpack and remove the images that tasks run in.",
    "sandbox": "List, prune and enter sandboxes.",
    "harness": "Agents of other people: list them, install their environments.",
    "doctor": "Look at this host: what is wrong, and the command that mends it.",
    "eval": "pass@1 with its interval, pass@k, and paired comparison of two runs.",
    "replay-advantages": "Advantages of stored groups under other settings: AEM, its ablations, no GPU.",
    "diagnose": "The AEM paper's diagnostics on a store and a policy: signs, entropy change, relative surprisal.",
    "report": "A training run as plots and one HTML page: did it learn, what did it cost.",
    "export": "Write a store in other formats, e.g. predictions for the SWE-bench harness.",
}
"""Every verb with the line that `swe-aem --help` shows for it, so that no verb is imported for that."""


class LazyGroup(TyperGroup):
    """A command group that imports a verb when it is called for."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Names of all verbs, in the order of `VERBS`."""
        return list(VERBS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of one verb, or None for an unknown name."""
        if cmd_name not in VERBS:
            return None
        module = importlib.import_module(f"{__name__}.{cmd_name.replace('-', '_')}")
        command = typer.main.get_command(module.app)
        command.name = cmd_name
        return command

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the verbs' table without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(VERBS.items()))


app = typer.Typer(
    name="swe-aem",
    cls=LazyGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,  # rich doubles the time of --help
)


@app.callback(
    invoke_without_command=True,
    epilog="Start here: swe-aem rollout --limit 4   (the bundled tasks, their gold patches, no model needed)",
)
def _root(version: bool = typer.Option(False, "--version", help="Print the version and exit.")) -> None:
    """Train software-engineering agents by reinforcement learning.

    Real sandboxes, token-exact rollouts, honest grading.

    Every command explains itself: swe-aem COMMAND --help.
    """
    if version:
        typer.echo(__version__)
        raise typer.Exit


def main() -> None:
    """Entry point of the `swe-aem` command; a `UserError` becomes one line on stderr and exit code 2."""
    try:
        app()
    except UserError as error:
        typer.echo(f"swe-aem: {' '.join(str(error).split())}", err=True)
        sys.exit(2)
