"""Scratch directories on the host: those of a process that was killed go with the next sweep, others stay."""

import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from swe_aem.core.owner import Owner
from swe_aem.core.scratch import scratch_directory, sweep_scratch
from swe_aem.errors import InfrastructureError

KILLED = (
    "import os\n"
    "from swe_aem.core.scratch import scratch_directory\n"
    "with scratch_directory('log') as one, scratch_directory('git') as other:\n"
    "    (other / 'full').mkdir()\n"
    "    (other / 'full' / 'file').write_text('x')\n"
    "    os.kill(os.getpid(), 9)\n"
)


def leave(temporary: Path) -> set[Path]:
    """The directories of a process that was killed."""
    done = subprocess.run([sys.executable, "-c", KILLED], env={**os.environ, "TMPDIR": str(temporary)}, check=False)
    assert done.returncode == -signal.SIGKILL
    left = set(temporary.iterdir())
    assert len(left) == 2
    return left


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory for temporary files of this test alone."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_a_directory_is_there_for_the_length_of_a_with(temporary: Path) -> None:
    with scratch_directory("log") as directory:
        (directory / "file").write_text("x")
        assert list(temporary.iterdir()) == [directory]
    assert list(temporary.iterdir()) == []


def test_only_what_a_dead_process_left_is_swept(temporary: Path) -> None:
    left = leave(temporary)
    (temporary / "elsewhere").mkdir()
    owner = Owner.this_process()
    (temporary / f"swe-aem-git-{owner.pid}-{owner.start_ticks}-another-host-abcdefgh").mkdir()
    (temporary / f"swe-aem-git-1-1-{owner.host}-abcdefgh").symlink_to(temporary / "elsewhere")
    (temporary / "swe-aem-notes").mkdir()
    with scratch_directory("log") as directory:
        sweep_scratch()
        assert not any(path.exists() for path in left)
        assert directory.exists()
    assert (temporary / "elsewhere").exists()
    assert (temporary / f"swe-aem-git-{owner.pid}-{owner.start_ticks}-another-host-abcdefgh").exists()
    assert (temporary / "swe-aem-notes").exists()


def test_what_was_left_beside_a_target_goes_when_the_next_is_made(temporary: Path) -> None:
    place = temporary / "cache"
    place.mkdir()
    left = leave(place)
    with scratch_directory("tree", place) as directory:
        assert set(place.iterdir()) == {directory}
        directory.rename(place / "target")
    assert set(place.iterdir()) == {place / "target"}
    assert len(left) == 2


PLACES = ("swe_aem/core/scratch.py", "swe_aem/harness/inside/", "swe_aem/serve/guard.py")
"""What makes directories itself: the owner of all others, what a harness does in one of those, and the guard of vLLM,
whose sockets need a short path."""


def test_nothing_else_makes_temporary_directories() -> None:
    root = Path(__file__).parents[2]
    made = re.compile(r"mkdtemp|mkstemp|TemporaryDirectory\(|NamedTemporaryFile\((?!.*dir=directory)")
    found = {str(path.relative_to(root)) for path in (root / "swe_aem").rglob("*.py") if made.search(path.read_text())}
    assert {path for path in found if not path.startswith(PLACES)} == set()


def test_a_later_process_with_the_same_id_keeps_nothing_alive(temporary: Path) -> None:
    owner = Owner.this_process()
    path = temporary / f"swe-aem-git-{owner.pid}-{owner.start_ticks - 1}-{owner.host}-abcdefgh"
    path.mkdir()
    assert sweep_scratch() == [path]
    assert not path.exists()


def test_directories_that_name_no_process_go_when_they_are_old(temporary: Path) -> None:
    names = (
        "swe-aem-log-8z5kw4h2",
        "swe-aem-git-mvj7if1r",
        "swe-aem-log-fresh_er",
        "swe-aem-log-kept",
        "swe-aem-runs-8z5kw4h2",
    )
    for name in names:
        (temporary / name).mkdir()
        if "fresh" not in name:
            os.utime(temporary / name, (0, 0))
    assert {path.name for path in sweep_scratch()} == set(names[:2])
    assert {path.name for path in temporary.iterdir()} == set(names[2:])


def test_prune_sweeps(temporary: Path) -> None:
    left = leave(temporary)
    environment = {**os.environ, "TMPDIR": str(temporary)}
    command = [sys.executable, "-m", "swe_aem", "sandbox", "prune", "--sandbox", "bubblewrap"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert not any(path.exists() for path in left)
    assert {str(path) for path in left} <= set(done.stdout.splitlines())


def test_a_host_without_room_is_an_infrastructure_failure(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(temporary / "gone"))
    with pytest.raises(InfrastructureError, match="scratch directory"), scratch_directory("log"):
        pass
    assert sweep_scratch() == []
