"""A rollout over fakes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from swe_aem.testing.builders import make_record
from tests.rollout.fakes import Bench


@pytest.fixture
def bench(tmp_path: Path) -> Callable[..., Bench]:
    """Makes a `Bench` with that many tasks; more keywords replace its parts."""

    def make(tasks: int = 2, **parts: Any) -> Bench:
        defaults = {"directory": tmp_path / "out", "records": [make_record(f"task-{n}") for n in range(tasks)]}
        return Bench(**(defaults | parts))

    return make
