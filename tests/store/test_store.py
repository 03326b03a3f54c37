"""The store: round trips, recovery from every truncation, exactly once, one writer, and `datasets`."""

import errno
import json
import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from swe_aem.core import (
    Branch,
    Outcome,
    Response,
    RoutedExperts,
    Stop,
    TestStatus,
    ToolCall,
    Trajectory,
    Verdict,
    VersionSpan,
)
from swe_aem.errors import UserError
from swe_aem.store import FORMAT, Store, files, log_path, seal_trajectory
from swe_aem.store.files import replace
from swe_aem.store.segments import read_lines, seal
from swe_aem.store.store import read_texts
from swe_aem.store.trajectory_row import Excerpt, excerpt, from_row, to_row
from swe_aem.testing.builders import make_trajectory

text = st.text(st.characters(exclude_categories=()), max_size=8)
number = st.floats(allow_nan=False, allow_infinity=False)
count = st.integers(0, 1 << 40)
plain_json = st.recursive(
    st.none() | st.booleans() | st.integers() | number | text,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(text, inner, max_size=2),
    max_leaves=4,
)
calls = st.builds(
    ToolCall,
    name=text,
    arguments=st.dictionaries(text, plain_json, max_size=2),
    observation=text,
    exit_code=st.none() | st.integers(-1, 255),
    timed_out=st.booleans(),
    wall_s=number,
)
verdicts = st.builds(
    Verdict,
    resolved=st.booleans(),
    patch_applied=st.booleans(),
    fail_to_pass=st.dictionaries(text, st.sampled_from(TestStatus), max_size=2),
    stripped_files=st.lists(text, max_size=2).map(tuple),
    integrity=st.lists(text, max_size=2).map(tuple),
    exit_code=st.none() | st.integers(0, 255),
    eval_s=number,
    log_tail=text,
)


@st.composite
def routed(draw: st.DrawFn, tokens: int) -> RoutedExperts:
    layers, experts, size = draw(st.integers(1, 3)), draw(st.integers(1, 2)), draw(st.sampled_from((1, 2)))
    length = tokens * layers * experts * size
    ids = draw(st.binary(min_size=length, max_size=length))
    return RoutedExperts.model_validate({"layers": layers, "experts_per_token": experts, "id_bytes": size, "ids": ids})


@st.composite
def trajectories(draw: st.DrawFn) -> Trajectory:
    responses, end = [], 0
    for _ in range(draw(st.integers(0, 3))):
        start = end + draw(st.integers(0, 3))
        end = start + draw(st.integers(1, 3))
        oldest = draw(count)
        later = range(1, draw(st.integers(1, end - start)))
        responses.append(
            Response(
                start=start,
                end=end,
                spans=tuple(VersionSpan(start=place, version=oldest + place) for place in later),
                logprobs=tuple(draw(st.lists(number, min_size=end - start, max_size=end - start))),
                version=oldest,
                finish_reason=draw(st.sampled_from(["stop", "length"])),
                sample_s=draw(number),
                routed_experts=draw(st.none() | routed(end - start)),
                tool_calls=tuple(draw(st.lists(calls, max_size=2))),
            )
        )
    tokens = end + draw(st.integers(0, 2))
    return Trajectory(
        task_id=draw(text),
        sample=draw(count),
        attempt=draw(count),
        agent=draw(text),
        model=draw(text),
        token_ids=tuple(draw(st.lists(count, min_size=tokens, max_size=tokens))),
        responses=tuple(responses),
        branches=tuple(
            Branch(token_ids=tuple(range(end)), responses=tuple(responses), by_agent=by_agent)
            for by_agent in draw(st.lists(st.booleans(), max_size=2))
        ),
        messages=tuple(
            draw(st.lists(st.dictionaries(st.sampled_from(["role", "content", "x"]), plain_json), max_size=3))
        ),
        stop=draw(st.none() | st.sampled_from(Stop)),
        patch=draw(text),
        outcome=draw(st.sampled_from(Outcome)),
        reward=draw(st.none() | number),
        verdict=draw(st.none() | verdicts),
        error=draw(st.none() | text),
        timings_s=draw(st.dictionaries(text, number, max_size=2)),
    )


@given(trajectories())
def test_a_row_gives_back_the_same_trajectory(trajectory: Trajectory) -> None:
    assert from_row(json.loads(json.dumps(to_row(trajectory)))) == trajectory


def long_trajectory(turns: int) -> Trajectory:
    """Each response is a token and has a tool call; each turn is two messages after a prompt of two."""
    call = ToolCall(name="bash", arguments={"command": "ls"}, observation="a b", wall_s=0.5)
    responses = tuple(
        Response(start=n, end=n + 1, logprobs=(-1.0,), version=0, finish_reason="stop", sample_s=1, tool_calls=(call,))
        for n in range(turns)
    )
    said = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Fix it."}]
    for n in range(turns):
        said += [{"role": "assistant", "content": f"said {n}", "x": n}, {"role": "tool", "content": f"seen {n}"}]
    return make_trajectory("t", 0, token_ids=tuple(range(turns)), responses=responses, messages=tuple(said))


def test_a_branch_keeps_bytes_that_are_no_text() -> None:
    odd = "\udc80\ud800"
    called = (
        make_trajectory("t", 0)
        .responses[0]
        .model_copy(
            update={"start": 0, "end": 2, "tool_calls": (ToolCall(name="bash", arguments={odd: odd}, observation=odd),)}
        )
    )
    one = make_trajectory("t", 0, branches=(Branch(token_ids=(1, 2), responses=(called,)),))
    assert from_row(json.loads(json.dumps(to_row(one)))) == one


def test_an_excerpt_has_the_texts_of_some_turns_and_every_number() -> None:
    one = long_trajectory(600)
    found = excerpt(to_row(one), range(100, 103))
    assert (found.is_whole, found.tools_s) == (False, 300)
    kept = {*range(100, 103), *range(597, 600)}
    some = found.trajectory
    for n, (response, whole) in enumerate(zip(some.responses, one.responses, strict=True)):
        assert response == (whole if n in kept else whole.model_copy(update={"tool_calls": ()}))
    for n, (message, whole) in enumerate(zip(some.messages, one.messages, strict=True)):
        assert message == (whole if n < 2 or (n - 2) // 2 in kept else {"role": whole["role"]})
    changed = {"responses": one.responses, "messages": one.messages}
    assert some.model_copy(update=changed) == one
    assert excerpt(to_row(one), range(5_000, 5_010)).trajectory.messages[-1] == one.messages[-1]


def test_an_excerpt_of_few_turns_is_the_trajectory() -> None:
    one = long_trajectory(20)
    assert excerpt(to_row(one), range(3)) == Excerpt(one, is_whole=True, tools_s=10)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)
@given(made=st.lists(trajectories(), max_size=4, unique_by=lambda one: (one.task_id, one.sample)))
def test_a_store_gives_back_the_same_trajectories(tmp_path: Path, made: list[Trajectory]) -> None:
    shutil.rmtree(tmp_path / "store", ignore_errors=True)
    store = Store(tmp_path / "store")
    with store.writer(segment_bytes=1500) as writer:
        for one in made:
            writer.append(one)
    assert list(store.trajectories()) == made
    assert store.completed() == {(one.task_id, one.sample) for one in made}
    by_task = dict(store.groups())
    assert sorted(by_task) == sorted({one.task_id for one in made})
    for task_id, group in by_task.items():
        assert list(group) == sorted((o for o in made if o.task_id == task_id), key=lambda one: one.sample)


@pytest.fixture(scope="module")
def two_records(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, int]:
    """The bytes of a segment with two records, and where the second one begins."""
    directory = tmp_path_factory.mktemp("whole")
    with Store(directory).writer() as writer:
        for sample in range(2):
            writer.append(record(sample))
    data = (directory / "trajectories" / "part-00000.jsonl").read_bytes()
    return data, data.index(b"\n") + 1


def record(sample: int) -> Trajectory:
    return Trajectory(task_id="t", sample=sample, agent="a", model="m", outcome=Outcome.EMPTY_PATCH, reward=0.0)


def test_at_every_truncation_a_reader_sees_the_whole_records(tmp_path: Path, two_records: tuple[bytes, int]) -> None:
    data, second = two_records
    segment = tmp_path / "trajectories" / "part-00000.jsonl"
    segment.parent.mkdir()
    for offset in range(len(data) + 1):
        segment.write_bytes(data[:offset])
        whole = [sample for sample, end in enumerate([second, len(data)]) if end <= offset]
        assert [one.sample for one in Store(tmp_path).trajectories()] == whole


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(data=st.data())
def test_a_truncated_store_is_repaired_and_completed(
    tmp_path: Path, two_records: tuple[bytes, int], data: st.DataObject
) -> None:
    whole, second = two_records
    offset = data.draw(st.integers(0, len(whole)) | st.sampled_from([second - 1, second, second + 1, len(whole) - 1]))
    shutil.rmtree(tmp_path / "store", ignore_errors=True)
    segment = tmp_path / "store" / "trajectories" / "part-00000.jsonl"
    segment.parent.mkdir(parents=True)
    segment.write_bytes(whole[:offset])
    kept = {("t", sample) for sample, end in enumerate([second, len(whole)]) if end <= offset}
    torn = whole[[0, second, len(whole)][len(kept)] : offset]
    with Store(tmp_path / "store").writer() as writer:
        assert set(writer.rows) == kept
        assert (writer.quarantined.read_bytes() if writer.quarantined else b"") == torn
        for sample in range(len(kept), 2):
            writer.append(record(sample))
    assert segment.read_bytes() == whole


@pytest.mark.parametrize("damage", [b"\x00" * 40, b"garbage\n", b'{"format": 1}\n', b"\n"])
def test_a_damaged_last_line_is_quarantined(tmp_path: Path, damage: bytes) -> None:
    with Store(tmp_path).writer() as writer:
        writer.append(make_trajectory("t", 0))
    with (tmp_path / "trajectories" / "part-00000.jsonl").open("ab") as file:
        file.write(damage)
    with Store(tmp_path).writer() as writer:
        assert writer.quarantined is not None
        assert writer.quarantined.read_bytes() == damage
        assert set(writer.rows) == {("t", 0)}


def test_a_flipped_bit_in_the_last_record_is_quarantined(tmp_path: Path) -> None:
    with Store(tmp_path).writer() as writer:
        writer.append(make_trajectory("t", 0))
        writer.append(make_trajectory("t", 1))
    segment = tmp_path / "trajectories" / "part-00000.jsonl"
    data = bytearray(segment.read_bytes())
    data[-200] ^= 1
    segment.write_bytes(data)
    with Store(tmp_path).writer() as writer:
        assert writer.quarantined is not None
        assert set(writer.rows) == {("t", 0)}


def test_damage_in_the_middle_names_file_and_line(tmp_path: Path) -> None:
    with Store(tmp_path).writer() as writer:
        for sample in range(3):
            writer.append(make_trajectory("t", sample))
    segment = tmp_path / "trajectories" / "part-00000.jsonl"
    lines = segment.read_bytes().splitlines(keepends=True)
    lines[1] = lines[1].replace(b"fake-model", b"fake_model")
    segment.write_bytes(b"".join(lines))
    with pytest.raises(UserError, match=r"part-00000.jsonl, line 2"):
        list(Store(tmp_path).trajectories())
    with pytest.raises(UserError, match=r"line 2"), Store(tmp_path).writer():
        pass


def test_a_torn_line_in_an_earlier_segment_is_an_error(tmp_path: Path) -> None:
    with Store(tmp_path).writer(segment_bytes=1) as writer:
        for sample in range(2):
            writer.append(make_trajectory("t", sample))
    first = tmp_path / "trajectories" / "part-00000.jsonl"
    first.write_bytes(first.read_bytes()[:-5])
    with pytest.raises(UserError, match=r"part-00000.jsonl, line 1"):
        Store(tmp_path).completed()


def test_segments_rotate_by_size_and_appending_continues_in_the_last(tmp_path: Path) -> None:
    for sample in range(6):
        with Store(tmp_path).writer(segment_bytes=4000) as writer:
            writer.append(make_trajectory("t", sample))
    sizes = [path.stat().st_size for path in sorted((tmp_path / "trajectories").iterdir())]
    assert len(sizes) > 1
    assert all(size <= 4000 for size in sizes)
    assert [one.sample for one in Store(tmp_path).trajectories()] == list(range(6))


def test_appending_continues_in_the_last_segment_when_one_in_the_middle_is_gone(tmp_path: Path) -> None:
    for sample in range(4):
        with Store(tmp_path).writer(segment_bytes=1) as writer:
            writer.append(make_trajectory("t", sample))
    (tmp_path / "trajectories" / "part-00001.jsonl").unlink()
    with Store(tmp_path).writer(segment_bytes=1 << 20) as writer:
        writer.append(make_trajectory("t", 1))
        assert writer.rows["t", 1].path.name == "part-00003.jsonl"
    assert [one.sample for one in Store(tmp_path).trajectories()] == [0, 2, 3, 1]


def test_a_segment_that_cannot_be_opened_leaves_the_writer_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.open

    def no_more_files(path: Any, flags: int, *mode: int) -> int:
        if str(path).endswith("part-00001.jsonl"):
            raise OSError(24, "Too many open files")
        return real(path, flags, *mode)

    with Store(tmp_path).writer(segment_bytes=1) as writer:
        writer.append(make_trajectory("t", 0))
        with monkeypatch.context() as patch:
            patch.setattr(os, "open", no_more_files)
            with pytest.raises(OSError, match="Too many"):
                writer.append(make_trajectory("t", 1))
        writer.append(make_trajectory("t", 1))
        assert writer.rows["t", 1].path.name == "part-00001.jsonl"
    assert Store(tmp_path).completed() == {("t", 0), ("t", 1)}


def test_a_replaced_file_is_synced_before_it_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    sync, rename = os.fsync, os.replace

    def fsync(fd: int) -> None:
        seen.append("directory" if stat.S_ISDIR(os.fstat(fd).st_mode) else "file")
        sync(fd)

    def replaces(source: Path, target: Path) -> None:
        seen.append("rename")
        rename(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replaces)
    replace(tmp_path / "config.json", "{}")
    assert seen == ["file", "rename", "directory"]


def test_append_refuses_what_would_spoil_the_store(tmp_path: Path) -> None:
    with Store(tmp_path).writer() as writer:
        writer.append(make_trajectory("t", 0))
        with pytest.raises(ValueError, match="already"):
            writer.append(make_trajectory("t", 0))
        with pytest.raises(ValueError, match="no outcome"):
            writer.append(make_trajectory("t", 1, outcome=None))
        with pytest.raises(ValueError, match="JSON"):
            writer.append(make_trajectory("t", 2, reward=float("nan")))
    assert Store(tmp_path).completed() == {("t", 0)}


def test_a_sealed_line_is_appended_as_it_is(tmp_path: Path) -> None:
    made = [make_trajectory("t\udc80", 0), make_trajectory("u", 3, outcome=Outcome.INFRASTRUCTURE, reward=None)]
    lines = [seal_trajectory(one) for one in made]
    with Store(tmp_path).writer() as writer:
        writer.append_line(lines[0], b"log")
        writer.append_line(lines[1])
        assert {key: row.outcome for key, row in writer.rows.items()} == {one.key: one.outcome for one in made}
    assert (tmp_path / "trajectories" / "part-00000.jsonl").read_bytes() == b"".join(lines)
    assert list(Store(tmp_path).trajectories()) == made
    assert log_path(tmp_path, made[0].key).read_bytes() == b"log"


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda line: line.replace(b'"sample": 1', b'"sample": 2'), "damaged"),
        (lambda line: line[:-1], "damaged"),
        (lambda line: line + line, "damaged"),
        (lambda line: seal(b'{"a": 1}'), "damaged"),
        (lambda line: seal(line[: line.rindex(b', "sha256"')].replace(b'"patch": ', b'"patch":\n') + b"}"), "damaged"),
        (lambda line: seal(line[: line.rindex(b', "sha256"')].replace(str(FORMAT).encode(), b"99", 1) + b"}"), "99"),
        (lambda line: line.replace(b'"sample": 1', b'"sample": 0'), "damaged"),
        (lambda line: seal_trajectory(make_trajectory("t", 0)), "already"),
    ],
)
def test_a_line_that_would_spoil_the_store_is_refused(
    tmp_path: Path, harm: Callable[[bytes], bytes], said: str
) -> None:
    with Store(tmp_path).writer() as writer:
        writer.append(make_trajectory("t", 0))
        with pytest.raises(ValueError, match=said):
            writer.append_line(harm(seal_trajectory(make_trajectory("t", 1))))
    assert Store(tmp_path).completed() == {("t", 0)}


def records_on_the_card(directory: Path) -> int:
    found = re.search(r"description: (\d+) trajectories", (directory / "README.md").read_text())
    assert found is not None
    return int(found[1])


def test_the_card_is_written_at_most_once_a_second_and_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = [100.0]
    monkeypatch.setattr("swe_aem.store.store.time.monotonic", lambda: now_s[0])
    with Store(tmp_path).writer() as writer:
        for sample, after_s, on_card in [(0, 0.0, 0), (1, 0.9, 0), (2, 0.1, 3), (3, 0.5, 3)]:
            now_s[0] += after_s
            writer.append(make_trajectory("t", sample))
            assert records_on_the_card(tmp_path) == on_card
        writer.write_card()
        assert records_on_the_card(tmp_path) == 4
        writer.append(make_trajectory("t", 4))
    assert records_on_the_card(tmp_path) == 5


def test_a_card_that_a_kill_left_behind_is_right_at_the_next_open(tmp_path: Path) -> None:
    script = f"""
import os
from swe_aem.store import Store
from swe_aem.testing.builders import make_trajectory
with Store({str(tmp_path)!r}).writer() as writer:
    writer.append(make_trajectory("t", 0))
    os.kill(os.getpid(), 9)
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -9
    assert records_on_the_card(tmp_path) == 0
    with Store(tmp_path).writer() as writer:
        assert records_on_the_card(tmp_path) == 1
        assert set(writer.rows) == {("t", 0)}


def test_a_doubled_record_is_an_error(tmp_path: Path) -> None:
    with Store(tmp_path).writer() as writer:
        writer.append(make_trajectory("t", 0))
    segment = tmp_path / "trajectories" / "part-00000.jsonl"
    segment.write_bytes(segment.read_bytes() * 2)
    with pytest.raises(UserError, match="second record of task t sample 0"):
        Store(tmp_path).completed()


def test_a_failed_write_leaves_no_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Store(tmp_path).writer() as writer:
        writer.append(make_trajectory("t", 0))
        write = os.write

        def short(fd: int, data: Any) -> int:
            if len(data) < 100:
                raise OSError(28, "No space left on device")
            return write(fd, data[: len(data) // 2])

        monkeypatch.setattr(os, "write", short)
        with pytest.raises(OSError, match="No space"):
            writer.append(make_trajectory("t", 1))
        monkeypatch.undo()
        writer.append(make_trajectory("t", 2))
    assert [one.sample for one in Store(tmp_path).trajectories()] == [0, 2]


def test_one_writer_at_a_time_and_the_lock_ends_with_it(tmp_path: Path) -> None:
    with Store(tmp_path).writer(), pytest.raises(UserError, match=r"being written by process \d+"):  # noqa: SIM117
        with Store(tmp_path).writer():
            pass
    with Store(tmp_path).writer():
        pass


def test_a_disk_without_locks_is_told_with_its_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(files.fcntl, "flock", refuse)
    monkeypatch.setattr(files, "network_filesystem", lambda path: "nfs")
    with pytest.raises(UserError, match=r"cannot be locked on nfs \(No locks available\).* a disk of this host"):  # noqa: SIM117
        with Store(tmp_path).writer():
            pass


@pytest.mark.parametrize(
    ("format", "said"),
    [
        (99, f"format 99 was written by a newer swe-aem, and this one reads up to {FORMAT}"),
        (2, "format 2 is older than 3"),
    ],
)
def test_another_format_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format: int, said: str) -> None:
    for module in ("trajectory_row", "sealed_line"):
        monkeypatch.setattr(f"swe_aem.store.{module}.FORMAT", format)
    with Store(tmp_path).writer() as writer:
        writer.append(make_trajectory("t", 0))
    with pytest.raises(UserError, match=said):
        Store(tmp_path).completed()
    with pytest.raises(UserError, match=said):
        list(Store(tmp_path).trajectories())


def test_a_row_of_before_routed_experts_has_none(tmp_path: Path) -> None:
    one = make_trajectory("t", 0)
    row = {name: value for name, value in to_row(one).items() if name != "routed_experts"}
    (tmp_path / "trajectories").mkdir()
    line = seal(json.dumps({**row, "format": 9}).encode())
    (tmp_path / "trajectories" / "part-00000.jsonl").write_bytes(line)
    assert list(Store(tmp_path).trajectories()) == [one]
    (read,) = read_lines(tmp_path / "trajectories")
    assert read_texts(read).trajectory == one


def test_texts_are_read_without_routed_experts(tmp_path: Path) -> None:
    routed = RoutedExperts(layers=2, experts_per_token=3, id_bytes=2, ids=bytes(range(24)))
    plain = make_trajectory("t", 0)
    (response,) = plain.responses
    one = plain.model_copy(update={"responses": (response.model_copy(update={"routed_experts": routed}),)})
    with Store(tmp_path).writer() as writer:
        writer.append(one)
    assert list(Store(tmp_path).trajectories()) == [one]
    (line,) = read_lines(tmp_path / "trajectories")
    assert read_texts(line).trajectory.responses[0].routed_experts is None


def test_a_store_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert list(Store(tmp_path / "none").trajectories()) == []
    assert not (tmp_path / "none").exists()
