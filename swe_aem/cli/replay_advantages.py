"""`swe-aem replay-advantages`: what AEM makes of a store's groups, under several settings."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from swe_aem.errors import UserError

if TYPE_CHECKING:
    from swe_aem.train.analysis.replay import Replay

app = typer.Typer(rich_markup_mode=None, add_completion=False)

_COLUMNS = ("setting", "α min", "α max", "α std", "gated", "moved", "α mistakes", "α successes")


@app.command(
    epilog="Example: swe-aem replay-advantages runs/qwen --lam 2 --out replay. Needs the extra `transformers` (torch), "
    "and no GPU."
)
def replay(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Directory of a rollout's store.")],
    lam: Annotated[float, typer.Option("--lam", min=0.0, max=50.0, help="Strength of AEM.")] = 1.0,
    min_range: Annotated[
        float, typer.Option("--min-range", min=0.0, help="Groups whose entropies range over less are left alone, nats.")
    ] = 0.1,
    scope: Annotated[str, typer.Option("--scope", help="Normalise over each trajectory, group, or batch.")] = "group",
    baseline: Annotated[
        str, typer.Option("--baseline", help="leave_one_out, group_mean or group_normalised.")
    ] = "leave_one_out",
    limits: Annotated[
        bool, typer.Option("--limits", help="Also responses of trajectories that ended at a limit.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option("--out", help="Directory for responses.jsonl, summary.json and alpha.png.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of a table.")] = False,
) -> None:
    """Compute the advantages of stored groups anew: base, AEM, and the paper's ablations beside it.

    A store has log-probabilities of sampled tokens, so a response's entropy is estimated by its mean surprisal, which
    is unbiased but noisy. gated: share of responses whose factor is exactly 1. moved: how much of the advantages AEM
    shifts. α mistakes, α successes: mean factor of responses with negative and with positive advantage.
    """
    import json

    from pydantic import ValidationError

    try:
        from swe_aem.advantage.config import AdvantageConfig
        from swe_aem.train.analysis.replay import comparison, read, table
    except ModuleNotFoundError as error:
        raise UserError(f"{error.name} is not installed: `uv sync --extra transformers`") from None
    try:
        chosen = AdvantageConfig.model_validate(
            {"lam": lam, "min_range": min_range, "scope": scope, "baseline": baseline}
        )
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"--{first['loc'][0]}: {first['msg']}") from None
    stored = read(directory, compact_filtering=not limits)
    replays = comparison(stored, chosen)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        rows = table(stored, [(one.name, one.settings) for one in replays])
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
        f"{first.responses} responses in {first.groups} groups; {first.silent_groups} groups have one reward for all "
        "and no advantage. Entropy is estimated by surprisal; `swe-aem diagnose` computes it from the model."
    )
    rows = [
        (
            one.name,
            *(f"{value:.3f}" for value in (one.alpha_min, one.alpha_max, one.alpha_std)),
            f"{one.gated_share:.0%}",
            f"{one.moved:.1%}",
            f"{one.confident_mistakes:.3f}",
            f"{one.confident_successes:.3f}",
        )
        for one in replays
    ]
    widths = [max(len(row[column]) for row in [_COLUMNS, *rows]) for column in range(len(_COLUMNS))]
    for row in [_COLUMNS, *rows]:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        typer.echo("  ".join(cells))


def _plot(path: Path, rows: list[dict[str, object]], replays: "list[Replay]") -> None:
    """Factor against surprisal, and the factors' distribution, a colour per setting."""
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        raise UserError("matplotlib is not installed: `uv sync --extra train`, or leave --out away") from None

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
