"""`CheckpointWriter`: what cannot be written ends the run with the reason, and is in no whole checkpoint."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs the train extra")
pytest.importorskip("trl", reason="needs the train extra")

from swe_aem.errors import UserError  # noqa: E402
from swe_aem.train.checkpoint_writer import CheckpointWriter  # noqa: E402
from swe_aem.train.checkpoints import latest  # noqa: E402
from swe_aem.train.processes import Processes  # noqa: E402

FULL = "/dev/full"
"""Takes no byte, as a full disk."""
pytestmark = [pytest.mark.torch, pytest.mark.contract(transformers=True)]


@pytest.fixture
def writer(tmp_path: Path) -> CheckpointWriter:
    return CheckpointWriter(tmp_path, Processes(cpu=True, collective_timeout_s=60), asynchronous=True)


def save(writer: CheckpointWriter, number: int, work: Any) -> None:
    """Save a checkpoint that has one file, and what `work` writes later."""
    with writer.saving(f"checkpoint-{number}") as later:
        assert later is not None
        directory = writer.unfinished / f"checkpoint-{number}"
        directory.mkdir(parents=True)
        (directory / "now").touch()
        later.do(work)


def nothing() -> None:
    """All was written at once."""


def fill() -> None:
    Path(FULL).write_bytes(b"weights")


def broken() -> None:
    raise ZeroDivisionError


def test_a_full_disk_is_named_when_the_next_one_is_saved(writer: CheckpointWriter, tmp_path: Path) -> None:
    save(writer, 2, nothing)
    save(writer, 4, fill)
    with pytest.raises(UserError, match=r"checkpoint-4 could not be written: the disk is full, .* GB are free"):
        save(writer, 6, nothing)
    assert latest(tmp_path) == tmp_path / "checkpoint-2"
    assert not writer.unfinished.exists(), "it takes disk space"


def test_an_error_of_the_code_is_raised_as_it_is(writer: CheckpointWriter, tmp_path: Path) -> None:
    save(writer, 2, broken)
    with pytest.raises(ZeroDivisionError):
        writer.wait()
    assert latest(tmp_path) is None


def test_a_run_that_ends_early_says_what_could_not_be_written(
    writer: CheckpointWriter, capsys: pytest.CaptureFixture[str]
) -> None:
    save(writer, 2, fill)
    writer.close()
    assert "checkpoint-2 could not be written" in capsys.readouterr().err


def test_a_copy_stays_as_it_was_and_shares_what_the_original_shares(writer: CheckpointWriter) -> None:
    weight = torch.ones(3)
    with writer.saving("checkpoint-2") as later:
        assert later is not None
        (writer.unfinished / "checkpoint-2").mkdir(parents=True)
        copied = later.staged({"embedding": weight, "head": weight, "step": 1})
    weight += 1
    assert copied["embedding"].tolist() == [1, 1, 1]
    assert copied["head"].data_ptr() == copied["embedding"].data_ptr()
    writer.wait()


@pytest.mark.nightly
@pytest.mark.parametrize("kind", ["torch", "safetensors", "shards"])
@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_disk_that_is_full_is_named_whatever_writes(kind: str, asynchronous: bool, tmp_path: Path) -> None:
    """On a file system of 1 MB."""
    root = Path(__file__).parents[2]
    sandbox = ["bwrap", "--dev-bind", "/", "/", "--size", "1000000", "--tmpfs", str(tmp_path)]
    script = [sys.executable, "-m", "tests.train.full_disk", str(tmp_path), kind, str(int(asynchronous))]
    done = subprocess.run([*sandbox, *script], capture_output=True, text=True, timeout=300, check=False, cwd=root)
    assert done.returncode == 0, done.stderr
    assert "checkpoint-2 could not be written: the disk is full" in done.stdout
