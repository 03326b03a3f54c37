"""The process that indexes stores: what it says of an index that it cannot write."""

import json
import subprocess
import sys
from pathlib import Path

from swe_aem.testing.builders import make_trajectory
from tests.view.index.stores import write_store


def test_an_index_that_cannot_be_written_is_said_with_what_to_do(tmp_path: Path) -> None:
    write_store(tmp_path / "run", [make_trajectory("a", 0)])
    database = tmp_path / "cache" / "index.sqlite"
    database.mkdir(parents=True)  # SQLite opens no directory
    request = json.dumps({"store": str(tmp_path / "run"), "database": str(database)})
    command = [sys.executable, "-m", "swe_aem.view.index.worker"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{request}\n")
    process.stdin.flush()
    said = json.loads(process.stdout.readline())["failure"]
    process.communicate()
    assert said.startswith("indexing stopped: ")
    assert f"{database.parent}: free space there, or set SWE_AEM_CACHE" in said
