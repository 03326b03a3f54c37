"""`swe-aem replay-advantages`: what an advantage estimator makes of a store's groups, beside its variants."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from swe_aem.cli.options import Estimator, EstimatorSettings, Store
from swe_aem.core.outcome import LimitsReward
from swe_aem.extras import needs
from swe_aem.table import table as text_table

if TYPE_CHECKING:
    from swe_aem.train.analysis.replay import Replay

app = typer.Typer(rich_markup_mode=None, add_completion=False)

_COLUMNS = ("setting", "α min", "α max", "α std", "unmodulated", "moved", "α mistakes", "α successes")


@app.command(
    epilog="Example: swe-aem replay-advantages runs/qwen --set lam=2 --out replay. Needs the extra `transformers` "
    "(torch), and no GPU."
)
def replay(
    directory: Store,
    estimator: Estimator = "aem",
    settings: EstimatorSettings = None,
    limits: Annotated[
        bool, typer.Option("--limits", help="Also responses of trajectories that ended at a limit.")
    ] = False,
    limits_reward: Annotated[
        LimitsReward, typer.Option("--limits-reward", help="Reward of trajectories that ended at a limit.")
    ] = "graded",
    out: Annotated[
        Path | None, typer.Option("--out", help="Directory for responses.jsonl, summary.json and alpha.png.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of a table.")] = False,
) -> None:
    """Compute the advantages of stored groups again: the base, an estimator's, and those of its paper's ablations.

    A store has log-probabilities of sampled tokens, so entropies are estimated by surprisal, which is unbiased but
    noisy. α: what the estimator multiplies a response's base advantage by. unmodulated: share of responses whose α is
    exactly 1. moved: how much of the advantages is shifted. α mistakes, α successes: mean α of responses with negative
    and with positive advantage.
    """
    import json

    with needs("transformers"):
        from swe_aem.advantage.config import advantage_of
        from swe_aem.train.analysis.replay import comparison, table
        from swe_aem.train.analysis.stored import read_trajectories
    chosen = advantage_of(estimator, settings or ())
    trajectories = read_trajectories(directory, compact_filtering=not limits, limits_reward=limits_reward)
    found = comparison(trajectories, chosen)
    replays = [one.replay for one in found]
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        rows = table(trajectories, found)
        (out / "responses.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        (out / "summary.json").write_text(json.dumps([one.model_dump() for one in replays], indent=2) + "\n")
        _plot(out / "alpha.png", rows, replays)
    if as_json:
        typer.echo(json.dumps([one.model_dump() for one in replays]))
    else:
        _show(replays)
        if out is not None:
            typer.echo(f"{out}: responses.jsonl, summary.json, alpha.png")


def _show(replays: "list[Replay]") -> None:
    first = replays[0]
    typer.echo(
        f"{first.responses} responses in {first.groups} groups, {first.zero_variance_groups} of them zero-variance "
        "groups without advantage. Entropy is estimated by surprisal; `swe-aem diagnose` computes it from the model."
    )
    rows = [
        (
            one.name,
            *(f"{value:.3f}" for value in (one.alpha_min, one.alpha_max, one.alpha_std)),
            f"{one.unmodulated_share:.0%}",
            f"{one.moved:.1%}",
            f"{one.confident_mistakes:.3f}",
            f"{one.confident_successes:.3f}",
        )
        for one in replays
    ]
    for line in text_table(rows, head=_COLUMNS, align="<>"):
        typer.echo(line)
    chosen = replays[1]
    for name, value in chosen.metrics.items():
        typer.echo(f"{chosen.name}/{name} {value:.4g}")


def _plot(path: Path, rows: list[dict[str, object]], replays: "list[Replay]") -> None:
    """Factor against surprisal, and the factors' distribution, a colour per setting."""
    with needs("train", "leave --out away"):
        from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.5), layout="constrained")
    points, shares = figure.subplots(1, 2)
    surprisal = [float(str(row["surprisal"])) for row in rows]
    for one in replays[1:]:
        alpha = [float(str(row[f"{one.name}: alpha"])) for row in rows]
        points.plot(surprisal, alpha, ".", markersize=4, label=one.name)
        shares.hist(alpha, bins=40, histtype="step", label=one.name)
    points.set(xlabel="mean surprisal of the response, nats", ylabel="α")
    shares.set(xlabel="α", ylabel="responses")
    for axes in (points, shares):
        axes.legend()
    figure.savefig(path, dpi=120)
