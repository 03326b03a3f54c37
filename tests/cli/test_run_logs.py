"""Every verb with an `--out` leaves a run.log there, however it ends."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from swe_aem.cli import VERBS, app
from swe_aem.cli.logged import WITHOUT

OWN_DEFAULT = {"rollout", "bench", "train", "select"}
"""Verbs that write into a directory of their own where no --out is given: `keep_in`."""
NO_DEFAULT = {"diagnose", "replay-advantages", "recompute-rewards", "report", "tasks build"}
"""Verbs that without --out write nothing, or into what is not theirs: the directory of another run, a cache."""


def commands() -> Iterator[tuple[str, Any]]:
    """Every verb with an --out, those of groups included, by name."""
    root = REAL_COMMAND(app)
    for name in VERBS:
        yield from with_out(name, root.get_command(None, name))  # type: ignore[attr-defined]


def with_out(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    for verb, one in getattr(command, "commands", {}).items():
        yield from with_out(f"{name} {verb}", one)
    if any(param.name == "out" for param in command.params):
        yield name, command


REAL_COMMAND = typer.main.get_command


def broken_command(verb: typer.Typer) -> Any:
    """A verb, or a group of verbs, with a bug in each."""

    def fail(**given: Any) -> None:
        raise RuntimeError("a bug")

    command = REAL_COMMAND(verb)
    for _, one in with_out("", command):
        one.callback = fail
    return command


def excepted(name: str) -> bool:
    return name in WITHOUT or name.partition(" ")[0] in WITHOUT


def test_every_verb_with_an_out_leaves_a_log_of_its_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(typer.main, "get_command", broken_command)
    found = dict(commands())
    needed = {one for one in WITHOUT if any(f"{name} ".startswith(f"{one} ") for name in found)}
    assert needed == set(WITHOUT), "a verb that is gone, or has no --out any more, needs no exception"
    for name, command in found.items():
        out = tmp_path / name.replace(" ", "-")
        with pytest.raises(RuntimeError, match="a bug"):
            command.callback(out=out)
        if excepted(name):
            assert not out.exists(), name
            continue
        log = (out / "run.log").read_text()
        assert "ERROR - RuntimeError: a bug\n    Traceback (most recent call last):\n" in log, name
        assert log.rpartition(" - ")[2].startswith("ended: exit code 1 after "), name


def test_every_verb_with_an_optional_out_is_sorted() -> None:
    optional = {name for name, one in commands() if any(p.name == "out" and not p.required for p in one.params)}
    assert {name for name in optional if not excepted(name)} == OWN_DEFAULT | NO_DEFAULT


@pytest.mark.parametrize(
    ("arguments", "directory"),
    [
        (["rollout", "--tasks", "nowhere"], "runs/nowhere-gold-bubblewrap"),
        (["bench", "nowhere", "--policy", "gold"], "runs/bench/nowhere-gold"),
    ],
)
def test_a_refused_run_says_why_in_its_default_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], directory: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert CliRunner().invoke(app, arguments).exit_code != 0
    log = (tmp_path / directory / "run.log").read_text()
    assert "ERROR - " in log
    assert "nowhere" in log
    assert "ended: exit code 2" in log


def test_a_dry_run_leaves_nothing(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert CliRunner().invoke(app, ["rollout", "--limit", "1", "--dry-run", "--out", str(out)]).exit_code == 0
    assert not out.exists()
