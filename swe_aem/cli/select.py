"""`swe-aem select`: of several samples of each task, choose one to submit, without the hidden tests."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from swe_aem.cli.command import SectionedCommand
from swe_aem.cli.eval import ks_of
from swe_aem.cli.mirror import Mirrored, with_settings
from swe_aem.cli.options import SANDBOX_HELP, as_setting, complete_policy, complete_reward, complete_sandbox
from swe_aem.cli.tell import complain, tell
from swe_aem.core.settings import check
from swe_aem.errors import UserError
from swe_aem.runlog import keep_in
from swe_aem.selection.config import WAYS, SelectConfig

if TYPE_CHECKING:
    from swe_aem.rollout import Manifest, RolloutConfig
    from swe_aem.selection import Candidates, Selection, SelectionReport

app = typer.Typer(rich_markup_mode=None, add_completion=False)

_EXAMPLES = """\b
Examples:
  swe-aem rollout --tasks micro --policy http://host:8000 --tokenizer MODEL --group-size 8 --out runs/eight
  swe-aem select runs/eight
      by the tests that samples wrote, and by majority
  swe-aem select runs/eight --by verifier --verifier http://host:8000 --verifier-tokenizer MODEL
      the model itself, or another one, is asked about each patch
  swe-aem select runs/eight --by tests --by reward --reward mine.py:score --json selection.json

\b
Ways (--by, repeat for more; the first one is submitted):
  tests      each sample's own tests are run on the other samples' programs: who passes most
  majority   what most samples changed alike
  verifier   the probability that a model gives to YES, the patch resolves the issue
  reward     what a function pays for the trajectory, which it gets without its verdict
Equal scores: what most samples changed alike, then the lowest sample. Verdicts choose nothing: they
are read for the table, in which pass@k is what a perfect choice would reach and pass@1 a blind one.
OUT gets predictions-WAY.json for the SWE-bench harness. Repeat a command to resume: no test is run
and no question asked twice. Exit code 1: answers are missing; 2: wrong input; 130: interrupted.
More: swe-aem docs select
"""

_PANELS = {
    "Ways": (
        Mirrored(
            "ways", "--by", f"How samples are scored: {', '.join(WAYS)}; repeat for more.", "tests, majority",
            metavar="WAY",
        ),
        Mirrored("test_command", "--test-command", metavar="COMMAND"),
        Mirrored("test_limit_s", "--test-limit", "Seconds that one test file may take."),
        Mirrored("verifier", metavar="POLICY|{...}", parser=as_setting, completion=complete_policy),
        Mirrored("verifier_tokenizer", metavar="PATH"),
        Mirrored("verifier_samples"),
        Mirrored("verifier_tokens"),
        Mirrored("reward", metavar="NAME|{...}", parser=as_setting, completion=complete_reward),
        Mirrored("workers"),
    ),
}  # fmt: skip


@app.command(epilog=_EXAMPLES, cls=SectionedCommand)
@with_settings(SelectConfig, _PANELS)
def select(
    given: dict[str, Any],
    store: Annotated[Path, typer.Argument(metavar="STORE", help="A rollout with several samples per task.")],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Predictions and answers. [default: STORE/select]")
    ] = None,
    k: Annotated[str, typer.Option("--k", metavar="K,K", help="The k of best@k, separated by commas.")] = "1,2,4,8,16",
    sandbox: Annotated[
        Any,
        typer.Option(
            "--sandbox", metavar="NAME|{...}", help=f"{SANDBOX_HELP} [default: that of the rollout]",
            parser=as_setting, autocompletion=complete_sandbox, show_default=False,
        ),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Also write the report, with each sample's score.")
    ] = None,
) -> None:  # fmt: skip
    """Choose one of several samples of each task: test-time scaling, best of n.

    Never by the hidden tests. Says what each way of choosing reaches, beside pass@k of the same samples.
    """
    from swe_aem.selection import report_lines, selection_report

    settings, ks = check(SelectConfig, given), ks_of(k)
    candidates, manifest, rollout = _read(store, sandbox)
    directory = out or store / "select"
    keep_in(directory)
    for note in candidates.notes:
        tell(note)
    selection = _selection(settings, rollout, manifest, candidates, directory)
    try:
        ways = asyncio.run(selection.run())
    except KeyboardInterrupt:
        tell(f"interrupted: answers so far are in {directory}; repeat the command for the others")
        raise typer.Exit(130) from None
    report: SelectionReport = selection_report(str(store), candidates, ways, ks)
    typer.echo("\n".join(report_lines(report)))
    if json_file is not None:
        json_file.write_text(report.model_dump_json(indent=2) + "\n", encoding="utf-8")
    tell(f"chosen by {ways[0].name}: {directory}/predictions-{ways[0].name}.json")
    if selection.unanswered:
        count = len(selection.unanswered)
        complain(f"{count} questions have no answer, for infrastructure failed: fix the cause and repeat the command")
        raise typer.Exit(1)


def _read(store: Path, sandbox: Any) -> "tuple[Candidates, Manifest, RolloutConfig]":
    """The candidates of a store, and the settings of its rollout, with another sandbox if one is given."""
    from swe_aem.rollout import RolloutConfig, read_manifest
    from swe_aem.selection import read_candidates

    candidates = read_candidates(store)
    manifest = read_manifest(store)
    if manifest is None:
        raise UserError(f"{store} has no config.json, which says what its tasks are: name the --out of a rollout")
    rollout = manifest.config
    if sandbox is not None:
        other = check(RolloutConfig, {"tasks": rollout.tasks, "sandbox": sandbox})
        rollout = rollout.model_copy(update={"sandbox": other.sandbox})
    return candidates, manifest, rollout


def _selection(
    settings: SelectConfig, rollout: "RolloutConfig", manifest: "Manifest", candidates: "Candidates", directory: Path
) -> "Selection":
    from swe_aem.cli.load import load_and_tell
    from swe_aem.selection import Selection

    tasks = load_and_tell(rollout.tasks, split=rollout.split, family=rollout.family)
    return Selection(settings, rollout, manifest, candidates, tasks, directory, tell=tell)
