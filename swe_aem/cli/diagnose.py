"""`swe-aem diagnose`: the AEM paper's diagnostics on a store and a policy, as text, JSON and plots."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from swe_aem.errors import UserError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from swe_aem.train.analysis.diagnose import Progress
    from swe_aem.train.analysis.diagnosis import Diagnosis, Relation, Report

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command(
    epilog="Example: swe-aem diagnose runs/quickstart/rollouts --model configs/quickstart/policy --version 0 "
    "--after runs/quickstart/policy --out diagnosis. Needs the extra `transformers` (torch); a GPU is used if there is "
    "one. How to read it: docs/diagnose.md."
)
def diagnose(
    directory: Annotated[Path, typer.Argument(metavar="STORE", help="Directory of a rollout's store.")],
    model: Annotated[Path, typer.Option("--model", help="Directory of the policy that sampled it.")],
    after: Annotated[
        Path | None, typer.Option("--after", help="Directory of the policy after training: did entropy move as told?")
    ] = None,
    states: Annotated[int, typer.Option("--states", min=0, help="Stored states to sample from anew.")] = 64,
    samples: Annotated[int, typer.Option("--samples", min=2, help="Fresh responses per state.")] = 32,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of states, samples and bootstrap.")] = 0,
    max_tokens: Annotated[
        int | None, typer.Option("--max-tokens", min=1, help="Of a fresh response; what the run allowed, if not given.")
    ] = None,
    version: Annotated[
        int | None, typer.Option("--version", help="Only groups that this version of the weights sampled.")
    ] = None,
    lam: Annotated[float, typer.Option("--lam", min=0.0, max=50.0, help="Strength of AEM.")] = 1.0,
    min_range: Annotated[
        float, typer.Option("--min-range", min=0.0, help="Groups whose entropies range over less are left alone, nats.")
    ] = 0.1,
    limits: Annotated[
        bool, typer.Option("--limits", help="Also responses of trajectories that ended at a limit.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option("--out", help="Directory for diagnose.json, responses.jsonl, states.jsonl and plots.")
    ] = None,
) -> None:
    """Share of positive samples, sign of A(α-1) against the entropy change, and α-1 against relative surprisal.

    Entropies are exact, from one forward pass of --model over the stored tokens; the response entropy of a state is the
    mean surprisal of --samples fresh responses to it. Minutes for a small model, and most of them sampling.
    """
    import json

    try:
        from swe_aem.advantage.config import AdvantageConfig
        from swe_aem.train.analysis.diagnose import diagnose as run
        from swe_aem.train.analysis.diagnosis import DiagnoseConfig
    except ModuleNotFoundError as error:
        raise UserError(f"{error.name} is not installed: `uv sync --extra transformers`") from None
    settings = DiagnoseConfig(
        states=states,
        samples=samples,
        seed=seed,
        max_tokens=max_tokens,
        version=version,
        compact_filtering=not limits,
        advantage=AdvantageConfig(lam=lam, min_range=min_range),
    )
    if out is not None:
        _require_matplotlib()
    with _progress() as progress:
        report = run(directory, model, settings, after_directory=after, progress=progress)
    typer.echo("\n".join(lines(report.diagnosis)))
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / "diagnose.json").write_text(json.dumps(_as_json(report.diagnosis), indent=2) + "\n")
        for name, rows in (("responses", report.responses), ("states", report.states)):
            (out / f"{name}.jsonl").write_text("".join(row.model_dump_json() + "\n" for row in rows))
        plots = _plot(out, report)
        typer.echo(f"{out}: {', '.join(['diagnose.json', 'responses.jsonl', 'states.jsonl', *plots])}")


def lines(diagnosis: "Diagnosis") -> Iterator[str]:
    """What a person reads, part by part."""
    d = diagnosis
    yield f"{d.trajectories} trained trajectories in {len(d.groups)} groups; {d.responses} responses"
    if d.too_long:
        yield f"{d.too_long} trajectories are longer than the model's context: in the shares below, in nothing else"
    yield (
        f"stored log-probabilities are {d.logprob_gap:.2g} nats per token away from those of {d.model} at temperature "
        f"{d.temperature:g}" + (": another policy sampled it, see --version" if d.logprob_gap > 0.05 else "")
    )
    yield from ("", "1  Trajectories with positive advantage")
    total = sum(one.trajectories for one in d.positive)
    yield from _table(
        ("version", "trajectories", "positive", "share"),
        [(str(one.version), *_share(one.positive, one.trajectories)) for one in d.positive]
        + [("all", *_share(sum(one.positive for one in d.positive), total))],
    )
    even = sum(one.zero_variance for one in d.groups)
    yield f"per group: {_spread([one.positive / one.trajectories for one in d.groups])} positive"
    yield f"groups with one reward for all, and no advantage: {even} of {len(d.groups)} ({even / len(d.groups):.0%})"
    yield from ("", "2  A(α-1), and the change of entropy")
    none = d.responses - d.pressure_up - d.pressure_down
    yield f"A(α-1) is above 0 in {d.pressure_up} responses, below 0 in {d.pressure_down}, 0 in {none}"
    if d.change is None:
        yield "name the policy after training, --after, to see whether entropy moved that way"
    else:
        yield f"mean token entropy changed by {d.change:+.4f} nats to {d.after}"
        yield from _relations(d.change_relations)
    yield from ("", "3  α-1 against Monte Carlo relative surprisal")
    yield f"{d.gated} of {d.responses} responses are gated (α is exactly 1) and in none of this"
    if not d.states:
        yield "no state was sampled from"
        return
    cut = "" if not d.cut_share else f", {d.cut_share:.0%} of them cut off there"
    yield f"{d.states} states, {d.settings.samples} fresh responses each, of at most {d.max_tokens} tokens{cut}"
    yield from _relations(d.state_relations, paper=True)


def _relations(relations: Sequence["Relation"], *, paper: bool = False) -> Iterator[str]:
    rows = []
    for one in relations:
        interval = _interval(one)
        r = "-" if one.r is None else f"{one.r:+.2f}"
        bounds = "-" if one.r_low is None or one.r_high is None else f"{one.r_low:+.2f} .. {one.r_high:+.2f}"
        wilson = "-" if interval is None else f"{interval[0]:.0%} .. {interval[1]:.0%}"
        rows.append((one.name, str(one.points), r, bounds, f"{one.agree} of {one.signs}", wilson))
    if paper:
        from swe_aem.train.analysis.diagnosis import PAPER_R, PAPER_SIGNS

        agree, signs = PAPER_SIGNS
        rows.append(("paper, 32B", str(signs), f"{PAPER_R:+.2f}", "-", f"{agree} of {signs}", "-"))
    yield from _table(("", "points", "r", "95 %", "signs agree", "95 %"), rows)


def _interval(relation: "Relation") -> tuple[float, float] | None:
    """Wilson's, of the share of signs that agree, as if points were independent."""
    from swe_aem.evaluate.rates import wilson

    return wilson(relation.agree / relation.signs, relation.signs) if relation.signs else None


def _as_json(diagnosis: "Diagnosis") -> dict[str, Any]:
    from swe_aem.train.analysis.diagnosis import PAPER_R, PAPER_SIGNS

    result = diagnosis.model_dump(mode="json")
    for field in ("change_relations", "state_relations"):
        for row, one in zip(result[field], getattr(diagnosis, field), strict=True):
            row["agree_interval"] = _interval(one)
    return result | {"paper": {"r": PAPER_R, "agree": PAPER_SIGNS[0], "signs": PAPER_SIGNS[1]}}


def _share(part: int, whole: int) -> tuple[str, str, str]:
    return str(whole), str(part), f"{part / whole:.0%}"


def _spread(values: Sequence[float]) -> str:
    ordered = sorted(values)
    return f"{ordered[0]:.0%} to {ordered[-1]:.0%}, mean {sum(ordered) / len(ordered):.0%}"


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    for row in [head, *rows]:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        yield "  ".join(cells)


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


def _require_matplotlib() -> None:
    try:
        import matplotlib.figure  # noqa: F401
    except ModuleNotFoundError:
        raise UserError("matplotlib is not installed: `uv sync --extra train`, or leave --out away") from None


def _plot(directory: Path, report: "Report") -> list[str]:
    """Writes the scatter plots that there are points for; returns their names."""
    from matplotlib.figure import Figure

    names = []
    free = [row for row in report.responses if row.pressure]
    if report.diagnosis.after is not None and free:
        figure = Figure(figsize=(5.5, 4.5), layout="constrained")
        _scatter(figure.subplots(), [row.pressure for row in free], [row.change or 0.0 for row in free])
        figure.axes[0].set(xlabel="A(α-1)", ylabel="change of mean token entropy, nats", title="responses")
        figure.savefig(directory / "change.png", dpi=120)
        names.append("change.png")
    if report.states:
        figure = Figure(figsize=(11, 4.5), layout="constrained")
        alpha = [row.alpha - 1 for row in report.states]
        whole, each = figure.subplots(1, 2)
        _scatter(whole, alpha, [row.relative for row in report.states])
        whole.set(xlabel="α-1", ylabel="S-H of the response, nats", title="stored responses against their states")
        _scatter(each, alpha, [row.relative_per_token for row in report.states])
        each.set(xlabel="α-1", ylabel="S-H per token, nats")
        figure.savefig(directory / "surprisal.png", dpi=120)
        names.append("surprisal.png")
    return names


def _scatter(axes: "Axes", x: Sequence[float], y: Sequence[float]) -> None:
    axes.axhline(0, color="0.8", linewidth=1)
    axes.axvline(0, color="0.8", linewidth=1)
    axes.plot(x, y, ".", markersize=6)
