"""TensorBoard, trackio and wandb themselves, offline: what a run sends arrives once, also where it is resumed."""

import json
import struct
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("trl", reason="needs the train extra")
if missing := [name for name in ("tensorboard", "trackio", "wandb") if find_spec(name) is None]:
    pytest.skip(f"needs {', '.join(missing)}: uv sync --group trackers", allow_module_level=True)

from swe_aem.errors import UserError
from swe_aem.testing.steps import ScriptedSteps, save_tiny
from swe_aem.train import trackers as module
from swe_aem.train.loop import train
from swe_aem.train.records import HeldoutResult, StepMetrics, read_metrics
from swe_aem.train.steps import Step
from swe_aem.train.trackers import Trackers, numbers
from tests.train.killable import configuration

pytestmark = [pytest.mark.torch]
Points = dict[str, list[tuple[int, float]]]
"""Steps and values by name."""
NAMES = ("tensorboard", "trackio", "wandb")


@pytest.fixture(autouse=True)
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import_module("trackio.sqlite_storage")
    for name, loaded in list(sys.modules.items()):  # TRL imports trackio, which reads TRACKIO_DIR then
        if name.startswith("trackio") and hasattr(loaded, "TRACKIO_DIR"):
            monkeypatch.setattr(loaded, "TRACKIO_DIR", tmp_path / "trackio")


class Interrupted(ScriptedSteps):
    """Steps of a run that is interrupted while it waits for the fourth."""

    def step(self, number: int) -> Step:
        if number == 4:
            raise KeyboardInterrupt
        return super().step(number)


def read_tensorboard(directory: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (folder,) = {path.parent for path in directory.rglob("events.out.tfevents.*")}
    return EventAccumulator(str(folder)).Reload()


def of_tensorboard(directory: Path) -> Points:
    read = read_tensorboard(directory)
    return {name: [(one.step, one.value) for one in read.Scalars(name)] for name in read.Tags()["scalars"]}


def of_trackio() -> Points:
    from trackio.sqlite_storage import SQLiteStorage

    (run,) = SQLiteStorage.get_runs("swe-aem")
    found: Points = {}
    for line in SQLiteStorage.get_logs("swe-aem", run):
        for name, value in line.items():
            if isinstance(value, int | float):
                found.setdefault(name, []).append((line["step"], value))
    return found


def of_wandb(directory: Path) -> Points:
    import wandb
    from wandb.proto.wandb_internal_pb2 import Record

    wandb.teardown()  # its process writes the rest of a run's file after `finish`
    runs: set[str] = set()
    found: Points = {}
    for path in sorted(directory.glob("wandb/offline-run-*/run-*.wandb")):
        for data in wandb_records(path.read_bytes()):
            record = Record()
            record.ParseFromString(data)
            if record.HasField("run"):
                runs.add(record.run.run_id)
            for item in record.history.item:
                name = item.key or "/".join(item.nested_key)
                found.setdefault(name, []).append((record.history.step.num, json.loads(item.value_json)))
    assert len(runs) == 1, "each process continues the same run"
    return found


def wandb_records(data: bytes) -> Iterator[bytes]:
    """The records of a .wandb file: after seven bytes a log of LevelDB, in blocks of 32 KiB with records split at their
    ends."""
    place, parts = 7, b""
    while place < len(data):
        left = 32768 - place % 32768
        if left < 7:
            place += left
            continue
        _, length, kind = struct.unpack_from("<IHB", data, place)
        parts += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield parts
            parts = b""


@pytest.mark.slow
@pytest.mark.contract(trl=True, transformers=True)
def test_every_number_of_a_resumed_run_is_in_each_tracker_once(tmp_path: Path) -> None:
    model, out = tmp_path / "model", tmp_path / "run"
    save_tiny(model)
    config = configuration(model, 4, f"report_to=[{', '.join(NAMES)}]")
    with pytest.raises(KeyboardInterrupt):
        train(config, out, Interrupted)
    assert [line.step for line in read_metrics(out)] == [1, 2, 3], "of which the checkpoint has two"
    train(config, out, ScriptedSteps)
    lines = read_metrics(out)
    expected: Points = {}
    for line in lines:
        for name, value in numbers(line.model_dump(by_alias=True, exclude={"step", "format"})):
            expected.setdefault(name, []).append((line.step, value))
    assert {"loss", "resolved_rate", "aem/response_entropy", "outcomes/resolved", "optimising_s"} <= expected.keys()
    for found in (of_tensorboard(out), of_trackio(), of_wandb(out)):
        for name, points in expected.items():
            assert [step for step, _ in found[name]] == [1, 2, 3, 4], name
            if not name.endswith("_s") and "time" not in name:  # the third step took another time when it was repeated
                assert [value for _, value in found[name]] == pytest.approx([value for _, value in points], rel=1e-5)


@pytest.mark.slow
def test_rates_on_held_out_tasks_are_in_each_tracker_once(tmp_path: Path) -> None:
    config = configuration(tmp_path, 2, f"report_to=[{', '.join(NAMES)}]")
    rates = {"tasks": 4, "pass_at_1": 0.25, "parts": {"new": {"tasks": 2, "pass_at_1": 0.5}}}
    for done in (0, 1):  # a resumed run evaluates again before its first step, and after steps it trains again
        with Trackers(config, tmp_path, done=done) as trackers:
            for step in (0, 1, 2):
                if step:
                    trackers.log(StepMetrics(step=step, loss=0.0))
                trackers.log_heldout(HeldoutResult.model_validate({"step": step, **rates}))
    for found in (of_tensorboard(tmp_path), of_trackio(), of_wandb(tmp_path)):
        assert found["heldout/pass_at_1"] == [(step, 0.25) for step in (0, 1, 2)]
        assert found["heldout/parts/new/pass_at_1"] == [(step, 0.5) for step in (0, 1, 2)]


def test_tensorboard_has_the_configuration_of_a_run_without_a_checkpoint_once(tmp_path: Path) -> None:
    for _ in range(2):
        with Trackers(configuration(tmp_path, 2, "report_to=[tensorboard]"), tmp_path, done=0):
            pass
    assert len(read_tensorboard(tmp_path).Tensors("config/text_summary")) == 1


@pytest.mark.slow
def test_wandb_takes_an_evaluation_after_its_step_where_it_is_beyond_that(tmp_path: Path) -> None:
    result = HeldoutResult.model_validate({"step": 2, "tasks": 4, "pass_at_1": 0.25})
    with Trackers(configuration(tmp_path, 3, "report_to=[wandb]"), tmp_path, done=0) as trackers:
        for step in (1, 2, 3):
            trackers.log(StepMetrics(step=step, loss=0.0))
        trackers.log_heldout(result)
    found = of_wandb(tmp_path)
    assert found["heldout/pass_at_1"] == [(3, 0.25)]
    assert found["heldout/step"] == [(3, 2)]  # the axis on which wandb draws it


def test_a_tracker_that_cannot_begin_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_key(*_: Any, **__: Any) -> Any:
        raise RuntimeError("api_key not configured (no-tty)")

    monkeypatch.setattr("wandb.init", no_key)
    config = configuration(tmp_path, 1, "report_to=[wandb]")
    with pytest.raises(UserError, match=r"wandb cannot begin: api_key not configured.*WANDB_MODE=offline"):
        Trackers(config, tmp_path, done=0)


def test_a_tracker_that_fails_ends_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def send(*_: Any) -> None:
        raise OSError("No space left on device")

    monkeypatch.setitem(module._OPENERS, "trackio", lambda *_: nullcontext(send))  # type: ignore[arg-type]
    with Trackers(configuration(tmp_path, 1, "report_to=[trackio]"), tmp_path, done=0) as trackers:
        for step in (1, 2):
            trackers.log(StepMetrics(step=step))
    said = capsys.readouterr().err
    assert said.count("trackio failed at step 1 and gets no more of this process: OSError") == 1
