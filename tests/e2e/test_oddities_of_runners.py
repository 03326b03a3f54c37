"""Honest tasks whose tests run in an odd way: the right fix resolves without evidence, another change does not, also
without evidence. tests/e2e/attacks/oddities_of_runners.yaml has the cases."""

import asyncio
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import absent
from tests.e2e.attacks.play import BACKENDS, Played, complaints, play, runners, unproved

CASES = runners()
TELLING = (
    "quiet_twice",
    "isolated_interpreter",
    "a_tool_as_tox_is",
    "after_cd_and_in_a_subshell",
    "subtests_on_two_workers",
    "prints_what_looks_like_results",
    "parameters_of_every_kind_in_full",
    "unittest_with_docstrings",
    "functions_replaced_and_left_so",
    "ends_hard_when_it_is_done",
)
TELLING_UNFIXED = ("three_calls_in_one_line_unfixed", "prints_the_markers_of_a_harness_unfixed")


@pytest.mark.slow
@pytest.mark.bubblewrap
@pytest.mark.usefixtures("require_bubblewrap", "require_uv")
async def test_telling_oddities(tmp_path: Path) -> None:
    """Some of each kind in one rollout."""
    names = [*TELLING, *TELLING_UNFIXED]
    played = await play("bubblewrap", {name: CASES[name] for name in names}, tmp_path)
    assert unproved(names, played) == []
    assert complaints(names, played, {name: CASES[name].expect for name in names}) == []


@pytest.fixture(scope="module")
def require_uv() -> None:
    """uv is installed, which gets the packages that some cases need."""
    if shutil.which("uv") is None:
        absent("uv is not installed")


@pytest.fixture(scope="module", params=[pytest.param(kind, marks=getattr(pytest.mark, kind)) for kind in BACKENDS])
def played(
    request: pytest.FixtureRequest, require_uv: None, tmp_path_factory: pytest.TempPathFactory
) -> Mapping[str, Played]:
    """All cases in one rollout on each backend."""
    request.getfixturevalue(f"require_{request.param}")
    return asyncio.run(play(request.param, CASES, tmp_path_factory.mktemp(request.param)))


def _parameters() -> list[Any]:
    """The names of cases; those that are known to fail are expected to."""
    marks = {name: pytest.mark.xfail(reason=case.known, strict=False) for name, case in CASES.items() if case.known}
    return [pytest.param(name, marks=marks.get(name, ())) for name in CASES]


@pytest.mark.slow
@pytest.mark.nightly
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", _parameters())
def test_an_odd_run_is_judged_by_what_was_fixed(played: Mapping[str, Played], name: str) -> None:
    assert unproved([name], played) == []
    assert complaints([name], played, {name: CASES[name].expect}) == []
