"""What is shown of a run, on a terminal that goes away."""

import asyncio
import os

import pytest

from swe_aem.rollout import display
from swe_aem.rollout.progress import RunProgress
from swe_aem.store import Totals
from tests.waiting import until


async def test_a_terminal_that_goes_away_ends_no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(display, "_TICK_S", 0.01)
    progress = RunProgress(Totals(), wanted=1, group_size=1)
    terminal, stream_fd = os.openpty()
    with os.fdopen(stream_fd, "w", buffering=1) as stream:
        shown = asyncio.create_task(display.show(progress, stream=stream))
        progress.news.append("before")
        await until(lambda: not progress.news or shown.done())
        os.close(terminal)
        progress.news.append("after")
        await until(lambda: not progress.news or shown.done())
        shown.cancel()
        with pytest.raises(asyncio.CancelledError):
            await shown
