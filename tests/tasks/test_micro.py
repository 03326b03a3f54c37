"""The bundled set as it is committed: sizes, split, and what the official harness says of it."""

import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from swe_aem.cache import cache_dir
from swe_aem.tasks import TaskSet, load_tasks
from swe_aem.tasks.packages import read_package
from swe_aem.tasks.synthesis.mutate import KINDS
from swe_aem.tasks.synthesis.synth import HELDOUT, TRAIN, SynthConfig, is_heldout_function, package_rows

MICRO = Path(__file__).parents[2] / "tasks" / "micro"
SAMPLE = 24
"""Every so many tasks of the set take part in checks that build trees."""


@pytest.fixture(scope="module")
def micro() -> TaskSet:
    """The whole set."""
    return load_tasks("micro")


def _rows(split: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (MICRO / f"{split}.jsonl").read_text().splitlines()]


def test_size(micro: TaskSet) -> None:
    sizes = Counter(record.split for record in micro)
    assert sizes.total() >= 600
    assert sizes[HELDOUT] >= 150
    assert set(sizes) == {TRAIN, HELDOUT}


def test_split_by_package_and_function(micro: TaskSet) -> None:
    places: dict[str | None, set[tuple[str, str]]] = {TRAIN: set(), HELDOUT: set()}
    for record in micro:
        label = micro.labels[record.task.id]
        places[record.split].add((label["package"], label["function"]))
    assert not places[TRAIN] & places[HELDOUT]
    packages = {split: {package for package, _ in found} for split, found in places.items()}
    assert len(packages[HELDOUT] - packages[TRAIN]) >= 2
    assert len(packages[HELDOUT] & packages[TRAIN]) >= 2
    assert len(packages[HELDOUT] | packages[TRAIN]) >= 10


def test_kinds_are_balanced(micro: TaskSet) -> None:
    for split in (TRAIN, HELDOUT):
        counts = Counter(micro.labels[record.task.id]["mutation_kind"] for record in micro if record.split == split)
        assert set(counts) == set(KINDS)
        assert max(counts.values()) <= 2 * min(counts.values())


@pytest.mark.parametrize("split", [TRAIN, HELDOUT])
def test_files_are_ascii_and_sorted(split: str) -> None:
    data = (MICRO / f"{split}.jsonl").read_bytes()
    assert data.isascii()
    rows = _rows(split)
    ids = [row["instance_id"] for row in rows]
    assert ids == sorted(ids)
    assert len({tuple(row) for row in rows}) == 1


def test_rows_say_what_they_promise(micro: TaskSet) -> None:
    statements = set()
    for record in micro:
        label = micro.labels[record.task.id]
        assert re.fullmatch(rf"micro__{label['package']}-{label['mutation_kind']}-[0-9a-f]{{8}}", record.task.id)
        assert record.key.log_parser == "parse_log_pytest"
        assert record.key.pass_to_pass
        assert not set(record.key.fail_to_pass) & set(record.key.pass_to_pass)
        assert not [name for name in record.key.fail_to_pass if re.search(r"\s", name)]  # the parser splits there
        told = record.task.problem_statement
        assert label["mutation_kind"] not in told.lower()
        assert ".py" not in told
        assert f"{label['package']}/" not in told
        assert not re.search(r"\btest_", told)
        statements.add(told)
    assert len(statements) > 0.7 * len(micro)


def test_where_a_tree_lies_tells_nothing_of_its_task(micro: TaskSet) -> None:
    """An agent reads this path in the mount table of its sandbox."""
    record = micro.records[0]
    tree = micro.workspace(record.task.id)
    assert tree is not None
    place = tree.relative_to(cache_dir()).as_posix()
    assert re.fullmatch(r"workspaces/[0-9a-f]{16}/[0-9a-f]{16}", place)


def test_trees_are_the_rows_commits(micro: TaskSet) -> None:
    for record in micro.records[::SAMPLE]:
        tree = micro.workspace(record.task.id)
        assert tree is not None
        head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=tree, capture_output=True, text=True, check=True)
        assert head.stdout.strip() == record.task.base_commit


def test_packages_leave_no_compiled_files() -> None:
    for package in (MICRO / "packages").iterdir():
        assert all(path.endswith((".py", ".md")) for path in read_package(package))


@pytest.mark.slow
def test_committed_rows_are_what_the_generator_makes() -> None:
    """One package, all its rows. Messages of exceptions belong to a minor version of Python."""
    if sys.version_info[:2] != (3, 12):
        pytest.skip("the committed rows were made with Python 3.12")
    made: dict[str, list[str]] = {TRAIN: [], HELDOUT: []}
    for row in package_rows("spans", SynthConfig(packages=MICRO / "packages"), lambda *_: None):
        split = HELDOUT if is_heldout_function("spans", row["function"], 0) else TRAIN
        made[split].append(json.dumps(row))
    for split, lines in made.items():
        committed = [line for line in (MICRO / f"{split}.jsonl").read_text().splitlines() if '"micro/spans"' in line]
        assert sorted(lines) == sorted(committed)


@pytest.mark.slow
@pytest.mark.parametrize("patched", [True, False], ids=["gold", "noop"])
def test_official_harness_agrees(micro: TaskSet, tmp_path: Path, patched: bool) -> None:
    """swebench's own script, parser and report, run on the host in a copy of the tree instead of /testbed."""
    from swebench.harness.grading import get_eval_report
    from swebench.harness.utils import make_test_spec

    rows = {row["instance_id"]: row for split in (TRAIN, HELDOUT) for row in _rows(split)}
    (tmp_path / "home").mkdir()
    for record in micro.records[:: len(micro) // 8]:
        task_id = record.task.id
        tree = tmp_path / task_id
        source = micro.workspace(task_id)
        assert source is not None
        shutil.copytree(source, tree)
        if patched:
            subprocess.run(["git", "apply"], input=record.key.gold_patch.encode(), cwd=tree, check=True)
        spec = make_test_spec(rows[task_id])
        script = spec.eval_script.replace("cd /testbed", f"cd {tree}")
        environment = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "HOME": str(tmp_path / "home")}
        done = subprocess.run(
            ["bash", "-c", script], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
        )
        log = tmp_path / f"{task_id}.log"
        log.write_bytes(done.stdout)
        prediction = {"instance_id": task_id, "model_patch": record.key.gold_patch}
        report = get_eval_report(spec, prediction, str(log), True)[task_id]
        assert report["patch_successfully_applied"], log.read_text()
        assert report["resolved"] is patched
        status = report["tests_status"]
        assert not status["PASS_TO_PASS"]["failure"]
        if not patched:
            assert not status["FAIL_TO_PASS"]["success"]
