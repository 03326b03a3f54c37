"""`phases.jsonl` as a trace: JSON of Chrome's trace event format, which ui.perfetto.dev and chrome://tracing open.

Of a training run it has the trainer, the rollouts and each evaluation as processes; of a store, its trajectories alone.
The trainer is one track. Attempts share as few tracks as there were at once, each with its phases inside.
"""

import heapq
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from swe_aem.errors import UserError
from swe_aem.store import EndedPhase, read_phases

Event = dict[str, Any]
Key = tuple[str, int, int]

_COUNTED = {"agent": "agents", "grade_queue": "waiting to be graded", "apply": "grading", "grade": "grading"}
"""What a counter says of attempts in these phases."""


class _Slice(NamedTuple):
    """A part of a track, in microseconds."""

    start: int
    end: int
    name: str
    args: Event


Tree = tuple[_Slice, list[_Slice]]
"""A slice, and those inside of it, which do not overlap each other."""


def trace(directory: Path) -> Event:
    """The trace of a training run or a store. Raises `UserError` where nothing was recorded."""
    stores = {"rollouts": directory / "rollouts"}
    stores |= {f"evaluation {path.name}": path for path in sorted((directory / "heldout").glob("*")) if path.is_dir()}
    own = list(read_phases(directory))
    attempts = {"trajectories": [one for one in own if one.task_id is not None]}
    attempts |= {name: [one for one in read_phases(path) if one.task_id is not None] for name, path in stores.items()}
    trainer = [one for one in own if one.step is not None]
    began_s = min((one.began_s for each in (trainer, *attempts.values()) for one in each), default=None)
    if began_s is None:
        raise UserError(
            f"{directory} has no phases.jsonl with a phase in it: name the --out of a rollout or a training run that "
            "was made since phases are recorded"
        )
    events: list[Event] = []
    processes = {"trainer": _trainer(trainer, began_s)}
    processes |= {name: _packed(_attempts(phases, began_s)) for name, phases in attempts.items()}
    for pid, (name, tracks) in enumerate(((name, tracks) for name, tracks in processes.items() if tracks), start=1):
        events += _process(pid, name, tracks)
        events += _counters(pid, attempts.get(name, ()), began_s)
    return {"traceEvents": events, "displayTimeUnit": "ms", "otherData": {"began_unix_s": f"{began_s:.6f}"}}


def _slice(phase: EndedPhase, origin_s: float, name: str) -> _Slice:
    args = {"seconds": phase.seconds, "step": phase.step, "task": phase.task_id, "sample": phase.sample}
    start, end = (round((when - origin_s) * 1e6) for when in (phase.began_s, phase.ended_s))
    return _Slice(start, end, name, {key: value for key, value in args.items() if value is not None})


def _trainer(phases: Sequence[EndedPhase], origin_s: float) -> list[list[Tree]]:
    """The trainer's track: its steps with their phases, and phases outside of any step."""
    steps = [_slice(one, origin_s, f"step {one.step}") for one in phases if one.phase == "step"]
    parts = [_slice(one, origin_s, one.phase) for one in phases if one.phase != "step"]
    return [_nested(steps, parts)] if phases else []


def _nested(outer: Iterable[_Slice], inner: Iterable[_Slice]) -> list[Tree]:
    """One track of `outer` slices with the `inner` ones that lie in them, and the other ones beside."""
    trees: list[Tree] = [(one, []) for one in _apart(outer)]
    alone: list[Tree] = []
    place = 0
    for one in _apart(inner):
        middle = (one.start + one.end) / 2
        while place < len(trees) and trees[place][0].end <= middle:
            place += 1
        if place < len(trees) and trees[place][0].start <= middle:
            bounds = trees[place][0]
            trees[place][1].append(one._replace(start=max(one.start, bounds.start), end=min(one.end, bounds.end)))
        else:
            alone.append((one, []))
    both = sorted([*trees, *alone], key=_start)
    return [(one, inside) for one, (_, inside) in zip(_apart(tree[0] for tree in both), both, strict=True)]


def _apart(slices: Iterable[_Slice]) -> list[_Slice]:
    """The slices in order, each cut off where the next one begins, for times are rounded."""
    ordered = sorted(slices, key=lambda one: (one.start, one.end))
    pairs = pairwise(ordered)
    return [*(one._replace(end=min(one.end, following.start)) for one, following in pairs), *ordered[-1:]]


def _start(tree: Tree) -> tuple[int, int]:
    return tree[0].start, tree[0].end


def _attempts(phases: Iterable[EndedPhase], origin_s: float) -> list[Tree]:
    """A slice for each attempt, from its first phase to its last, with its phases in it. What a process that was killed
    and its rerun did for the same attempt are two."""
    found: dict[Key, list[EndedPhase]] = defaultdict(list)
    for one in phases:
        found[one.task_id or "", one.sample or 0, one.attempt or 0].append(one)
    trees = []
    for (task_id, sample, attempt), parts in found.items():
        for spell in _spells(sorted(parts, key=lambda one: one.began_s)):
            inner = _apart(_slice(one, origin_s, one.phase) for one in spell)
            name = f"{task_id}.{sample}" + (f" attempt {attempt}" if attempt > 1 else "")
            args = {"task": task_id, "sample": sample, "attempt": attempt}
            trees.append((_Slice(inner[0].start, max(one.end for one in inner), name, args), inner))
    return trees


def _spells(phases: Sequence[EndedPhase]) -> Iterator[list[EndedPhase]]:
    """What one process did of an attempt. A rerun begins it again with `prepare`, which else comes once more as soon as
    the sandbox has started."""
    spell: list[EndedPhase] = []
    for one in phases:
        if spell and one.phase == "prepare" and [earlier.phase for earlier in spell] != ["prepare", "queue", "start"]:
            yield spell
            spell = []
        spell.append(one)
    if spell:
        yield spell


def _packed(trees: Iterable[Tree]) -> list[list[Tree]]:
    """Tracks of trees that do not overlap: as many as there were trees at once."""
    tracks: list[list[Tree]] = []
    free: list[int] = []
    busy: list[tuple[int, int]] = []
    for tree in sorted(trees, key=_start):
        start, end = _start(tree)
        while busy and busy[0][0] <= start:
            heapq.heappush(free, heapq.heappop(busy)[1])
        if not free:
            heapq.heappush(free, len(tracks))
            tracks.append([])
        track = heapq.heappop(free)
        tracks[track].append(tree)
        heapq.heappush(busy, (end, track))
    return tracks


def _process(pid: int, name: str, tracks: Sequence[Sequence[Tree]]) -> Iterator[Event]:
    yield {"ph": "M", "name": "process_name", "pid": pid, "tid": 0, "args": {"name": name}}
    yield {"ph": "M", "name": "process_sort_index", "pid": pid, "tid": 0, "args": {"sort_index": pid}}
    for tid, track in enumerate(tracks, start=1):
        label = "trainer" if name == "trainer" else f"place {tid}"
        yield {"ph": "M", "name": "thread_name", "pid": pid, "tid": tid, "args": {"name": label}}
        yield {"ph": "M", "name": "thread_sort_index", "pid": pid, "tid": tid, "args": {"sort_index": tid}}
        for outer, inner in track:
            for one in (outer, *inner):
                place = {"pid": pid, "tid": tid, "ts": one.start, "dur": one.end - one.start}
                yield {"ph": "X", "cat": "phase", "name": one.name, **place, "args": one.args}


def _counters(pid: int, phases: Iterable[EndedPhase], origin_s: float) -> Iterator[Event]:
    """How many attempts were in the phases that are counted, whenever that changes."""
    changes: dict[str, dict[int, int]] = defaultdict(lambda: defaultdict(int))
    for one in phases:
        if (name := _COUNTED.get(one.phase)) is not None:
            start, end, *_ = _slice(one, origin_s, name)
            changes[name][start] += 1
            changes[name][end] -= 1
    for name, by_time in changes.items():
        value = 0
        for when, change in sorted(by_time.items()):
            value += change
            yield {"ph": "C", "name": name, "pid": pid, "tid": 0, "ts": when, "args": {"value": value}}
