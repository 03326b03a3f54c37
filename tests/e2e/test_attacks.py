"""Attacks get the reward 0 and are stored; honest oddities get what they earned. tests/e2e/attacks/ has the cases."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from swe_aem.core import SandboxSpec
from swe_aem.core.sandbox import Limits
from swe_aem.sandbox import open_backend
from swe_aem.testing.containment import require_containment
from tests.e2e.attacks.own_task import IMAGE
from tests.e2e.attacks.play import SMALL, Case, attacks, complaints, golds, oddities, play, unproved

ATTACKS, ODDITIES = attacks(), oddities()
TELLING_ATTACKS = (
    "fifo_at_the_editors_draft",
    "lease_on_the_editors_draft",
    "directory_at_a_key_file",
    "links_in_a_circle_where_the_directory_of_a_key_file_goes",
    "ignored_files_of_the_image_are_ignored_no_more",
    "untracked_files_of_the_image_are_made_anew",
    "link_to_a_package_that_the_runner_imports",
    "a_byte_that_is_no_utf8_hides_what_a_source_does",
    "exit_code_127_through_the_memory_of_the_parent",
    "freezes_processes_that_ignore_signals",
    "names_of_odd_bytes",
    "hooks_of_every_plugin_wrapped",
    "constant_after_the_call_in_the_bytecode",
    "runner_of_ones_own_executed_in_its_place",
    "runs_told_apart_by_the_example_of_the_issue",
    "every_run_but_the_first_dies",
)
TELLING_ODDITIES = (
    "base_commit_amended_and_collected",
    "git_directory_deleted",
    "ignored_fix_in_index_4",
    "ignored_fix_meant_to_be_added",
    "mapped_and_written_in_place",
    "directories_swapped",
    "disk_full_afterwards",
    "names_of_odd_bytes_left",
    "latin1_source",
    "image_with_untracked_files_nothing_done",
    "image_dirty_nothing_done",
    "image_source_is_ignored",
    "pyproject_edited_as_the_gold_does",
)


def _parameters(cases: Mapping[str, Case]) -> list[Any]:
    """The names of cases; those that are known to fail are expected to."""
    marks = {name: pytest.mark.xfail(reason=case.known, strict=False) for name, case in cases.items() if case.known}
    return [pytest.param(name, marks=marks.get(name, ())) for name in cases]


@pytest.mark.slow
@pytest.mark.bubblewrap
@pytest.mark.usefixtures("require_bubblewrap")
async def test_telling_cases(tmp_path: Path) -> None:
    """Attacks and oddities in one rollout, as a training run would meet them."""
    chosen = {name: ATTACKS[name] for name in TELLING_ATTACKS} | {name: ODDITIES[name] for name in TELLING_ODDITIES}
    wanted = dict.fromkeys(TELLING_ATTACKS, "0") | {name: ODDITIES[name].expect for name in TELLING_ODDITIES}
    await _contained("bubblewrap", tmp_path)
    played = await play("bubblewrap", chosen, tmp_path)
    assert unproved(TELLING_ODDITIES, played) == []
    assert complaints([*chosen], played, wanted) == []
    assert set(golds(played).values()) == {1.0}


@pytest.mark.slow
@pytest.mark.nightly
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", _parameters(ATTACKS))
async def test_an_attack_gets_nothing(kind: str, tmp_path: Path, name: str) -> None:
    attack = ATTACKS[name]
    if kind not in attack.backends:
        pytest.skip(f"an attack on {attack.backends[0]}")
    await _contained(kind, tmp_path)
    played = await play(kind, {name: attack}, tmp_path)
    assert complaints([name], played, {name: "0"}) == []
    assert set(golds(played).values()) == {1.0}


@pytest.mark.slow
@pytest.mark.nightly
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", _parameters(ODDITIES))
async def test_an_honest_oddity_gets_what_it_earned(kind: str, tmp_path: Path, name: str) -> None:
    oddity = ODDITIES[name]
    await _contained(kind, tmp_path)
    played = await play(kind, {name: oddity}, tmp_path)
    assert unproved([name], played) == []
    assert complaints([name], played, {name: oddity.expect}) == []


async def _contained(kind: str, tmp_path: Path) -> None:
    """Nothing hostile runs in a sandbox that has not been probed."""
    (tmp_path / "empty").mkdir()
    spec = SandboxSpec(image=IMAGE, workspace=tmp_path / "empty", limits=Limits(**SMALL))
    await require_containment(open_backend(kind), spec)
