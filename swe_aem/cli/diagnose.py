"""`swe-aem diagnose`: the AEM paper's diagnostics on a store and a policy, as text, JSON and plots."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from swe_aem.cli.options import Estimator, EstimatorSettings, Store
from swe_aem.core.outcome import LimitsReward
from swe_aem.extras import needs

if TYPE_CHECKING:
    from swe_aem.train.analysis.diagnose import Progress
    from swe_aem.train.analysis.diagnosis import DiagnosisResult

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command(
    epilog="Example: swe-aem diagnose runs/quickstart/rollouts --model configs/quickstart/policy --version 0 "
    "--after runs/quickstart/policy --out diagnosis. Needs the extra `transformers` (torch); a GPU is used if there is "
    "one. How to read it: swe-aem docs diagnose."
)
def diagnose(
    directory: Store,
    model: Annotated[Path, typer.Option("--model", help="Directory of the policy that sampled it.")],
    after: Annotated[
        Path | None, typer.Option("--after", help="Directory of the policy after training, to compare its entropy.")
    ] = None,
    states: Annotated[int, typer.Option("--states", min=0, help="Stored states to sample from again.")] = 64,
    samples: Annotated[int, typer.Option("--samples", min=2, help="Fresh responses per state.")] = 32,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of states, samples and bootstrap.")] = 0,
    max_tokens: Annotated[
        int | None, typer.Option("--max-tokens", min=1, help="Tokens of a fresh response. [default: the run's limit]")
    ] = None,
    version: Annotated[
        int | None, typer.Option("--version", help="Only groups that this version of the weights sampled.")
    ] = None,
    estimator: Estimator = "aem",
    settings: EstimatorSettings = None,
    limits: Annotated[
        bool, typer.Option("--limits", help="Also responses of trajectories that ended at a limit.")
    ] = False,
    limits_reward: Annotated[
        LimitsReward, typer.Option("--limits-reward", help="Reward of trajectories that ended at a limit.")
    ] = "graded",
    out: Annotated[
        Path | None, typer.Option("--out", help="Directory for diagnose.json, responses.jsonl, states.jsonl and plots.")
    ] = None,
) -> None:
    """Check what AEM's paper predicts: positive samples, the direction of entropy, and α-1 against H-S.

    Shows the share of samples with positive advantage, the sign of A(α-1) (above 0 foretells falling entropy) against
    the change of entropy, and α-1 against H-S: response entropy minus surprisal. Entropies are exact, from one forward
    pass of --model over the stored tokens; the response entropy of a state is the mean surprisal of --samples fresh
    responses to it. Takes minutes for a small model, most of them for sampling.

    α is what --estimator multiplies a response's base advantage by.
    """
    with needs("transformers"):
        from swe_aem.advantage.config import advantage_of
        from swe_aem.train.analysis.diagnose import diagnose as run
        from swe_aem.train.analysis.diagnosis import DiagnoseConfig
    from swe_aem.cli.diagnose_text import lines

    config = DiagnoseConfig(
        states=states,
        samples=samples,
        seed=seed,
        max_tokens=max_tokens,
        version=version,
        compact_filtering=not limits,
        limits_reward=limits_reward,
        advantage=advantage_of(estimator, settings or ()),
    )
    if out is not None:
        with needs("train", "leave --out away"):
            import matplotlib.figure  # noqa: F401
    with _progress() as progress:
        report = run(directory, model, config, after_directory=after, progress=progress)
    typer.echo("\n".join(lines(report.diagnosis)))
    if out is not None:
        typer.echo(f"{out}: {', '.join(_write(report, out))}")


def _write(report: "DiagnosisResult", out: Path) -> list[str]:
    """Write figures, points and plots; returns the files' names."""
    from swe_aem.cli.diagnose_plots import plot
    from swe_aem.cli.diagnose_text import as_json

    out.mkdir(parents=True, exist_ok=True)
    (out / "diagnose.json").write_text(json.dumps(as_json(report.diagnosis), indent=2) + "\n")
    for name, rows in (("responses", report.responses), ("states", report.states)):
        (out / f"{name}.jsonl").write_text("".join(row.model_dump_json() + "\n" for row in rows))
    return ["diagnose.json", "responses.jsonl", "states.jsonl", *plot(out, report)]


@contextmanager
def _progress() -> Iterator["Progress"]:
    """A bar for each part on a terminal, nothing elsewhere."""
    if not sys.stderr.isatty():
        yield lambda what, done, total: None
        return
    from rich.console import Console
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

    with Bars(console=Console(stderr=True), transient=True) as bars:
        known: dict[str, TaskID] = {}

        def show(what: str, done: int, total: int) -> None:
            if what not in known:
                known[what] = bars.add_task(what)
            bars.update(known[what], completed=done, total=total)

        yield show
