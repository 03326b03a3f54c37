"""What is left when a guarded command ends: all that others had, and nothing of its own."""

import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from swe_aem.serve import guard

SHARED = Path("/dev/shm")

COMMAND = """
import mmap, pathlib, sys, tempfile, time
held = []
for path in sys.argv[1:]:
    file = open(path, "ab+")
    file.truncate(4096)
    held.append(mmap.mmap(file.fileno(), 4096))
scratch = pathlib.Path(tempfile.mkdtemp())
print(scratch, flush=True)
time.sleep(1000)
"""


@pytest.fixture
def place():
    """A name of this test's own in shared memory."""
    place = SHARED / f"swe-aem-test-{uuid.uuid4().hex}"
    yield place
    for path in (*place.glob("*"), *SHARED.glob(f"{place.name}-*")):
        path.unlink()
    if place.exists():
        place.rmdir()


def test_shared_memory_of_others_and_files_stay(place):
    """A model or weights in shared memory, and a segment that was there before, are mapped and not its own."""
    place.mkdir()
    model, earlier, own = place / "model.safetensors", Path(f"{place}-earlier"), Path(f"{place}-own")
    earlier.touch()
    with _guarded(model, earlier, own) as process:
        scratch = Path(process.stdout.readline().strip())
        assert scratch.is_dir()
        process.stdin.close()
        assert process.wait(30) == 0
    assert model.exists()
    assert earlier.exists()
    assert not own.exists()
    assert not scratch.parent.exists()


def _guarded(*mapped):
    line = [sys.executable, guard.__file__, sys.executable, "-c", COMMAND, *map(str, mapped)]
    return subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
