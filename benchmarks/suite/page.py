"""Makes the page about performance of the results on file."""

import re
import textwrap
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import jinja2

from suite.declared import FRAME, Benchmark, Goal, Run
from suite.results import Result, Results

WIDTH = 124
"""Columns of the page's lines."""


class Page:
    """The page about performance."""

    def __init__(self, folder: Path, benchmarks: Iterable[Benchmark], results: Results) -> None:
        self._folder = folder
        self._benchmarks = list(benchmarks)
        self._results = results
        self._jinja = jinja2.Environment(
            undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
        )
        self._jinja.filters |= {"row": _row, "n": _number, "percent": _percent, "groups": _groups}

    def text(self) -> str:
        """The whole page."""
        sections = [self._section(benchmark) for benchmark in self._benchmarks]
        frame = self._jinja.from_string((self._folder / FRAME).read_text(encoding="utf-8"))
        text = frame.render(goals=self.goals(), not_run=self.not_run(), sections="\n".join(sections))
        return "\n\n".join(map(_filled, _blocks(text))) + "\n"

    def goals(self) -> str:
        """Table of all goals, with what was measured."""
        lines = ["| what | goal | measured | met | on |", "|---|---|---|---|---|"]
        for benchmark in self._benchmarks:
            for name, run in benchmark.runs.items():
                result = self._results.get(name)
                lines += [_goal_line(goal, self._value(goal, result), result) for goal in run.goals]
        return "\n".join(lines)

    def not_run(self) -> str:
        """Table of the runs without a result, with the reason."""
        reasons = self._results.why_not()
        missing = [
            f"| `{name}` | {reasons.get(name, 'not asked for yet')} |"
            for benchmark in self._benchmarks
            for name in benchmark.runs
            if self._results.get(name) is None
        ]
        return "\n".join(["| benchmark | why |", "|---|---|", *missing]) if missing else "Every benchmark has a result."

    def _value(self, goal: Goal, result: Result | None) -> float | None:
        if result is None:
            return None
        return self._jinja.compile_expression(goal.figure)(f=result.figures)

    def _section(self, benchmark: Benchmark) -> str:
        template = self._jinja.from_string(benchmark.section)
        return template.render(measured=_measured(benchmark.runs, self._results)).strip() + "\n"


def _measured(runs: dict[str, Run], results: Results) -> Callable[..., str]:
    """What a section calls with the name of a run: its command, where it was measured, and its figures, which the block
    of the call renders."""

    def measured(name: str, caller: Callable[[Any], str]) -> str:
        result = results.get(name)
        if result is None:
            reason = results.why_not().get(name, "not asked for yet")
            return f"```sh\n{_command(runs[name])}\n```\n\nNot run: {reason}.\n"
        return f"```sh\n{_shell(result.command)}\n```\n\n{provenance(result)}\n\n{caller(result.figures).strip()}\n"

    return measured


def _command(run: Run) -> str:
    return _shell(" ".join(["python", *run.words()]))


def _shell(command: str) -> str:
    """A command in lines that fit the page."""
    return _wrapped(command, WIDTH - 12).replace("\n", " \\\n    ")


def provenance(result: Result) -> str:
    """When, where and from what a result was measured, in a sentence."""
    parts = [result.machine] if result.machine else []
    if result.host:
        host = result.host
        parts += [f"{host['cores']} cores ({host['cpu']}), {host['memory_gib']:g} GiB, Linux {host['kernel']}"]
        parts += [f"Python {host['python']}"]
        parts += [host["gpu"]] if host.get("gpu") else []
    parts += [f"{name} {version}" for name, version in result.versions.items()]
    if result.load_before is not None:
        parts += [f"load average {result.load_before:g} before and {result.load_after:g} after"]
    if result.exit_code:
        parts += [f"**ended with exit code {result.exit_code}**"]
    quiet = "**Not on a quiet machine.** " if result.quiet is False else ""
    how = "Measured" if result.source == "measured" else "Recorded by hand from the page"
    return f"{quiet}{how}, {result.date[:10]}, commit {result.commit[:10]}: {'; '.join(parts)}."


def _blocks(text: str) -> list[str]:
    """Paragraphs, tables and code blocks of a page."""
    parts = re.split(r"^(```[^`]*^```$)", text, flags=re.MULTILINE)
    return [
        block.strip()
        for number, part in enumerate(parts)
        for block in ([part] if number % 2 else part.split("\n\n"))
        if block.strip()
    ]


def _filled(block: str) -> str:
    """A paragraph or an item of a list, in lines that fit a screen; other blocks as they are."""
    if block.startswith(("|", "#", "```", "---")):
        return block
    indent = "  " if block.startswith("- ") else ""
    return _wrapped(block, WIDTH, indent)


def _wrapped(text: str, width: int, indent: str = "") -> str:
    return textwrap.fill(
        " ".join(text.split()), width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


def _goal_line(goal: Goal, value: float | None, result: Result | None) -> str:
    if result is None or value is None:
        return f"| {goal.what} | {goal.words} | - | not measured | - |"
    met = "yes" if goal.is_met(value) else "**no**"
    when = result.date[:10] + (", not quiet" if result.quiet is False else "") + ("" if result.host else ", by hand")
    return f"| {goal.what} | {goal.words} | {goal.shown(value)} | {met} | {when} |"


def _row(rows: Iterable[dict[str, Any]], **having: Any) -> dict[str, Any]:
    """The first of some rows with these values; empty if there is none."""
    return next((row for row in rows if all(row.get(key) == value for key, value in having.items())), {})


def _groups(rows: Iterable[dict[str, Any]], *keys: str) -> list[tuple[tuple[Any, ...], list[dict[str, Any]]]]:
    """Rows by the values of some keys, in the order in which these first occur."""
    found: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault(tuple(row[key] for key in keys), []).append(row)
    return list(found.items())


def _number(value: float | None, digits: int = 0, unit: str = "") -> str:
    return "-" if value is None else f"{value:,.{digits}f}{unit}"


def _percent(value: float | None, digits: int = 0) -> str:
    return "-" if value is None else f"{100 * value:.{digits}f} %"
