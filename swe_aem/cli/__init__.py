"""The command line: one file per verb. A verb's file is imported when that verb runs, so that `--help` stays fast.

A verb is a file `swe_aem/cli/<verb>.py` (with underscores for hyphens) that exports a typer `app`, plus one row in
`VERBS`.
"""

import os
import sys

os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")  # to look for them takes a tenth of a start

import typer

from swe_aem import __version__
from swe_aem.cli.command import LazyGroup
from swe_aem.cli.logged import exit_code_of
from swe_aem.cli.tell import complain, complain_of_extension
from swe_aem.errors import ExtensionFailed, InfrastructureError, UserError

VERBS = {
    "bench": "Evaluate a policy on a task set: images, rollouts, verdicts, one page.",
    "rollout": "Run an agent on tasks, grade its patches, store the trajectories.",
    "train": "Train a policy by reinforcement learning: GRPO with AEM on live rollouts.",
    "serve": "Serve a policy with vLLM, for rollouts and training.",
    "sft": "Fine-tune a policy on resolved trajectories, as a warm start.",
    "init-tiny-model": "Make a small random model with its tokenizer, for experiments on a laptop.",
    "tasks": "List, show, check, choose, build and synthesise tasks.",
    "models": "Check that a model's files fit the chat format of rollouts; list the families.",
    "images": "List, pull, build, unpack and remove the images that tasks run in.",
    "sandbox": "List, remove and enter sandboxes.",
    "cluster": "Look at the hosts of a Ray cluster, on which rollouts run with --cluster.",
    "harness": "List and install agents made elsewhere, e.g. OpenHands.",
    "init": "Begin a package of your own that adds to swe-aem, with a test and a README.",
    "doctor": "Check this host, and name the command that fixes what is wrong.",
    "docs": "Read the docs of this version in the terminal: list the pages, or print one.",
    "grade": "Grade predictions, the patches of a store, or kept logs, as rollouts are graded.",
    "eval": "Report pass@1 with its interval and pass@k of a run, or compare two runs.",
    "select": "Choose one of several samples of each task without its hidden tests: best of n.",
    "audit": "Label trajectories by what they did on the way: tests, runner, grader, network.",
    "recompute-rewards": "Give stored trajectories the rewards of another function; runs nothing.",
    "replay-advantages": "Recompute advantages of stored groups under other AEM settings; needs no GPU.",
    "diagnose": "Check AEM's assumptions on a store and its policy, as in the paper.",
    "view": "Look at runs in a browser: trajectories, training curves, comparisons; live.",
    "inspect": "Look at trajectories in a terminal: a table, or one from beginning to end.",
    "report": "Draw a training run: plots and one HTML page.",
    "name-tokenizer": "Say which tokenizer a store of an older version was rolled out with.",
    "export": "Write a store in other formats, e.g. predictions for the SWE-bench harness.",
}
"""Every verb with the line that `swe-aem --help` shows for it."""

RENAMED = {"seedling": "init-tiny-model"}
"""Old names of verbs to what they are called now."""


class _Verbs(LazyGroup):
    package, verbs, renamed = __name__, VERBS, RENAMED


app = typer.Typer(
    name="swe-aem",
    cls=_Verbs,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # rich doubles the time of --help
)


@app.callback(
    invoke_without_command=True,
    epilog="Start here: swe-aem rollout --limit 4   (the bundled tasks, their gold patches, no model needed). "
    "A run failed? Its directory has run.log.",
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
    """Entry point of the `swe-aem` command. Errors that a user can act on are one line on stderr.

    Exit code 2 for wrong input, 1 for an infrastructure failure, or where code of the user's own raises, whose
    traceback is shown.
    """
    try:
        app()
    except ExtensionFailed as error:
        complain_of_extension(error)
        sys.exit(exit_code_of(error))
    except (UserError, InfrastructureError) as error:
        complain(error)
        sys.exit(exit_code_of(error))
    except OSError as error:  # a file that cannot be read or written; without a file it is a bug, and shown as one
        if error.filename is None:
            raise
        complain(f"{error.filename}: {error.strerror}")
        sys.exit(exit_code_of(error))
