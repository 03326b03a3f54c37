"""What a person sees while a rollout runs: a live table on a terminal, plain lines elsewhere. All on stderr."""

import asyncio
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TextIO, cast

from swe_aem.core import OUTCOME_TABLE, Outcome
from swe_aem.rollout.progress import RunProgress
from swe_aem.rollout.spending import Spending
from swe_aem.runlog import note

if TYPE_CHECKING:
    from rich.table import Table

Facts = Callable[[RunProgress], dict[str, str]]
"""A run's numbers in words, in the order of display."""

_TICK_S = 0.5
_LIMITS = (Outcome.TURN_LIMIT, Outcome.CONTEXT_LIMIT, Outcome.TIME_LIMIT)


class _Shown:
    """A stream whose terminal may be gone, e.g. with its ssh session: then nothing is shown, and a run lasts."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


async def show(
    progress: RunProgress,
    *,
    every_s: float = 30.0,
    stream: TextIO | None = None,
    live: bool = True,
    title: str = "rollout",
    facts: Facts | None = None,
) -> None:
    """Show a run until cancelled: a table if the stream is a terminal and `live`, else a line every `every_s`
    seconds and whatever is news. What is shown are the `facts`, by default those of a rollout."""
    out = cast(TextIO, _Shown(stream or sys.stderr))
    if live and out.isatty():
        await _show_table(progress, out, every_s, title, facts or rollout_facts)
    else:
        await _show_lines(progress, out, every_s, facts or rollout_facts)


def rollout_facts(progress: RunProgress) -> dict[str, str]:
    """A run's numbers in words, in the order of display."""
    totals, outcomes = progress.totals, progress.totals.outcomes
    other = sum(
        count
        for outcome, count in outcomes.items()
        if OUTCOME_TABLE[outcome].trained and outcome not in (Outcome.RESOLVED, Outcome.UNRESOLVED)
    )
    return {
        "done": f"{totals.trajectories}/{progress.wanted}",
        "running": running_fact(progress),
        "resolved": str(totals.resolved),
        "unresolved": str(outcomes[Outcome.UNRESOLVED]),
        "other failures": str(other),
        "limits": str(sum(outcomes[limit] for limit in _LIMITS)),
        **({"broken tasks": str(len(totals.broken))} if totals.broken else {}),
        "infrastructure": f"{totals.failures} (+{totals.retries} attempts retried)",
        **({"tasks left out": str(len(progress.left_out))} if progress.left_out else {}),
        "tokens": f"{totals.tokens:,} ({totals.sampled_tokens:,} sampled)",
        **_spending_facts(progress.spending),
        "s per turn": _seconds(totals.turn_s.mean()),
        "tool p95": _seconds(totals.tool_s.quantile(0.95)),
        "eta": duration(progress.eta_s),
    }


def _spending_facts(spending: Spending) -> dict[str, str]:
    """What was used and is left, where there is a budget or a cost."""
    used, facts = spending.used, {}
    if spending.is_limited or used.usd is not None:
        left = "" if spending.tokens_left is None else f" ({spending.tokens_left:,} left)"
        facts["billed"] = f"{used.tokens:,} tokens{left}"
    if used.usd is not None or spending.usd_left is not None:
        left = "" if spending.usd_left is None else f" ({money(spending.usd_left)} left)"
        facts["cost"] = money(used.usd or 0.0) + left
    return facts


def running_fact(progress: RunProgress) -> str:
    """How many are under way, and in which phases."""
    phases = ", ".join(f"{count} {phase}" for phase, count in sorted(progress.running.items()))
    return f"{progress.running.total()}" + (f" ({phases})" if phases else "")


def line(progress: RunProgress, facts: Facts) -> str:
    """A run in one line."""
    return f"[{duration(progress.elapsed_s)}] " + "  ".join(
        f"{name} {value}" for name, value in facts(progress).items()
    )


async def _show_lines(progress: RunProgress, stream: TextIO, every_s: float, facts: Facts) -> None:
    due = time.monotonic() + every_s
    try:
        while True:
            await asyncio.sleep(_TICK_S)
            _drain(progress, stream)
            if time.monotonic() >= due:
                text = line(progress, facts)
                note(text)
                print(text, file=stream, flush=True)
                due += every_s
    finally:
        _drain(progress, stream)


def _drain(progress: RunProgress, stream: TextIO) -> None:
    while progress.news:
        print(progress.news.popleft(), file=stream, flush=True)


async def _show_table(progress: RunProgress, stream: TextIO, every_s: float, title: str, facts: Facts) -> None:
    from rich.console import Console
    from rich.live import Live

    console = Console(file=stream)
    with Live(_table(progress, title, facts), console=console, auto_refresh=False) as live:

        def refresh() -> None:
            while progress.news:
                console.print(progress.news.popleft(), markup=False, highlight=False)
            live.update(_table(progress, title, facts), refresh=True)

        due = time.monotonic() + every_s
        try:
            while True:
                await asyncio.sleep(_TICK_S)
                refresh()
                if time.monotonic() >= due:
                    note(line(progress, facts))
                    due += every_s
        finally:
            refresh()


def _table(progress: RunProgress, title: str, facts: Facts) -> "Table":
    from rich.table import Table

    table = Table(title=title, title_justify="left", show_header=False)
    table.add_column(style="dim")
    table.add_column()
    table.add_row("time", duration(progress.elapsed_s))
    for name, value in facts(progress).items():
        table.add_row(name, value)
    return table


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f} s"


def money(usd: float) -> str:
    """US dollars, with parts of a cent where there is less than one dollar."""
    return f"${usd:,.2f}" if usd >= 1 else f"${usd:.4f}"


def duration(seconds: float | None) -> str:
    """Hours, minutes and seconds."""
    if seconds is None:
        return "-"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
