"""The charts of a training run, as data: a function and a row in `CHARTS` for each. One without numbers is left out.

`static/charts.js` draws them in the browser, and `Chart.table` is the same in numbers, for whoever has no scripts or
cannot see. Colours are names of variables of the style sheet, so that they follow light and dark mode.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import cycle
from typing import Any, Literal, NamedTuple

from swe_aem.core.base import Frozen
from swe_aem.train.records import HeldoutRates, HeldoutScore
from swe_aem.view.training_run import TrainingRun

MANY_STEPS = 60
"""Above so many values a line is faint and its moving mean is drawn over it."""
TABLE_ROWS = 200
"""Rows of a table: those of more steps are evenly spread over them."""
_DIGITS = 6
"""Significant digits of a value that is drawn."""

Style = Literal["line", "dots", "band", "stack", "bars", "intervals"]
"""line: values joined; dots: not joined; band: the area between two edges; stack: bars upon bars; bars: side by side;
intervals: points. Bars and points have error bars where there are edges."""
X = int | float | str


class Series(Frozen):
    """One line, area or set of bars."""

    label: str
    colour: str
    """Variable of the style sheet, without its dashes."""
    x: tuple[X, ...]
    """Steps, or names of what is compared."""
    y: tuple[float, ...] = ()
    """A value for each x; empty for a band."""
    low: tuple[float | None, ...] = ()
    """Lower edge for each x; empty where there is none."""
    high: tuple[float | None, ...] = ()
    style: Style = "line"
    right: bool = False
    """Is it drawn on the right scale?"""
    window: int = 0
    """Values in the moving mean that is drawn over it; 0 draws none."""
    dash: bool = False
    """Is it drawn dashed, so that it differs from another one of its colour?"""


class Chart(Frozen):
    """A chart and what to know about it."""

    name: str
    """Unique in a run."""
    section: str
    """Heading that it stands under."""
    title: str
    caption: str
    """How to read it."""
    watch: str
    """What to watch for, and what it means."""
    unit: str
    """What the left scale counts."""
    series: tuple[Series, ...]
    right_unit: str = ""
    """What the right scale counts; empty if there is none."""
    x_title: str = "step"
    from_zero: bool = True
    """Does the left scale begin at 0?"""
    percent: bool = False
    """Does the left scale go from 0 to 100?"""
    right_percent: bool = False
    mark: float | None = None
    """A value of the left scale that means something: a line is drawn there."""

    def data(self) -> dict[str, Any]:
        """What the script draws: plain values, numbers rounded, nothing that is empty."""
        return {
            "name": self.name,
            "title": self.title,
            "unit": self.unit,
            "right_unit": self.right_unit,
            "x_title": self.x_title,
            "from_zero": self.from_zero,
            "percent": self.percent,
            "right_percent": self.right_percent,
            "mark": self.mark,
            "series": [_plain(one) for one in self.series],
        }

    def table(self) -> tuple[list[str], list[list[str]], int]:
        """Names of columns, rows, and how many rows are left out between them."""
        columns = [
            column for one in self.series for column in _columns(one, self.right_unit if one.right else self.unit)
        ]
        xs = list(dict.fromkeys(x for _, values in columns for x in values))
        if not any(isinstance(x, str) for x in xs):
            xs.sort()
        shown = _spread(xs, TABLE_ROWS)
        rows = [[_number(x), *(_number(values.get(x)) for _, values in columns)] for x in shown]
        return [self.x_title, *(name for name, _ in columns)], rows, len(xs) - len(shown)


class Line(NamedTuple):
    """A field of `StepMetrics` as a line."""

    field: str
    label: str
    colour: str
    right: bool = False
    scale: float = 1


class Kind(NamedTuple):
    """A row of `CHARTS`."""

    name: str
    section: str
    title: str
    caption: str
    watch: str
    make: "Callable[[TrainingRun], Parts | None]"


class Parts(NamedTuple):
    """What a function of a chart gives."""

    series: Sequence[Series]
    unit: str
    looks: dict[str, Any] = {}
    """Other fields of `Chart`."""


def charts(run: TrainingRun) -> Iterator[Chart]:
    """Every chart that the run has numbers for."""
    for kind in (*CHARTS, *estimator(run)):
        parts = kind.make(run)
        if parts is not None:
            told = {name: getattr(kind, name) for name in ("name", "section", "title", "caption", "watch")}
            yield Chart(**told, unit=parts.unit, series=tuple(parts.series), **parts.looks)


def smoothing_window(values: int) -> int:
    """Values in a moving mean: a fifth of all, at most 10; 0 where nothing is smoothed."""
    window = min(10, values // 5)
    return window if window > 1 else 0


def resolved_rate(run: TrainingRun) -> Parts | None:
    """Rate in training per step with its moving mean, and the held-out evaluations with their intervals."""
    steps, rates = run.series("resolved_rate")
    found: list[Series] = []
    if steps:
        window = smoothing_window(len(steps))
        found.append(_series("training, per step", "grey", steps, _percent(rates), style="dots", window=window))
    apart = run.last_step / 200  # so that the two kinds of points do not hide each other
    sampled = [(one.step - apart, one) for one in run.heldout]
    greedy = [(one.step + apart, one.of_greedy) for one in run.heldout]
    found += _intervals("held out, sampled", "red", sampled)
    found += _intervals("held out, greedy", "orange", greedy)
    return Parts(found, "resolved, %", {"percent": True}) if found else None


def heldout(run: TrainingRun) -> Parts | None:
    """Held-out rates before and after, sampled and greedy, in all and by part."""
    pairs = list(_pairs(run.before, run.after))
    after = f"after {run.after.step} steps" if run.after else "after"
    found = _bars("before", "grey", [(name, a) for name, a, _ in pairs])
    found += _bars(after, "blue", [(name, b) for name, _, b in pairs])
    return Parts(found, "held-out tasks resolved, %", {"percent": True, "x_title": "tasks"}) if found else None


def reward(run: TrainingRun) -> Parts | None:
    """Mean reward, of what is trained on and of everything, and of each term that it is made of."""
    lines = [Line("reward", "rows trained on", "blue"), Line("mean_reward", "all trajectories", "grey")]
    found = _lines(run, *lines)
    terms = [(step.step, step.reward_terms or {}) for step in run.steps]
    names = list(dict.fromkeys(name for _, values in terms for name in values))
    for name, colour in zip(names if len(names) > 1 else (), cycle(_CYCLE), strict=False):
        points = [(step, value) for step, values in terms if (value := values.get(name)) is not None]
        if points:
            found.append(_series(f"term {name}", colour, [x for x, _ in points], [y for _, y in points]))
    return Parts(found, "reward", {"from_zero": False}) if found else None


def entropy(run: TrainingRun) -> Parts | None:
    """Mean entropy of the old policy's responses, and how far it ranges in a group."""
    band = _band(run, "entropy_min", "entropy_max", "lowest to highest of a group")
    lines = (
        Line("response_entropy", "mean of the responses", "blue"),
        Line("entropy_range", "range within a group", "orange"),
    )
    found = [*band, *_lines(run, *lines)]
    return Parts(found, "nats per token") if found else None


def alpha(run: TrainingRun) -> Parts | None:
    """Range, deviation and mean over tokens of AEM's factors, and the share of responses that it leaves unchanged."""
    lines = (
        Line("alpha_std", "standard deviation", "purple"),
        Line("alpha_token_mean", "mean over tokens", "green"),
        Line("unmodulated_share", "unmodulated responses (right)", "orange", right=True, scale=100),
    )
    found = [*_band(run, "alpha_min", "alpha_max", "α, min to max"), *_lines(run, *lines)]
    right = {"right_unit": "responses with α = 1, %", "right_percent": True} if any(one.right for one in found) else {}
    return Parts(found, "α", {"mark": 1.0, **right}) if found else None


def estimator(run: TrainingRun) -> Iterator[Kind]:
    """A chart for each metric of an advantage estimator other than AEM; at most twelve."""
    found = [(step.step, step.of_estimator()) for step in run.steps]
    for name in list(dict.fromkeys(name for _, values in found for name in values))[:12]:
        points = [(step, values[name]) for step, values in found if _is_number(values.get(name))]
        who = run.steps[-1].estimator or "the estimator"
        caption = f"What {who} says of the advantages that it made."
        watch = f"what the documentation of {who} says"
        yield Kind(f"estimator/{name}", AEM, name, caption, watch, partial(_of_estimator, name, points))


def outcomes(run: TrainingRun) -> Parts | None:
    """How the trajectories of each step ended."""
    steps = [step for step in run.steps if step.outcomes]
    if not steps:
        return None
    numbers = [step.step for step in steps]
    layers = [
        _series(name, f"outcome-{name}", numbers, [(step.outcomes or {}).get(name, 0) for step in steps], style="stack")
        for name, count in run.outcomes.items()
        if count
    ]
    return Parts(layers, "trajectories")


def seconds(run: TrainingRun) -> Parts | None:
    """Where the time of each step went, each second once."""
    phases = (
        ("optimising_s", "optimising", "green"),
        ("train_s", "training", "green"),
        ("scoring_s", "scoring", "blue"),
        ("weights_s", "weights", "purple"),
        ("rollout_wait_s", "waiting for rollouts", "grey"),
        ("evaluation_s", "evaluation", "orange"),
        ("checkpoint_s", "checkpoint", "red"),
        ("other_s", "other", "sand"),
    )
    steps = [(step.step, found) for step in run.steps if (found := step.seconds_of_phases())]
    numbers = [number for number, _ in steps]
    layers = [
        _series(label, colour, numbers, [found.get(name, 0.0) for _, found in steps], style="stack")
        for name, label, colour in phases
        if any(found.get(name) for _, found in steps)
    ]
    return Parts(layers, "seconds") if layers else None


def clipping(run: TrainingRun) -> Parts | None:
    """Shares of tokens whose ratio is clipped, or whose importance ratio is out of bounds."""
    lines = (
        Line("clip_low", "ratio clipped below", "blue", scale=100),
        Line("clip_high", "ratio clipped above", "orange", scale=100),
        Line("importance_low_share", "importance ratio too low", "purple", scale=100),
        Line("importance_high_share", "importance ratio too high", "red", scale=100),
    )
    return _line_chart(run, "tokens, %", *lines)


def importance(run: TrainingRun) -> Parts | None:
    """Importance ratios between the policy that sampled and the one that learns."""
    lines = (
        Line("importance_mean", "mean", "blue"),
        Line("importance_min", "smallest", "green"),
        Line("importance_max", "largest", "purple"),
    )
    return _line_chart(run, "ratio", *lines)


def divergence(run: TrainingRun) -> Parts | None:
    """How far the old policy's probabilities are from those of the sampler."""
    lines = (Line("importance_k3_kl", "KL (k3)", "red"), Line("importance_abs_log_ratio", "mean |Δ log p|", "blue"))
    return _line_chart(run, "nats per token", *lines)


def staleness(run: TrainingRun) -> Parts | None:
    """How many versions the weights that sampled were behind those that learned."""
    return _line_chart(run, "versions behind, mean", Line("staleness", "staleness", "blue"))


def failures(run: TrainingRun) -> Parts | None:
    """Tool calls that failed, and those that could not be understood."""
    lines = (
        Line("tool_failure_rate", "tool calls that failed", "orange", scale=100),
        Line("malformed_rate", "malformed", "red", scale=100),
    )
    return _line_chart(run, "tool calls, %", *lines)


def branches(run: TrainingRun) -> Parts | None:
    """Share of the sampled and of the trained tokens that are in branches; nothing for agents that make none."""
    kinds = (
        Line("branch_share", "of what was sampled", "purple", scale=100),
        Line("branch_token_share", "of what was trained on", "blue", scale=100),
    )
    lines = [line for line in kinds if any(run.series(line.field)[1])]
    if not lines:
        return None
    return _line_chart(run, "tokens in branches, %", *lines)


def groups(run: TrainingRun) -> Parts | None:
    """Groups that are trained on, zero-variance groups among them, and rejected groups."""
    named = (
        Line("zero_variance_groups", "of these, zero-variance", "orange"),
        Line("rejected_groups", "rolled out and rejected", "red"),
    )
    return _line_chart(run, "groups", Line("groups", "trained on", "grey"), *named) if _lines(run, *named) else None


def positive(run: TrainingRun) -> Parts | None:
    """Share of positive advantages: AEM explores below a half and sharpens above it."""
    line = Line("positive_share", "positive advantages", "green", scale=100)
    parts = _line_chart(run, "advantages that are not 0, %", line)
    return parts._replace(looks={"percent": True, "mark": 50.0}) if parts else None


def optimiser(run: TrainingRun) -> Parts | None:
    """Loss and gradient norm."""
    norm = Line("grad_norm", "gradient norm (right)", "orange", right=True)
    return _two_scales(run, Line("loss", "loss", "blue"), "loss", norm, "norm", from_zero=False)


def learning_rate(run: TrainingRun) -> Parts | None:
    """The learning rate that the schedule gave each step."""
    return _line_chart(run, "learning rate", Line("learning_rate", "learning rate", "blue"))


def effort(run: TrainingRun) -> Parts | None:
    """Turns per trajectory, and how fast tokens are sampled."""
    speed = Line("tokens_per_s", "sampled tokens per second (right)", "orange", right=True)
    return _two_scales(run, Line("turns", "turns per trajectory", "blue"), "turns", speed, "tokens per second")


LEARNING, AEM, ROLLOUTS, UPDATE = "Did it learn?", "Advantages", "Rollouts", "Updates"
CHARTS: tuple[Kind, ...] = (
    Kind(
        "resolved_rate",
        LEARNING,
        "Resolved rate",
        "Training tasks change from step to step, so their rate jumps; held-out tasks are always the same. "
        "Bars are 95 % intervals.",
        "a rate that rises on training tasks but not on held-out ones",
        resolved_rate,
    ),
    Kind(
        "heldout",
        LEARNING,
        "Held-out tasks, before and after",
        "No step was trained on these. Bars are 95 % intervals.",
        "intervals that overlap: compare the two evaluations task by task",
        heldout,
    ),
    Kind(
        "reward",
        LEARNING,
        "Reward",
        "Rows that are trained on leave out zero-variance groups as far as others were rolled out.",
        "a reward that rises while the resolved rate does not: the policy earns it by something else",
        reward,
    ),
    Kind(
        "groups",
        LEARNING,
        "Zero-variance groups",
        "Where all rewards of a group are equal, every advantage is 0.",
        "most groups of zero variance: tasks are too hard or too easy to give a signal",
        groups,
    ),
    Kind(
        "entropy",
        AEM,
        "Response entropy",
        "Mean entropy of the policy over the tokens of a response.",
        "a fall to 0: the policy samples one answer only; a range within a group below min_range: AEM does nothing",
        entropy,
    ),
    Kind(
        "alpha",
        AEM,
        "AEM's factors",
        "α above 1: confident responses, whose advantage is strengthened.",
        "everything unmodulated: AEM does nothing; a wide band: a few responses dominate the step; a mean over tokens "
        "far from 1: AEM changes the size of the step",
        alpha,
    ),
    Kind(
        "positive_share",
        AEM,
        "Positive advantages",
        "AEM explores while failures dominate and sharpens once successes do.",
        "a share that stays near 0 or 100 %: tasks are too hard or too easy",
        positive,
    ),
    Kind(
        "outcomes",
        ROLLOUTS,
        "Outcomes",
        "How each step's trajectories ended. Red: infrastructure failures.",
        "more trajectories that hit limits; any infrastructure failures",
        outcomes,
    ),
    Kind(
        "seconds",
        ROLLOUTS,
        "Seconds per phase",
        "What the trainer did, each second once. Rollouts that continue beside it are only waited for.",
        "the largest part: it is what to make faster",
        seconds,
    ),
    Kind(
        "effort",
        ROLLOUTS,
        "Turns and speed",
        "How long trajectories are, and how fast they are sampled.",
        "conversations that grow without more tasks resolved",
        effort,
    ),
    Kind(
        "failures",
        ROLLOUTS,
        "Tool failures and malformed calls",
        "Both fall as the policy learns to use its tools.",
        "a rise: the policy forgets how to call its tools",
        failures,
    ),
    Kind(
        "branches",
        ROLLOUTS,
        "Branches",
        "What was sampled after a harness rewrote its history: trained on only with branches_per_trajectory.",
        "a large share that is not trained on: most of what is sampled teaches nothing",
        branches,
    ),
    Kind(
        "staleness",
        UPDATE,
        "Staleness",
        "Versions of the weights between sampling and training.",
        "a rise: rollouts are slower than training",
        staleness,
    ),
    Kind(
        "divergence",
        UPDATE,
        "Sampler and trainer",
        "How far apart they are about the probability of the same tokens.",
        "a rise without staleness: server and trainer compute the same weights differently",
        divergence,
    ),
    Kind(
        "importance",
        UPDATE,
        "Importance ratios",
        "1 everywhere: the sampler and the trainer agree about the probability of each token.",
        "a mean far from 1",
        importance,
    ),
    Kind(
        "clipping",
        UPDATE,
        "Clipping",
        "Where the trained policy has moved so far from the samples that a token is held back.",
        "shares of many percent: steps are too large, or samples too old",
        clipping,
    ),
    Kind(
        "optimiser",
        UPDATE,
        "Loss and gradient",
        "Policy-gradient loss does not measure performance.",
        "a gradient norm that explodes",
        optimiser,
    ),
    Kind(
        "learning_rate",
        UPDATE,
        "Learning rate",
        "As the schedule gave it.",
        "a warm-up that is longer than the run",
        learning_rate,
    ),
)
"""Every chart, in the order of the page."""
_CYCLE = ("green", "orange", "purple", "red", "sand")


def _of_estimator(name: str, points: Sequence[tuple[int, float]], run: TrainingRun) -> Parts | None:
    if not points:
        return None
    series = _series(name, "blue", [step for step, _ in points], [value for _, value in points])
    return Parts([series], name, {"from_zero": False})


def _series(label: str, colour: str, x: Sequence[X], y: Sequence[float], **others: Any) -> Series:
    return Series(label=label, colour=colour, x=tuple(x), y=tuple(y), **others)


def _lines(run: TrainingRun, *lines: Line) -> list[Series]:
    """One line for each field that has values."""
    found = []
    for line in lines:
        steps, values = run.series(line.field)
        if steps:
            window = smoothing_window(len(steps)) if len(steps) > MANY_STEPS else 0
            scaled = [line.scale * value for value in values]
            found.append(_series(line.label, line.colour, steps, scaled, right=line.right, window=window))
    return found


def _line_chart(run: TrainingRun, unit: str, *lines: Line) -> Parts | None:
    found = _lines(run, *lines)
    return Parts(found, unit) if found else None


def _two_scales(
    run: TrainingRun, left: Line, unit: str, right: Line, right_unit: str, *, from_zero: bool = True
) -> Parts | None:
    """A line on the left scale and one on the right, which begins at 0; `from_zero`: so does the left."""
    found = _lines(run, left, right)
    looks = {"from_zero": from_zero, "right_unit": right_unit if any(one.right for one in found) else ""}
    return Parts(found, unit, looks) if found else None


def _band(run: TrainingRun, low: str, high: str, label: str) -> list[Series]:
    """The area between two fields, over the steps that have both."""
    lows, highs = dict(zip(*run.series(low), strict=True)), dict(zip(*run.series(high), strict=True))
    steps = sorted(lows.keys() & highs.keys())
    edges = {"low": tuple(lows[step] for step in steps), "high": tuple(highs[step] for step in steps)}
    return [_series(label, "blue", steps, (), style="band", **edges)] if steps else []


def _intervals(
    label: str, colour: str, points: Sequence[tuple[X, HeldoutRates]], style: Style = "intervals"
) -> list[Series]:
    """Rates in percent with their intervals; a rate without one is a point."""
    there = [(x, one, one.pass_at_1) for x, one in points if one.pass_at_1 is not None]
    low = tuple(None if one.low is None else 100 * one.low for _, one, _ in there)
    high = tuple(None if one.high is None else 100 * one.high for _, one, _ in there)
    values = _percent([value for _, _, value in there])
    return [_series(label, colour, [x for x, _, _ in there], values, low=low, high=high, style=style)] if there else []


def _bars(label: str, colour: str, points: Sequence[tuple[X, HeldoutRates]]) -> list[Series]:
    return _intervals(label, colour, points, style="bars")


def _pairs(before: HeldoutScore | None, after: HeldoutScore | None) -> Iterator[tuple[str, HeldoutRates, HeldoutRates]]:
    """(name, before, after) of what was evaluated: everything and each part, sampled and greedy."""
    a, b = before or HeldoutScore(), after or HeldoutScore()
    names = dict.fromkeys((*a.parts, *b.parts))
    rows = [("all", a, b), *((name, a.parts.get(name), b.parts.get(name)) for name in names)]
    for name, first, second in rows:
        first, second = first or HeldoutRates(), second or HeldoutRates()
        yield f"{name}, sampled", first, second
        yield f"{name}, greedy", first.of_greedy, second.of_greedy


def _percent(values: Sequence[float]) -> list[float]:
    return [100 * value for value in values]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _plain(one: Series) -> dict[str, Any]:
    """A series as JSON, without fields that say nothing."""
    values = {name: value for name, value in one if value not in ((), False, 0)}
    return {name: [_rounded(v) for v in value] if isinstance(value, tuple) else value for name, value in values.items()}


def _rounded(value: X | None) -> X | None:
    return float(f"{value:.{_DIGITS}g}") if isinstance(value, float) else value


def _columns(one: Series, unit: str) -> Iterator[tuple[str, dict[X, float | None]]]:
    """(name, value of each x) of the columns that a series has in a table."""
    xs = [round(x) if isinstance(x, float) else x for x in one.x]  # points are drawn beside their step
    name = f"{one.label} ({unit})" if unit and unit != one.label else one.label
    for what, values in (("", one.y), (", low", one.low), (", high", one.high)):
        if any(value is not None for value in values):
            yield f"{name}{what}", dict(zip(xs, values, strict=True))


def _spread(values: list[X], most: int) -> list[X]:
    """At most so many values, evenly spread, with the first and the last."""
    if len(values) <= most:
        return values
    return [values[round(n * (len(values) - 1) / (most - 1))] for n in range(most)]


def _number(value: X | None) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
