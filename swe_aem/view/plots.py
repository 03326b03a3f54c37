"""The plots of a training run. One function per plot, one row in `PLOTS`; a plot whose keys never occur is left out.

matplotlib is imported when the first plot is drawn, and only as objects: no global state, no display.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from swe_aem.errors import UserError
from swe_aem.train.records import HeldoutRates, HeldoutScore
from swe_aem.view.training_run import TrainingRun

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, RED, PURPLE, GREY = "#2f6db5", "#e08a1e", "#3a9b5c", "#c8453b", "#7d5ba6", "#9aa0a6"
OUTCOME_COLOURS = {
    "resolved": GREEN,
    "unresolved": "#b9c3cf",
    "empty_patch": "#8fa0b3",
    "tests_hang": "#66788c",
    "turn_limit": "#f2cf8f",
    "context_limit": "#e8b04f",
    "time_limit": "#cf8f1f",
    "malformed": "#a98bc9",
    "integrity_violation": "#6b3fa0",
    "sandbox_killed": "#46286f",
    "broken_task": "#d9d2c0",
    "infrastructure": RED,
    "grader_failure": "#8f1f1f",
}
"""Grey: not resolved; yellow: a limit; violet: a broken rule; sand: a broken task; red: an infrastructure failure."""


MANY_STEPS = 60
"""Above so many values a line is faint and its moving mean is drawn over it."""

Line = tuple[str, str, str]
"""Field of `StepMetrics`, label for the legend (none if empty), colour."""


class Drawn(NamedTuple):
    """A plot, ready to be saved."""

    name: str
    """File name without `.png`."""
    title: str
    caption: str
    """How to read it."""
    figure: "Figure"


def draw(run: TrainingRun) -> Iterator[Drawn]:
    """Every plot that the run has numbers for; raises `UserError` if matplotlib is not installed."""
    try:
        import matplotlib.figure  # noqa: F401
    except ModuleNotFoundError:
        raise UserError("matplotlib is not installed: `uv sync --extra train`") from None
    for name, title, caption, plot in PLOTS:
        figure = plot(run)
        if figure is not None:
            yield Drawn(name, title, caption, figure)


def moving_mean(values: Sequence[float], window: int) -> list[float]:
    """Means of each `window` consecutive values, one for each value that ends such a window."""
    return [sum(values[end - window : end]) / window for end in range(window, len(values) + 1)]


def smoothing_window(values: int) -> int:
    """Values in a moving mean: a fifth of all, at most 10; below 2 nothing is smoothed."""
    return min(10, values // 5)


def resolved_rate(run: TrainingRun) -> "Figure | None":
    """Rate in training per step with its moving mean, and the held-out evaluations with their intervals."""
    steps, rates = run.series("resolved_rate")
    points = [one for one in run.heldout if one.pass_at_1 is not None]
    greedy = [one for one in run.heldout if one.greedy is not None]
    if not (steps or points or greedy):
        return None
    figure, axes = _canvas()
    if steps:
        axes.plot(steps, _percent(rates), ".", color=GREY, markersize=5, label="training, per step")
    window = smoothing_window(len(rates))
    if window > 1:
        smooth = _percent(moving_mean(rates, window))
        axes.plot(steps[window - 1 :], smooth, color=BLUE, linewidth=2, label=f"mean of the last {window}")
    apart = run.last_step / 200  # so that the two kinds of points do not hide each other
    if points:
        _bars_of_error(axes, [one.step - apart for one in points], points, RED, "o", "held out, sampled")
    if greedy:
        _bars_of_error(
            axes,
            [one.step + apart for one in greedy],
            [one.of_greedy for one in greedy],
            ORANGE,
            "D",
            "held out, greedy",
        )
    axes.set(ylabel="resolved, %", ylim=(-3, 103))
    _by_step(axes)
    return figure


def heldout(run: TrainingRun) -> "Figure | None":
    """Held-out rates before and after, sampled and greedy, in all and by part."""
    before, after = run.before, run.after
    # A pair of nothing would leave a gap.
    pairs = [(n, a, b) for n, a, b in _pairs(before, after) if a.pass_at_1 is not None or b.pass_at_1 is not None]
    if not pairs:
        return None
    figure, axes = _canvas()
    _bars(axes, [a for _, a, _ in pairs], -0.2, GREY, "before")
    _bars(axes, [b for _, _, b in pairs], 0.2, BLUE, f"after {after.step} steps" if after else "after")
    axes.set_xticks(range(len(pairs)), [name for name, _, _ in pairs], fontsize=8)
    axes.set(ylabel="held-out tasks resolved, %", ylim=(0, 112), xlim=(-0.6, len(pairs) - 0.4))
    axes.set_yticks(range(0, 101, 20))
    _legend(axes)
    return figure


def entropy(run: TrainingRun) -> "Figure | None":
    """Mean entropy of the old policy's responses, and how far it ranges in a group."""
    lines = (
        ("response_entropy", "mean of the responses", BLUE),
        ("entropy_range", "range within a group", ORANGE),
    )
    band = _both(run, "entropy_min", "entropy_max")
    if not (band or _any(run, lines)):
        return None
    figure, axes = _canvas()
    _band(axes, band, "lowest to highest of a group")
    _lines(axes, run, lines)
    axes.set(ylabel="entropy, nats per token")
    axes.set_ylim(bottom=0)
    _by_step(axes)
    return figure


def alpha(run: TrainingRun) -> "Figure | None":
    """Range, deviation and mean over tokens of AEM's factors, and the share of responses that it leaves unchanged."""
    spread = (("alpha_std", "standard deviation", PURPLE), ("alpha_token_mean", "mean over tokens", GREEN))
    unmodulated = (("unmodulated_share", "unmodulated responses (right)", ORANGE),)
    band = _both(run, "alpha_min", "alpha_max")
    if not (band or _any(run, (*spread, *unmodulated))):
        return None
    figure, axes = _canvas()
    if band:
        _band(axes, band, "α, min to max")
        axes.axhline(1.0, color="#555555", linewidth=0.8, linestyle=":")
    _lines(axes, run, spread)
    axes.set(ylabel="α")
    axes.set_ylim(bottom=0)
    shares = None
    if _any(run, unmodulated):
        shares = _right(axes, "responses with α = 1, %")
        _lines(shares, run, unmodulated, scale=100)
        shares.set_ylim(-3, 103)
    _by_step(axes, shares)
    return figure


def estimator(run: TrainingRun) -> "Figure | None":
    """The metrics of an advantage estimator other than AEM, each in a plot of its own; at most twelve."""
    found = [(step.step, step.of_estimator()) for step in run.steps]
    names = list(dict.fromkeys(name for _, values in found for name in values))[:12]
    if not names:
        return None
    rows = (len(names) + 2) // 3
    figure = _figure(7.2, 0.6 + 1.5 * rows)
    for place, name in enumerate(names, start=1):
        axes = figure.add_subplot(rows, 3, place)
        points = [(step, values[name]) for step, values in found if math.isfinite(values.get(name, math.nan))]
        axes.plot([step for step, _ in points], [value for _, value in points], ".-", color=BLUE, markersize=4)
        _plain(axes)
        axes.set_title(name, fontsize=8, loc="left")
    return figure


def outcomes(run: TrainingRun) -> "Figure | None":
    """How the trajectories of each step ended."""
    steps = [step for step in run.steps if step.outcomes]
    if not steps:
        return None
    colours = {name: OUTCOME_COLOURS.get(name, "#111111") for name, count in run.outcomes.items() if count}
    figure, axes = _canvas()
    layers = [(name, colours[name], [(step.outcomes or {}).get(name, 0) for step in steps]) for name in colours]
    _stack(axes, [step.step for step in steps], layers)
    axes.set(ylabel="trajectories")
    _by_step(axes, beside=True)
    return figure


def seconds(run: TrainingRun) -> "Figure | None":
    """Where the time of each step went, each second once."""
    phases = (
        ("optimising_s", "optimising", GREEN),
        ("train_s", "training", GREEN),
        ("scoring_s", "scoring", BLUE),
        ("weights_s", "weights", PURPLE),
        ("rollout_wait_s", "waiting for rollouts", GREY),
        ("evaluation_s", "evaluation", ORANGE),
        ("checkpoint_s", "checkpoint", RED),
        ("other_s", "other", "#d9d2c0"),
    )
    steps = [(step.step, found) for step in run.steps if (found := step.seconds_of_phases())]
    if not steps:
        return None
    figure, axes = _canvas()
    layers = [
        (label, colour, [found.get(name, 0.0) for _, found in steps])
        for name, label, colour in phases
        if any(found.get(name) for _, found in steps)
    ]
    _stack(axes, [number for number, _ in steps], layers)
    axes.set(ylabel="seconds")
    _by_step(axes, beside=True)
    return figure


def clipping(run: TrainingRun) -> "Figure | None":
    """Shares of tokens whose ratio is clipped, or whose importance ratio is out of bounds."""
    lines = (
        ("clip_low", "ratio clipped below", BLUE),
        ("clip_high", "ratio clipped above", ORANGE),
        ("importance_low_share", "importance ratio too low", PURPLE),
        ("importance_high_share", "importance ratio too high", RED),
    )
    return _line_plot(run, lines, "%", scale=100)


def importance(run: TrainingRun) -> "Figure | None":
    """Importance ratios between the policy that sampled and the one that learns."""
    lines = (
        ("importance_mean", "mean", BLUE),
        ("importance_min", "smallest", GREEN),
        ("importance_max", "largest", PURPLE),
    )
    return _line_plot(run, lines, "ratio")


def divergence(run: TrainingRun) -> "Figure | None":
    """How far the old policy's probabilities are from those of the sampler."""
    lines = (("importance_k3_kl", "KL (k3)", RED), ("importance_abs_log_ratio", "mean |Δ log p|", BLUE))
    return _line_plot(run, lines, "nats per token")


def staleness(run: TrainingRun) -> "Figure | None":
    """How many versions the weights that sampled were behind those that learned."""
    return _line_plot(run, (("staleness", "", BLUE),), "versions behind, mean")


def failures(run: TrainingRun) -> "Figure | None":
    """Tool calls that failed, and those that could not be understood."""
    lines = (("tool_failure_rate", "tool calls that failed", ORANGE), ("malformed_rate", "malformed", RED))
    return _line_plot(run, lines, "%", scale=100)


def branches(run: TrainingRun) -> "Figure | None":
    """Share of the sampled tokens that no step trains on; nothing for agents that make no branches."""
    if not any(run.series("branch_share")[1]):
        return None
    return _line_plot(run, (("branch_share", "", PURPLE),), "sampled tokens in branches, %", scale=100)


def groups(run: TrainingRun) -> "Figure | None":
    """Groups that are trained on, zero-variance groups among them, and rejected groups."""
    named = (
        ("zero_variance_groups", "of these, zero-variance", ORANGE),
        ("rejected_groups", "rolled out and rejected", RED),
    )
    if not _any(run, named):
        return None
    return _line_plot(run, (("groups", "trained on", GREY), *named), "groups")


def positive(run: TrainingRun) -> "Figure | None":
    """Share of positive advantages: AEM explores below a half and sharpens above it."""
    return _line_plot(run, (("positive_share", "", GREEN),), "positive advantages, %", scale=100)


def optimiser(run: TrainingRun) -> "Figure | None":
    """Loss and gradient norm."""
    norm = ("grad_norm", "gradient norm (right)", ORANGE)
    return _two_scales(run, ("loss", "loss", BLUE), "loss", norm, "norm", from_zero=False)


def effort(run: TrainingRun) -> "Figure | None":
    """Turns per trajectory, and how fast tokens are sampled."""
    speed = ("tokens_per_s", "sampled tokens per second (right)", ORANGE)
    return _two_scales(run, ("turns", "turns per trajectory", BLUE), "turns", speed, "tokens per second")


PLOTS: tuple[tuple[str, str, str, Callable[[TrainingRun], "Figure | None"]], ...] = (
    (
        "resolved_rate",
        "Resolved rate",
        "Training tasks change from step to step, so their rate jumps; held-out tasks are always the same. "
        "Bars are 95 % intervals.",
        resolved_rate,
    ),
    ("heldout", "Held-out tasks, before and after", "No step was trained on these. Bars are 95 % intervals.", heldout),
    (
        "entropy",
        "Response entropy",
        "Falling to 0: the policy samples one answer only, and there is nothing left to learn from.",
        entropy,
    ),
    ("alpha", "AEM's factors", "α above 1: confident responses, whose advantage is strengthened.", alpha),
    (
        "estimator",
        "Advantage estimator",
        "What the estimator says of the advantages that it made, by the names of its own metrics.",
        estimator,
    ),
    ("outcomes", "Outcomes", "How each step's trajectories ended. Red: infrastructure failures.", outcomes),
    (
        "seconds",
        "Seconds per phase",
        "What the trainer did, each second once. Rollouts that continue beside it are only waited for.",
        seconds,
    ),
    (
        "clipping",
        "Clipping",
        "Where the trained policy has moved so far from the samples that a token is held back.",
        clipping,
    ),
    (
        "importance",
        "Importance ratios",
        "1 everywhere: the sampler and the trainer agree about the probability of each token.",
        importance,
    ),
    (
        "divergence",
        "Sampler and trainer",
        "Rises with staleness; where it rises without, server and trainer compute the same weights differently.",
        divergence,
    ),
    ("staleness", "Staleness", "Versions of the weights between sampling and training.", staleness),
    (
        "failures",
        "Tool failures and malformed calls",
        "Both fall as the policy learns to use its tools.",
        failures,
    ),
    (
        "branches",
        "Branches",
        "What was sampled after a harness rewrote its history: stored, neither trained on nor in AEM's factors.",
        branches,
    ),
    ("groups", "Zero-variance groups", "Where all rewards of a group are equal, every advantage is 0.", groups),
    (
        "positive_share",
        "Positive advantages",
        "AEM explores while failures dominate and sharpens once successes do.",
        positive,
    ),
    ("optimiser", "Loss and gradient", "Policy-gradient loss does not measure performance.", optimiser),
    ("effort", "Turns and speed", "How long trajectories are, and how fast they are sampled.", effort),
)
"""File name, title, caption and function of every plot, in the order of the page."""


def _canvas() -> "tuple[Figure, Axes]":
    figure = _figure(7.2, 3.4)
    axes = figure.subplots()
    _plain(axes)
    return figure, axes


def _figure(width: float, height: float) -> "Figure":
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained", facecolor="white")


def _plain(axes: "Axes") -> None:
    axes.grid(axis="y", color="#e3e6ea", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)


def _right(axes: "Axes", label: str) -> "Axes":
    """A second scale on the right side."""
    right = axes.twinx()
    right.spines["top"].set_visible(False)
    right.tick_params(labelsize=8)
    right.set(ylabel=label)
    return right


def _by_step(axes: "Axes", right: "Axes | None" = None, *, beside: bool = False) -> None:
    """Steps as whole numbers below; the legend above, or beside where it has many rows."""
    from matplotlib.ticker import MaxNLocator

    axes.set(xlabel="step")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    _legend(axes, right, beside=beside)


def _legend(axes: "Axes", right: "Axes | None" = None, *, beside: bool = False) -> None:
    found = [one.get_legend_handles_labels() for one in (axes, right) if one is not None]
    handles, labels = [one for pair in found for one in pair[0]], [one for pair in found for one in pair[1]]
    if not handles:
        return
    if beside:  # reversed: as the layers lie
        axes.legend(
            handles[::-1], labels[::-1], loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize=8
        )
    else:
        place: dict[str, Any] = {
            "loc": "lower left",
            "bbox_to_anchor": (0, 1.01),
            "borderaxespad": 0,
            "columnspacing": 1.4,
        }
        axes.legend(handles, labels, ncols=len(handles), frameon=False, fontsize=8, **place)


def _both(run: TrainingRun, low: str, high: str) -> list[tuple[int, float, float]]:
    """(step, low, high) of the steps that have both fields."""
    lows, highs = dict(zip(*run.series(low), strict=True)), dict(zip(*run.series(high), strict=True))
    return [(step, lows[step], highs[step]) for step in sorted(lows.keys() & highs.keys())]


def _band(axes: "Axes", band: Sequence[tuple[int, float, float]], label: str) -> None:
    """The area between two lines."""
    if not band:
        return
    steps, low, high = zip(*band, strict=True)
    axes.fill_between(steps, low, high, color=BLUE, alpha=0.2, linewidth=0, label=label)
    edge: dict[str, Any] = {"color": BLUE, "linewidth": 0.8, "marker": "." if len(band) <= MANY_STEPS else ""}
    axes.plot(steps, low, markersize=3, **edge)
    axes.plot(steps, high, markersize=3, **edge)


def _any(run: TrainingRun, lines: Sequence[Line]) -> bool:
    """Does one of the lines have a value?"""
    return any(run.series(name)[0] for name, _, _ in lines)


def _lines(axes: "Axes", run: TrainingRun, lines: Sequence[Line], *, scale: float = 1) -> None:
    """One line for each field that has values. Few points are marked: a line of one step would not be seen."""
    for name, label, colour in lines:
        steps, values = run.series(name)
        shown = [scale * value for value in values]
        if len(steps) > MANY_STEPS:
            axes.plot(steps, shown, color=colour, linewidth=0.8, alpha=0.3)
            window = smoothing_window(len(steps))
            axes.plot(steps[window - 1 :], moving_mean(shown, window), color=colour, linewidth=1.6, label=label or None)
        elif steps:
            axes.plot(steps, shown, ".-", color=colour, markersize=4, linewidth=1.3, label=label or None)


def _line_plot(run: TrainingRun, lines: Sequence[Line], unit: str, *, scale: float = 1) -> "Figure | None":
    """Lines on one scale that begins at 0."""
    if not _any(run, lines):
        return None
    figure, axes = _canvas()
    _lines(axes, run, lines, scale=scale)
    axes.set(ylabel=unit)
    axes.set_ylim(bottom=0)
    _by_step(axes)
    return figure


def _two_scales(
    run: TrainingRun, left: Line, unit: str, right: Line, right_unit: str, *, from_zero: bool = True
) -> "Figure | None":
    """A line on the left scale and one on the right, which begins at 0; `from_zero`: so does the left."""
    if not _any(run, (left, right)):
        return None
    figure, axes = _canvas()
    _lines(axes, run, [left])
    axes.set(ylabel=unit)
    if from_zero:
        axes.set_ylim(bottom=0)
    other = None
    if _any(run, [right]):
        other = _right(axes, right_unit)
        _lines(other, run, [right])
        other.set_ylim(bottom=0)
    _by_step(axes, other)
    return figure


def _stack(axes: "Axes", steps: Sequence[int], layers: Sequence[tuple[str, str, Sequence[float]]]) -> None:
    """Bars upon bars; without gaps where there are many."""
    floor = [0.0] * len(steps)
    width = 0.8 if len(steps) <= MANY_STEPS else 1.0
    for label, colour, values in layers:
        axes.bar(steps, values, bottom=floor, width=width, color=colour, label=label)
        floor = [low + value for low, value in zip(floor, values, strict=True)]


def _bars(axes: "Axes", rates: Sequence[HeldoutRates], offset: float, colour: str, label: str) -> None:
    """One bar with its interval and number for each rate that is there, `offset` beside its place."""
    there = [(place + offset, one.pass_at_1, one) for place, one in enumerate(rates) if one.pass_at_1 is not None]
    if not there:
        return
    xs = [x for x, _, _ in there]
    axes.bar(xs, _percent([value for _, value, _ in there]), width=0.38, color=colour, label=label)
    _bars_of_error(axes, xs, [one for _, _, one in there], "#333333", "", None)
    for x, value, one in there:
        axes.annotate(f"{100 * value:.0f}", (x, 100 * max(value, one.high or 0.0) + 1.5), ha="center", fontsize=8)


def _bars_of_error(
    axes: "Axes", xs: Sequence[float], rates: Sequence[HeldoutRates], colour: str, marker: str, label: str | None
) -> None:
    """Rates in percent with their intervals; a rate without one is a point."""
    values = [one.pass_at_1 or 0.0 for one in rates]
    # A negative length is an error in matplotlib, and rounding makes some at 0 and 1.
    down = [max(0.0, value - one.low) if one.low is not None else 0.0 for value, one in zip(values, rates, strict=True)]
    up = [max(0.0, one.high - value) if one.high is not None else 0.0 for value, one in zip(values, rates, strict=True)]
    style: dict[str, Any] = {"color": colour, "marker": marker, "markersize": 6, "capsize": 3, "linestyle": "none"}
    axes.errorbar(xs, _percent(values), yerr=[_percent(down), _percent(up)], label=label, zorder=3, **style)


def _pairs(before: HeldoutScore | None, after: HeldoutScore | None) -> Iterator[tuple[str, HeldoutRates, HeldoutRates]]:
    """(name, before, after) of what was evaluated: everything and each part, sampled and greedy."""
    a, b = before or HeldoutScore(), after or HeldoutScore()
    names = dict.fromkeys((*a.parts, *b.parts))
    rows = [
        ("all", a, b),
        *((name, a.parts.get(name, HeldoutRates()), b.parts.get(name, HeldoutRates())) for name in names),
    ]
    for name, first, second in rows:
        yield f"{name}\nsampled", first, second
        yield f"{name}\ngreedy", first.of_greedy, second.of_greedy


def _percent(values: Sequence[float]) -> list[float]:
    return [100 * value for value in values]
