"""Writes `docs/aem-study.md` and its figures from the results that there are, whatever they say."""

import json
import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from study import reading, sandboxes, theory
from study.figures import draw
from study.formats import milli, points, signed
from study.measures import Interval
from study.pilot import FILE
from study.results import RATES, Arms, Result, difference, is_paired, read_all, task_rates
from study.settings import ARMS, BASE, MAIN, REGIMES, SEEDS, run_of
from swe_aem.store import replace

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = "aem-study.md"
TEMPLATE = Path(__file__).with_name("page.md")


def write(directory: Path, figures: Path | None = None, docs: Path = DOCS) -> None:
    """Write the page and its figures, and the numbers to `figures` if given."""
    regimes = read_all(directory)
    pilot = json.loads((directory / FILE).read_text(encoding="utf-8")) if (directory / FILE).exists() else None
    draw(regimes, docs / "images")
    replace(docs / PAGE, page(regimes, pilot, sandboxes.read_arms(directory)))
    if figures is not None:
        replace(figures, json.dumps(numbers(regimes), indent=1) + "\n")


def numbers(regimes: Mapping[str, Arms]) -> dict[str, Any]:
    """The tables' numbers: by regime, arm and rate, the seeds and the difference to plain GRPO."""
    return {
        regime: {
            arm: {"seeds": sorted(several)}
            | {rate: found._asdict() for rate in RATES if (found := difference(arms, arm, rate)) is not None}
            for arm, several in arms.items()
        }
        for regime, arms in regimes.items()
    }


def page(regimes: Mapping[str, Arms], pilot: Mapping[str, Any] | None, real: Arms) -> str:
    """The whole page."""
    made = sum(len(several) for arms in regimes.values() for several in arms.values())
    said = "\n".join(
        textwrap.fill(f"- {line}", 122, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
        for line in reading.lines(regimes, pilot, real)
    )
    total = len(ARMS) * len(REGIMES) * SEEDS
    filled = {
        "reading": said or "No arm has two seeds in common with GRPO yet.",
        "steps": run_of(next(iter(REGIMES)), BASE, 0).steps,
        "pilot": _pilot(pilot),
        "rates": "\n\n".join(_rates_table(regime, arms) for regime, arms in regimes.items()),
        "phases": _phases_table(regimes),
        "states": _states_table(regimes),
        "foretold": _foretold_table(regimes),
        "real": _real_table(real),
        "real_made": sum(map(len, real.values())),
        "real_all": len(sandboxes.ARMS) * sandboxes.SEEDS,
        "made": made,
        "all": total,
        "missing": "" if made == total else ", so this page is of a part of the study",
    }
    return TEMPLATE.read_text(encoding="utf-8").format(**filled)


def _pilot(pilot: Mapping[str, Any] | None) -> str:
    """What the pilot found."""
    if pilot is None:
        return "The pilot, which says what the design can see, has not run yet."
    text = f"""
        What sixteen pairs can see, in points: a true difference of this size is found in 80 % of studies, by a
        two-sided test at 5 %. The pilot ran GRPO twice with each of {pilot["seeds"]} seeds, with other tasks and
        samples from the same policy, before any other arm ran."""
    names = {**{f"about {name} %": lines for name, lines in pilot["regimes"].items()}, "all": pilot["pooled"]}
    rows = [[name, *(f"{100 * lines[rate]['detectable']:.1f}" for rate in RATES)] for name, lines in names.items()]
    filled = textwrap.fill(" ".join(text.split()), 122, break_long_words=False, break_on_hyphens=False)
    return f"{filled}\n\n{_table(('success at the start', *RATES), rows)}"


def _rates_table(regime: str, arms: Arms) -> str:
    """The table of one regime."""
    return f"### About {regime} % at the start\n\n{_table(*_rates(arms))}"


def _real_table(arms: Arms) -> str:
    """The table of the runs in sandboxes, if there are any."""
    if not any(arms.values()):
        return "No run in a sandbox has been made with this policy and these tasks yet."
    columns, rows = _rates(arms, decimals=4)
    shares = {arm: f"{1 - theory.over_steps(several, 'unmodulated'):.0%}" for arm, several in arms.items() if several}
    return _table((*columns, "modulated"), [[*row, shares.get(row[0], "")] for row in rows])


def _rates(arms: Arms, decimals: int = 3) -> tuple[Sequence[str], list[list[str]]]:
    """Columns and rows: rates and their differences to plain GRPO, and the entropy with so many decimals."""
    columns = ("arm", "seeds", *RATES, *(f"Δ {rate}" for rate in RATES), "entropy, last quarter")
    everyone = [result for several in arms.values() for result in several.values()]
    rows = [["before", "", *_means(everyone, "before"), "", "", "", ""]] if everyone else []
    for arm, several in arms.items():
        if several:
            apart = [_bold(difference(arms, arm, rate) if is_paired(arms, arm) else None) for rate in RATES]
            entropy = f"{theory.over_steps(several, 'entropy', 3):.{decimals}f}"
            rows.append([arm, str(len(several)), *_means(list(several.values()), "after"), *apart, entropy])
    return columns, rows


def _means(several: Sequence[Result], when: str) -> list[str]:
    """Each rate as a mean over runs, in per cent."""
    found = [[task_rates(one[when])[rate].mean() for one in several] for rate in RATES]
    return [f"{100 * sum(one) / len(one):.1f}" for one in found]


def _phases_table(regimes: Mapping[str, Arms]) -> str:
    rows = [
        [
            f"{regime} %",
            arm,
            str(len(set(arms[arm]) & set(arms[BASE]))),
            *(f"**{milli(one)}**" if one.excludes_0 else milli(one) for one in theory.phases(arms, arm)),
        ]
        for regime, arms in regimes.items()
        for arm in ARMS
        if is_paired(arms, arm)
    ]
    return _table(("start", "arm", "seeds", "first update", "first quarter", "last quarter"), rows)


def _states_table(regimes: Mapping[str, Arms]) -> str:
    rows = [
        [
            f"{regime} %",
            arm,
            str(one.step),
            signed(one.r, 2),
            f"{one.agree} of {one.signs}, {one.agree / one.signs:.0%} ({one.low:.0%} to {one.high:.0%})",
        ]
        for regime, arms in regimes.items()
        for arm in MAIN[:2]
        for one in theory.states(arms[arm])
    ]
    return _table(("start", "arm", "step", "r(α-1, H-S)", "signs that agree"), rows)


def _foretold_table(regimes: Mapping[str, Arms]) -> str:
    rows = [
        [
            f"{regime} %",
            arm,
            *(signed(one, 2) for one in theory.foretold(arms[arm])),
            " to ".join(f"{theory.over_steps(arms[arm], 'positive', part):.0%}" for part in (0, 3)),
        ]
        for regime, arms in regimes.items()
        for arm in MAIN
        if len(arms[arm]) > 1
    ]
    columns = ("A(1-α), over responses", "A(1-α), over steps", "A(S-H), over states", "positive share")
    return _table(("start", "arm", *columns), rows)


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [f"| {' | '.join(one)} |" for one in (columns, *rows)]
    return "\n".join([lines[0], "|---" * len(columns) + "|", *lines[1:]])


def _bold(found: Interval | None) -> str:
    if found is None or math.isnan(found.low):
        return ""
    return f"**{points(found)}**" if found.excludes_0 else points(found)
