"""`read_predictions`: patches from a preds.json, a JSONL file, or a rollout's store. One odd row costs one row.

Keys of a row are swebench's: `instance_id`, `model_patch` (or `patch`) and `model_name_or_path`. A null patch is an
empty one, as swebench reads it. Several rows for one task are its samples 0, 1, 2, ... in order, unless they have a
`sample` of their own.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from swe_aem.core import Outcome, Stop, TrajectoryKey
from swe_aem.core.base import Frozen
from swe_aem.core.explain import shown
from swe_aem.errors import UserError, why_unreadable
from swe_aem.store import Store, is_graded_directory
from swe_aem.tasks import TaskSet

_PATCH_KEYS = ("model_patch", "patch")
_SHOWN = 5


class Prediction(Frozen):
    """One patch for one task."""

    task_id: str
    sample: int
    patch: str
    """Empty where nothing was submitted."""
    model: str = ""
    stop: Stop = Stop.SUBMITTED
    """How the agent ended that made it."""

    @property
    def key(self) -> TrajectoryKey:
        """Which one it is."""
        return TrajectoryKey(self.task_id, self.sample)

    @property
    def digest(self) -> str:
        """Short hash of the patch."""
        return hashlib.sha256(self.patch.encode("utf-8", "surrogateescape")).hexdigest()[:16]


class Predictions(NamedTuple):
    """What a source holds."""

    found: tuple[Prediction, ...]
    notes: tuple[str, ...]
    """What a person should know: which rows are left out and why, one sentence each."""


class _Odd(Exception):
    """A row that is no prediction; says why."""


def read_predictions(source: Path) -> Predictions:
    """The predictions of a file or a store. Raises `UserError` if it cannot be read, or holds none."""
    if source.is_dir():
        return _of_store(source)
    try:
        text = source.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"{source}: no such file; --predictions takes a preds.json, a JSONL file or a store") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{source}: cannot be read ({why_unreadable(error)})") from error
    made = _Maker()
    odd = [f"{where} ({why})" for where, row in _rows(text, source) if (why := made.take(row)) is not None]
    if not made.found:
        said = f": {_some(odd)}" if odd else ""
        raise UserError(f"{source} holds no prediction that can be graded{said}")
    return Predictions(tuple(made.found), tuple(_notes(made, odd, source)))


def of_tasks(predictions: Predictions, tasks: TaskSet) -> Predictions:
    """The predictions for the tasks of a set; raises `UserError` if there are none."""
    ids = {record.task.id for record in tasks}
    kept = tuple(one for one in predictions.found if one.task_id in ids)
    other = list(dict.fromkeys(one.task_id for one in predictions.found if one.task_id not in ids))
    notes = list(predictions.notes)
    if other:
        count = len(predictions.found) - len(kept)
        notes.append(
            f"{_count(count, 'prediction')} left out, for no chosen task of {tasks.name} has their id: {_some(other)}"
        )
    if not kept:
        said = f"no prediction is for a chosen task of {tasks.name}: {_some(other)}"
        raise UserError(f"{said}; name their set by --tasks")
    covered = {one.task_id for one in kept}
    without = sorted(ids - covered)
    if len(without) > len(covered):  # the file is of a few tasks on purpose
        notes.append(f"predictions for {len(covered)} of {len(ids)} tasks")
    elif without:
        notes.append(f"{len(without)} of {len(ids)} tasks without a prediction: {_some(without)}")
    return Predictions(kept, tuple(notes))


class _Maker:
    """Makes predictions of rows, numbering those of one task."""

    def __init__(self) -> None:
        self.found: list[Prediction] = []
        self._keys: set[TrajectoryKey] = set()

    def take(self, row: Any) -> str | None:
        """Add the prediction of a row; returns why it is none, if so."""
        try:
            prediction = self._prediction(row)
        except _Odd as odd:
            return str(odd)
        self.found.append(prediction)
        self._keys.add(prediction.key)
        return None

    def _prediction(self, row: Any) -> Prediction:
        if isinstance(row, _Odd):
            raise row
        if not isinstance(row, dict):
            raise _Odd(f"{shown(row)} is no object with instance_id and model_patch")
        id = row.get("instance_id")
        if not isinstance(id, str) or not id:
            raise _Odd("it has no instance_id" if id is None else f"its instance_id is {shown(id)}")
        model = row.get("model_name_or_path")
        return Prediction(
            task_id=id, sample=self._sample(id, row.get("sample")), patch=_patch(id, row), model=str(model or "")
        )

    def _sample(self, id: str, given: Any) -> int:
        if given is None:
            return next(n for n in range(len(self._keys) + 1) if TrajectoryKey(id, n) not in self._keys)
        if not isinstance(given, int) or isinstance(given, bool) or given < 0:
            raise _Odd(f"{id}: its sample is {shown(given)}, not a number from 0")
        if TrajectoryKey(id, given) in self._keys:
            raise _Odd(f"{id}: a second prediction of sample {given}")
        return given


def _patch(id: str, row: dict[str, Any]) -> str:
    name = next((name for name in _PATCH_KEYS if name in row), None)
    if name is None:
        raise _Odd(f"{id}: it has no model_patch")
    patch = row[name]
    if patch is None:
        return ""
    if not isinstance(patch, str):
        raise _Odd(f"{id}: its {name} is {shown(patch)}, not text")
    try:
        patch.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise _Odd(f"{id}: its {name} has characters that are no text") from None
    return patch


def _rows(text: str, source: Path) -> Iterator[tuple[str, Any]]:
    """Each row with where it is: of an object by instance id, a list, one object, or one object per line."""
    try:
        whole = json.loads(text, object_pairs_hook=_Object)
    except (ValueError, RecursionError) as error:
        lines = enumerate(text.splitlines(), start=1)
        rows = [(f"line {number}", _parsed(line)) for number, line in lines if line.strip()]
        if not any(isinstance(row, dict) for _, row in rows):
            raise UserError(f"{source}: not JSON ({error}), and not one JSON object per line") from None
        yield from rows
        return
    if isinstance(whole, list):
        yield from ((f"row {number}", row) for number, row in enumerate(whole, start=1))
    elif isinstance(whole, _Object) and not isinstance(whole.get("instance_id"), str):
        yield from ((f"row {id}", _named(id, row)) for id, row in whole.pairs)
    else:
        yield "row 1", whole


class _Object(dict[str, Any]):
    """A JSON object that also knows members whose name comes twice."""

    def __init__(self, pairs: Sequence[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.pairs = pairs


def _named(id: str, row: Any) -> Any:
    """A row of an object by instance id; the patch alone will do."""
    if isinstance(row, str) or row is None:
        return {"instance_id": id, "model_patch": row}
    if not isinstance(row, dict):
        return _Odd(f"{shown(row)} is no prediction")
    if row.get("instance_id") not in (None, id):
        return _Odd(f"its instance_id is {shown(row['instance_id'])}")
    return {**row, "instance_id": id}


def _parsed(line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return _Odd("it is no JSON")


def _notes(made: _Maker, odd: list[str], source: Path) -> Iterator[str]:
    if odd:
        yield f"{source}: {_count(len(odd), 'row')} left out: {_some(odd)}"
    empty = [str(one.key) for one in made.found if not one.patch.strip()]
    if empty:
        yield f"{source}: {_count(len(empty), 'patch', 'patches')} empty, which resolves nothing: {_some(empty)}"
    several = list(dict.fromkeys(one.task_id for one in made.found if one.sample))
    if several:
        tasks = "1 task has" if len(several) == 1 else f"{len(several)} tasks have"
        yield f"{source}: {tasks} several predictions, taken as their samples 0, 1, ...: {_some(several)}"


def _of_store(directory: Path) -> Predictions:
    """The patches of a store, those of every sample that came to one."""
    if is_graded_directory(directory):
        raise UserError(f"{directory} holds verdicts and no patches: name what it was made from, or add --from-logs")
    if not (directory / "trajectories").is_dir():
        raise UserError(f"{directory} is not a store: it has no folder `trajectories`; name the --out of a rollout")
    found: list[Prediction] = []
    without: list[str] = []
    for one in Store(directory).trajectories():
        says_nothing = one.outcome in (Outcome.INFRASTRUCTURE, Outcome.GRADER_FAILURE, Outcome.BROKEN_TASK)
        if says_nothing and not one.patch.strip():
            without.append(one.id)
            continue
        stop = one.stop or Stop.SUBMITTED
        found.append(
            Prediction(task_id=one.task_id, sample=one.sample, patch=one.patch, model=one.model or one.agent, stop=stop)
        )
    if not found:
        raise UserError(f"{directory} holds no trajectory with a patch")
    trajectories = _count(len(without), "trajectory without a patch", "trajectories without a patch")
    note = f"{directory}: {trajectories} left out, for infrastructure failed: {_some(without)}"
    return Predictions(tuple(found), (note,) if without else ())


def _count(count: int, word: str, words: str = "") -> str:
    return f"1 {word} is" if count == 1 else f"{count} {words or word + 's'} are"


def _some(names: Iterable[object]) -> str:
    """The first of them, and how many more there are."""
    every = [str(name) for name in names]
    more = f" and {len(every) - _SHOWN} more" if len(every) > _SHOWN else ""
    return ", ".join(every[:_SHOWN]) + more
