"""`grade_from_logs`: today's parser and rules, applied to the kept logs of a store or of `swe-aem grade`.

Nothing is run. A verdict whose log does not say enough stays as it was, and is counted with the reason. What is written
is a directory like that of `swe-aem grade`, each line with what the verdict was `before`.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import NamedTuple

from swe_aem.core import Outcome, TaskRecord, Trajectory, Verdict
from swe_aem.core.outcomes import graded
from swe_aem.errors import GraderError, UserError
from swe_aem.grading import SwebenchParser, read_kept_log
from swe_aem.predictions.reading import Prediction
from swe_aem.predictions.summary import GradeSummary, summarise, write_grade_summary
from swe_aem.reward import Rewards
from swe_aem.rollout import RolloutConfig, claim, grading_extensions, read_manifest
from swe_aem.rollout.manifest import NO_TOKENIZER
from swe_aem.rollout.orchestrator import raise_first
from swe_aem.rollout.verdict_rewards import verdict_rewards
from swe_aem.store import (
    Before,
    GradedPrediction,
    Store,
    graded_prediction,
    graded_writer,
    is_graded_directory,
    log_path,
    read_graded,
    write_graded,
)
from swe_aem.tasks import TaskSet

FROM_LOGS = "kept logs"
"""Stands for the policy in the settings of a directory that was made from logs."""
_TELL_EVERY = 1000
_WITHOUT_VERDICT = (Outcome.GRADER_FAILURE, Outcome.BROKEN_TASK)


class Rereading(NamedTuple):
    """What reading logs again came to."""

    rows: tuple[GradedPrediction, ...]
    stayed: dict[str, int]
    """How many verdicts stayed as they were because no log could change them, by reason."""
    summary: GradeSummary

    @property
    def changed(self) -> tuple[GradedPrediction, ...]:
        """Lines whose verdict is another now: its result, its outcome, or its evidence."""
        return tuple(row for row in self.rows if row.before is not None and _said(row) != _said(row.before))

    @property
    def officially_changed(self) -> tuple[GradedPrediction, ...]:
        """Lines of which swebench's rule alone says something else now."""
        return tuple(row for row in self.rows if row.before and row.official_resolved != row.before.official_resolved)


class _Item(NamedTuple):
    """A stored end of a trajectory or of a prediction."""

    end: Trajectory
    wall_s: float


async def grade_from_logs(
    config: RolloutConfig,
    tasks: TaskSet,
    source: Path,
    directory: Path,
    *,
    parser: SwebenchParser | None = None,
    tell: Callable[[str], None] = lambda text: None,
) -> Rereading:
    """Read the logs of `source` again and write the verdicts into `directory`, all at once at the end.

    A `parser` that is given is its caller's. Raises `UserError` if there are no logs, none is of a task of the set, or
    `directory` holds something else.
    """
    items = _items(source)
    records = {record.task.id: record for record in tasks}
    known = [item for item in items if item.end.task_id in records]
    if not known:
        raise UserError(f"no verdict in {source} is on a chosen task of {tasks.name}; name their set by --tasks")
    notes = [f"{len(items) - len(known)} verdicts of {source} are left out: their tasks are not among {tasks.name}"]
    if not any(log_path(source, item.end.key).exists() for item in known):
        raise UserError(f"{source} has no kept logs: it is older than they are, or its folder `logs` is gone")
    config = config.model_copy(update={"agent": "native", "policy": FROM_LOGS})
    with graded_writer(directory):
        claimed = [records[id] for id in dict.fromkeys(item.end.task_id for item in known)]
        _claim(config, claimed, known, directory, grading_extensions(config, tasks))
        stayed: Counter[str] = Counter()
        async with nullcontext(parser) if parser else SwebenchParser() as reader:
            rows = await _read_all(known, records, source, config, reader, stayed, tell)
        write_graded(directory, rows)
        left_out = notes if len(known) < len(items) else []
        summary = summarise(rows, wanted=len(rows), notes=left_out, wall_s=0.0)
        write_grade_summary(directory, summary)
    return Rereading(tuple(rows), dict(stayed.most_common()), summary)


def _items(source: Path) -> list[_Item]:
    if is_graded_directory(source):
        return [_Item(row.trajectory(), row.wall_s) for row in read_graded(source)]
    if not (source / "trajectories").is_dir():
        raise UserError(f"{source}: --from-logs needs a store or a directory of `swe-aem grade`, with their kept logs")
    drop = {"token_ids": (), "responses": (), "branches": (), "messages": ()}
    return [_Item(one.model_copy(update=drop), one.timings_s.get("grade", 0.0)) for one in Store(source).trajectories()]


def _claim(
    config: RolloutConfig,
    records: Sequence[TaskRecord],
    items: Sequence[_Item],
    directory: Path,
    extensions: Mapping[str, str],
) -> None:
    stored = read_manifest(directory)
    if read_graded(directory) and (stored is None or stored.config.policy != FROM_LOGS):
        raise UserError(f"{directory} holds verdicts that were not read from logs; choose another --out")
    digests: dict[str, dict[int, str]] = {}
    for end, _ in items:
        one = Prediction(task_id=end.task_id, sample=end.sample, patch=end.patch)
        digests.setdefault(end.task_id, {})[end.sample] = one.digest
    claim(
        directory,
        config,
        records,
        stored_tasks=(),
        tokenizer=NO_TOKENIZER,
        extensions=extensions,
        predictions=digests,
    )


async def _read_all(
    items: Sequence[_Item],
    records: dict[str, TaskRecord],
    source: Path,
    config: RolloutConfig,
    parser: SwebenchParser,
    stayed: Counter[str],
    tell: Callable[[str], None],
) -> list[GradedPrediction]:
    """The lines of all items, in order, so many read at once as patches would be graded."""
    places, done = asyncio.Semaphore(config.at_once.grading), 0
    rewards = verdict_rewards(config.reward, records.values())

    async def one(item: _Item) -> GradedPrediction:
        nonlocal done
        async with places:
            now = await _again(item.end, records[item.end.task_id], source, rewards, parser, stayed)
        done += 1
        if done % _TELL_EVERY == 0:
            tell(f"{done} of {len(items)} logs read")
        was = graded_prediction(item.end, item.wall_s)
        before = Before(
            resolved=was.resolved,
            official_resolved=was.official_resolved,
            outcome=was.outcome,
            evidence=was.evidence,
        )
        return graded_prediction(now, item.wall_s, before)

    try:
        async with asyncio.TaskGroup() as tasks:
            reading = [tasks.create_task(one(item)) for item in items]
    except BaseExceptionGroup as group:
        raise_first(group)
    return [task.result() for task in reading]


async def _again(
    end: Trajectory,
    record: TaskRecord,
    source: Path,
    rewards: Rewards,
    parser: SwebenchParser,
    stayed: Counter[str],
) -> Trajectory:
    """The end with the verdict that its log gives today; as it was where that cannot be said, which `stayed` counts."""
    path = log_path(source, end.key)
    if end.stop is None or (end.verdict is None and end.outcome not in _WITHOUT_VERDICT):
        stayed["no tests were run"] += 1
        return end
    if not path.exists():
        stayed["no log was kept" if _ran(end.verdict) else "no tests were run"] += 1
        return end
    try:
        verdict = await read_kept_log(path, record, parser, end.verdict)
    except GraderError as error:  # the log does not say enough, or the parser fails on it
        stayed[" ".join(str(error).split())[:200]] += 1
        return end
    if end.verdict is None and not verdict.collected:  # still nothing that a broken task would not explain
        stayed["no test of the task is in the log"] += 1
        return end
    return rewards(graded(end.model_copy(update={"error": None}), verdict))


def _ran(verdict: Verdict | None) -> bool:
    return verdict is not None and verdict.exit_code is not None


def _said(row: GradedPrediction | Before) -> tuple[bool | None, Outcome, tuple[str, ...]]:
    return row.resolved, row.outcome, row.evidence
