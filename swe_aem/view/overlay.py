"""The charts of two training runs over each other: the lines of the first as they are, those of the second dashed."""

from collections.abc import Iterator

from swe_aem.view.charts import Chart, Series, charts, smoothing_window
from swe_aem.view.training_run import TrainingRun


def overlaid(first: TrainingRun, second: TrainingRun, names: tuple[str, str]) -> Iterator[Chart]:
    """Every chart that one of two runs has numbers for, with what both have in it; `names` tell them apart."""
    mine, theirs = ({chart.name: chart for chart in charts(run)} for run in (first, second))
    for name in dict.fromkeys((*mine, *theirs)):
        sides = [(number, side[name]) for number, side in enumerate((mine, theirs)) if name in side]
        alone = all(len(chart.series) == 1 for _, chart in sides)
        series = [_of_run(one, names[number], number, alone) for number, chart in sides for one in chart.series]
        chart = next((chart for _, chart in sides if chart.right_unit), sides[0][1])
        yield chart.model_copy(update={"series": tuple(series)})


def _of_run(one: Series, run: str, number: int, alone: bool) -> Series:
    """A series of the first (0) or second (1) run. Bars that are stacked cannot be compared, so they become lines, and
    so do points with a mean over them."""
    found = {"label": f"{run}: {one.label}", "dash": number == 1}
    if alone:  # colours tell more at a glance, where they are free
        found["colour"] = ("blue", "orange")[number]
    if one.style in ("stack", "dots"):
        found |= {"style": "line", "window": smoothing_window(len(one.x))}
    return one.model_copy(update=found)
