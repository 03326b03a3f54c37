import json
import subprocess
from pathlib import Path

from new_name import NewName

import swe_aem as sa

SHELF = "def empty(shelf):\n    return {}\n"
TEST = "from shelf import empty\n\n\ndef test_empty():\n    assert empty([])\n    assert not empty([1])\n"


def commit(repository: Path, **files: str) -> str:
    """Commits files; the id of the commit."""
    for name, text in files.items():
        (repository / f"{name}.py").write_text(text)
    git = ["git", "-C", str(repository), "-c", "user.name=A", "-c", "user.email=a@example.org"]
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "A change"], check=True)
    return subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()


def test_a_row_is_a_task_that_its_fix_resolves(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    commit(tmp_path, shelf=SHELF.format("bool(shelf)"))
    fix = commit(tmp_path, shelf=SHELF.format("not shelf"), test_shelf=TEST)
    row = {"id": "shelf-1", "issue": "An empty shelf is not empty.", "repo_path": str(tmp_path), "fix": fix}
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps(row | {"failing": ["test_shelf.py::test_empty"]}) + "\n")

    (task,) = sa.load_tasks(rows, family=NewName())
    assert task.task.problem_statement == "An empty shelf is not empty."
    assert sa.grade(task, task.key.gold_patch).resolved
    assert not sa.grade(task, "").resolved
