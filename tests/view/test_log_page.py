"""The page of a kept log: real ones are shown, and no file makes it fail otherwise than by saying why."""

import tracemalloc
import zipfile
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from swe_aem.core import TrajectoryKey
from swe_aem.errors import UserError
from swe_aem.grading.conclusion import EvaluationEnd
from swe_aem.grading.kept_log import pack_log
from swe_aem.grading.log_file import LogFile
from swe_aem.store import log_path
from swe_aem.testing.builders import make_record, make_trajectory
from swe_aem.view.pages import log
from swe_aem.view.site import NotThere
from tests.view.hostile import zipped
from tests.view.pages import Parsed, page, store_with

KEY = TrajectoryKey("t", 0)


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """Where the log of the only trajectory of the store `run` would lie."""
    path = log_path(store_with(tmp_path / "run", make_trajectory("t", 0)), KEY)
    path.parent.mkdir()
    return path


def shown(kept: Path, start: str = "") -> str:
    return page(kept.parents[1], "log", {"from": start}, task="t", sample="0")


def test_a_log_is_shown_in_its_colours_a_piece_at_a_time(kept: Path) -> None:
    with pytest.raises(NotThere, match=r"no log of t\.0 was kept"):
        shown(kept)
    kept.write_bytes(zipped(b"\x1b[31mred\x1b[0m \xff\xfe\n" + b"x" * 250_000 + b"the end"))
    first = shown(kept)
    assert '<span class="ansi-31">red</span>' in first
    assert "bytes 1 to 100,000 of 250,023" in Parsed(first).text
    assert {"/run/trajectory/t/0/log?from=100000", "/run/trajectory/t/0/log?from=200000"} <= Parsed(first).links
    assert "the end" in shown(kept, "200000")
    assert "the end" in shown(kept, "9" * 15)
    kept.write_bytes(zipped(b""))
    assert "bytes 0 to 0 of 0" in Parsed(shown(kept)).text


def test_a_log_that_a_run_kept_is_shown(kept: Path, tmp_path: Path) -> None:
    output = tmp_path / "output.log"
    output.write_text("BEGIN\n+ : START\nPASSED tests/test_dates.py::test_<leap>\n+ : 'END'\nCODE: 0\n")
    log_file = LogFile(path=output, begin="BEGIN", start="START", end="END", code="CODE")
    end = EvaluationEnd(
        exit_code=0, timed_out=False, killed_for=None, wall_s=2.0, starved_s=0.0, cpu_s=1.5, tail="", refused=()
    )
    kept.write_bytes(pack_log(make_record("t"), "true", log_file, end, (), 1 << 20))
    text = Parsed(shown(kept)).text
    assert "PASSED tests/test_dates.py::test_<leap>" in text
    assert f"bytes 1 to {output.stat().st_size} of {output.stat().st_size}" in text
    assert f"unzip -p {kept} output.log shows all of it." in text


def test_what_is_no_kept_log_says_why(kept: Path, tmp_path: Path) -> None:
    kept.write_bytes(b"\x1f\x8b no zip")
    with pytest.raises(UserError, match="cannot be read: File is not a zip file"):
        shown(kept)
    kept.write_bytes(zipped(b"x", "evaluation.json"))
    with pytest.raises(NotThere, match="holds no output of the evaluation"):
        shown(kept)
    kept.write_bytes(zipped(b"x" * 1000, compression=zipfile.ZIP_LZMA))
    with pytest.raises(UserError, match="packed otherwise"):
        shown(kept)
    elsewhere = tmp_path / "secret.zip"
    elsewhere.write_bytes(zipped(b"a secret"))
    kept.unlink()
    kept.symlink_to(elsewhere)
    with pytest.raises(UserError, match="is a link"):
        shown(kept)


def test_a_small_file_that_holds_very_much_costs_little(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "MOST_BYTES", 3_000_000)
    kept.write_bytes(zipped(b"<" * 30_000_000))
    assert kept.stat().st_size < 100_000
    tracemalloc.start()
    try:
        piece = log.read_piece(kept, "29000000")
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()
    assert (piece.start, len(piece.text), piece.total) == (2_900_000, 100_000, 30_000_000)
    last = Parsed(shown(kept, "29000000"))
    assert "Pages end after 3,000,000 of 30,000,000 bytes." in last.text
    assert not any("from=3000000" in link for link in last.links)


WHOLE = zipped(b"output of an evaluation\n" * 50)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.integers(0, len(WHOLE)), st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(0, 255)), max_size=4))
def test_a_damaged_file_is_read_or_says_why(tmp_path: Path, length: int, changes: list[tuple[int, int]]) -> None:
    damaged = bytearray(WHOLE)
    for at, value in changes:
        damaged[at] = value
    path = tmp_path / "damaged.zip"
    path.write_bytes(damaged[: length if length % 2 else None])
    with suppress(UserError, NotThere):
        assert log.read_piece(path, "100").start == 0


def test_a_link_is_no_log_of_a_run(tmp_path: Path) -> None:
    directory = store_with(tmp_path / "run", make_trajectory("t", 0))
    (tmp_path / "secret").write_text("a secret")
    (directory / "run.log").symlink_to(tmp_path / "secret")
    with pytest.raises(NotThere, match=r"run has no run\.log"):
        page(directory, "runlog")
