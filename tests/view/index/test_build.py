"""An index follows its store: appended to, replaced, damaged, hostile, read by two, killed on the way."""

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from swe_aem.core import Outcome, TrajectoryKey
from swe_aem.errors import UserError
from swe_aem.store import Store
from swe_aem.store.segments import segments
from swe_aem.testing.builders import make_trajectory
from swe_aem.train.schedule import ScheduledStep
from swe_aem.view.index import Filter, Indexer, StoreIndex
from swe_aem.view.index.build import IndexBuilder
from swe_aem.view.index.database import place_of
from tests.view.index.stores import line, write_store
from tests.waiting import until


def samples(count: int, **changes: object) -> list:
    """Trajectories of one task."""
    return [make_trajectory("t", sample, **changes) for sample in range(count)]


def indexed(index: StoreIndex) -> list[int]:
    """Samples that the index has, in the order of writing."""
    return [row.sample for row in reversed(index.page(size=500).rows)]


def test_rows_that_a_live_run_appends_show_up(tmp_path: Path) -> None:
    index = StoreIndex(tmp_path / "store")
    assert index.refresh().complete
    with Store(tmp_path / "store").writer(segment_bytes=3000) as writer:
        for count, one in enumerate(samples(6), start=1):
            writer.append(one)
            assert not index.refresh().complete
            index.build()
            assert indexed(index) == list(range(count))
    assert len(segments(tmp_path / "store" / "trajectories")) > 1


def test_a_line_that_is_being_written_is_waited_for(tmp_path: Path) -> None:
    store = write_store(tmp_path, samples(2))
    path = segments(store / "trajectories")[-1]
    whole = line(make_trajectory("t", 2))
    index = StoreIndex(store)
    for part in (whole[:50], whole[50:-1], whole[-1:]):
        index.build()
        assert (indexed(index), index.damaged()) == ([0, 1], ())
        with path.open("ab") as file:
            file.write(part)
    index.build()
    assert indexed(index) == [0, 1, 2]


def test_the_newest_segment_is_read_first(tmp_path: Path) -> None:
    store = write_store(tmp_path, samples(12), per_segment=4)
    index = StoreIndex(store)
    builder = IndexBuilder(store, place_of(store).path)
    assert builder.stretch(0)
    assert indexed(index) == [8]
    progress = index.refresh()
    assert (progress.rows, progress.complete) == (1, False)
    assert 0 < progress.bytes_done < progress.bytes_total
    while builder.stretch(0):
        pass
    assert indexed(index) == list(range(12))


def test_a_damaged_row_costs_that_row(tmp_path: Path) -> None:
    store = write_store(tmp_path, samples(8))
    first = segments(store / "trajectories")[0]
    lines = first.read_bytes().splitlines(keepends=True)
    lines[1] = lines[1].replace(b"fake-model", b"other-mode")
    lines[2] = b'{"format": 99, "task_id"\n'
    first.write_bytes(b"".join(lines))
    index = StoreIndex(store)
    index.build()
    assert indexed(index) == [0, 3, 4, 5, 6, 7]
    assert [(row.segment, row.line) for row in index.damaged()] == [(first.name, 2), (first.name, 3)]
    assert index.refresh().damaged == 2


def test_of_two_records_of_one_trajectory_the_first_counts(tmp_path: Path) -> None:
    store = write_store(tmp_path, [*samples(4), make_trajectory("t", 1, outcome=Outcome.UNRESOLVED, reward=0.0)])
    index = StoreIndex(store)
    index.build()
    assert indexed(index) == [0, 1, 2, 3]
    assert index.totals().outcomes == {Outcome.RESOLVED: 4}
    (damaged,) = index.damaged()
    assert "a second record of task t sample 1" in damaged.reason


@pytest.mark.parametrize("how", ["replaced", "rewritten in place", "shortened", "gone"])
def test_nothing_of_a_store_that_was_replaced_is_shown(tmp_path: Path, how: str) -> None:
    store = write_store(tmp_path / "store", samples(8))
    index = StoreIndex(store)
    index.build()
    assert indexed(index) == list(range(8))
    path = segments(store / "trajectories")[0]
    if how == "replaced":
        shutil.rmtree(store)
        write_store(store, [make_trajectory("other", sample) for sample in range(8)])
    elif how == "rewritten in place":
        path.write_bytes(path.read_bytes().replace(b'"t"', b'"u"'))
        os.utime(path, (1, 1))
    elif how == "shortened":
        os.truncate(path, path.stat().st_size // 2)
    else:
        shutil.rmtree(store)
    assert indexed(index) == []
    assert index.one(TrajectoryKey("t", 0)) is None
    with pytest.raises(UserError, match="no trajectory"):
        index.load(TrajectoryKey("t", 0))
    index.build()
    tasks = {(row.task_id, row.sample) for row in index.page(size=500).rows}
    expected = {
        "replaced": {("other", sample) for sample in range(8)},
        "rewritten in place": {("t", sample) for sample in range(4, 8)},
        "shortened": {("t", sample) for sample in (0, 1, 4, 5, 6, 7)},
        "gone": set(),
    }
    assert tasks == expected[how]


def test_a_row_that_was_changed_behind_the_index_is_not_given_out(tmp_path: Path) -> None:
    store = write_store(tmp_path, samples(3))
    index = StoreIndex(store)
    index.build()
    path = segments(store / "trajectories")[0]
    before = path.stat()
    data = path.read_bytes()
    with path.open("r+b") as file:
        file.write(line(make_trajectory("u", 0))[: len(data)])
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(UserError, match="has changed; open the list again"):
        index.load(TrajectoryKey("t", 0))


def test_an_index_that_is_no_database_is_made_again(tmp_path: Path) -> None:
    store = write_store(tmp_path / "store", samples(3))
    place_of(store).path.write_bytes(b"no database at all" * 100)
    index = StoreIndex(store)
    index.build()
    assert indexed(index) == [0, 1, 2]


def test_without_a_cache_that_can_be_written_the_index_is_temporary_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SWE_AEM_CACHE", str(tmp_path / "file" / "cache"))
    index = StoreIndex(write_store(tmp_path / "store", samples(3)))
    index.build()
    assert indexed(index) == [0, 1, 2]
    assert index.note is not None
    assert "SWE_AEM_CACHE names another folder" in index.note
    assert not index.files()[0].is_relative_to(tmp_path)
    assert StoreIndex(tmp_path / "store").files() == index.files()


def test_a_store_that_cannot_be_written_is_indexed(tmp_path: Path) -> None:
    store = write_store(tmp_path / "store", samples(3))
    for path in (store, store / "trajectories"):
        path.chmod(0o555)
    index = StoreIndex(store)
    index.build()
    assert indexed(index) == [0, 1, 2]
    assert sorted(path.name for path in store.iterdir()) == ["trajectories"]


def test_two_stores_of_the_same_name_have_an_index_each(tmp_path: Path) -> None:
    stores = [write_store(tmp_path / name / "run", samples(count)) for name, count in (("a", 1), ("b", 2))]
    for store, count in zip(stores, (1, 2), strict=True):
        index = StoreIndex(store)
        index.build()
        assert len(indexed(index)) == count
    (tmp_path / "link").symlink_to(stores[1])
    assert len(indexed(StoreIndex(tmp_path / "link"))) == 2


@pytest.mark.slow
def test_killed_while_it_indexes_it_resumes(tmp_path: Path) -> None:
    store = write_store(tmp_path / "store", samples(200, patch="x" * 20_000))
    index = StoreIndex(store)
    code = (
        "import sys; from pathlib import Path; from swe_aem.view.index.build import IndexBuilder\n"
        "builder = IndexBuilder(Path(sys.argv[1]), Path(sys.argv[2]))\n"
        "while builder.stretch(0): print('.', flush=True)\n"
    )
    command = [sys.executable, "-c", code, str(store), str(place_of(store).path)]
    chance = random.Random(0)
    for _ in range(2):
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.read(2 * chance.randrange(1, 8))
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    done = index.refresh()
    assert 0 < done.rows < 200
    assert len(indexed(index)) == done.rows
    index.build()
    assert indexed(index) == list(range(200))
    assert index.page(Filter(text="fake")).total == 0
    assert index.page(Filter(text="fix it")).total == 200


@pytest.mark.slow
async def test_two_viewers_index_one_store_at_once(tmp_path: Path) -> None:
    store = write_store(tmp_path / "store", samples(60))
    indexers = [Indexer(), Indexer()]
    try:
        indexes = [StoreIndex(store, indexer) for indexer in indexers]
        for index in indexes:
            index.refresh()
        await until(lambda: all(index.refresh().complete for index in indexes))
        for index in indexes:
            assert indexed(index) == list(range(60))
            assert index.page(Filter(text="fix")).total == 60
    finally:
        for indexer in indexers:
            indexer.close()
    with sqlite3.connect(place_of(store).path) as connection:
        assert connection.execute("SELECT COUNT(*), MAX(id) FROM trajectories").fetchone() == (60, 60)


@pytest.mark.slow
async def test_an_indexer_that_was_killed_is_started_again_and_ends_with_its_viewer(tmp_path: Path) -> None:
    stores = [write_store(tmp_path / f"store-{number}", samples(3)) for number in range(2)]
    indexer = Indexer()
    for store in stores:
        index = StoreIndex(store, indexer)
        index.refresh()
        await until(lambda index=index: index.refresh().complete)
        assert indexed(index) == [0, 1, 2]
        pid = indexer.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        await until(lambda: indexer.pid is None)
    StoreIndex(write_store(tmp_path / "last", samples(1)), indexer).refresh()
    pid = indexer.pid
    assert pid is not None
    indexer.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.slow
async def test_why_indexing_stopped_is_said(tmp_path: Path) -> None:
    store = write_store(tmp_path / "store", samples(3))
    indexer = Indexer()
    index = StoreIndex(store, indexer)
    try:
        with sqlite3.connect(place_of(store).path) as connection:
            connection.execute("DROP TABLE labels")
        index.refresh()
        await until(lambda: index.refresh().failure is not None)
        assert "no such table" in (index.refresh().failure or "")
    finally:
        indexer.close()


def test_steps_of_a_training_run_are_those_that_rolled_a_task_out(tmp_path: Path) -> None:
    from swe_aem.rollout.config import RolloutConfig
    from swe_aem.rollout.manifest import Manifest
    from swe_aem.store.upgrade import FORMAT

    run = tmp_path / "run"
    store = write_store(run / "rollouts", [make_trajectory(task, sample) for task in "ab" for sample in range(4)])
    config = RolloutConfig(tasks="tasks.jsonl", group_size=2)
    manifest = Manifest(run="r", store_format=FORMAT, versions={}, config=config, tasks={"a": "1", "b": "2"})
    (store / "config.json").write_text(manifest.model_dump_json())
    (run / "config.yaml").write_text("limits_reward: zero\n")
    schedule = [ScheduledStep(step=5, tasks=("a", "b")), ScheduledStep(step=6, tasks=("b",))]
    (run / "sampler.jsonl").write_text("".join(one.model_dump_json() + "\n" for one in schedule))
    index = StoreIndex(store)
    index.build()
    steps = {(row.task_id, row.sample): (row.block, row.step) for row in index.page(size=500).rows}
    assert steps["a", 1] == steps["b", 0] == (0, 5)
    assert steps["b", 2] == (1, 6)
    assert steps["a", 2] == (1, 4)  # that no step names: the one after the weights that sampled
    matrix = index.matrix()
    assert matrix.by == "step"
    assert [(column.first, column.last) for column in matrix.columns] == [(4, 4), (5, 5), (6, 6)]
    assert [len(group.members) for group in index.groups().groups] == [2, 2, 2, 2]
