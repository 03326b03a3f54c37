"""`Grader`: from a delta to a verdict, in a fresh sandbox that the agent never touched.

    async with Grader(backend) as grader:
        async with grader.slot(record, spec) as slot:   # its sandbox starts now, while the agent works
            delta = await slot.delta(work)              # what the agent's work changes
            verdict = await slot.grade(delta, deadline)

The log decides what the patch is worth. Whether there is a verdict at all is decided by this process's own calls,
timers and exit codes: no text that a program prints can turn an attempt into an infrastructure failure.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial, reduce
from operator import or_
from typing import Any, TypeVar

from swe_aem.core import AnswerKey, Deadline, Sandbox, SandboxBackend, SandboxSpec, TaskRecord, Verdict
from swe_aem.core.base import Frozen
from swe_aem.core.scratch import scratch_directory
from swe_aem.errors import ControlFailed, GraderError, HostFailed, InfrastructureError
from swe_aem.grading.apply import wanted_state, write_state
from swe_aem.grading.capture import CapturedWork
from swe_aem.grading.comparing import delta_of
from swe_aem.grading.conclusion import EvaluationEnd, conclude, wants_rewards
from swe_aem.grading.delta import Delta
from swe_aem.grading.eval_types import results_from
from swe_aem.grading.evaluation import GRADING_ENV, Evaluation, evaluate
from swe_aem.grading.foreign import NotApplied, apply_foreign
from swe_aem.grading.gold import gold_patch
from swe_aem.grading.hygiene import CleanDelta, clean_delta
from swe_aem.grading.import_record import ImportRecord, ImportRecorder, ImportRecords
from swe_aem.grading.kept_log import pack_log, with_end
from swe_aem.grading.kept_records import KeptRecords, digest_of
from swe_aem.grading.layers import StartLayers
from swe_aem.grading.log_file import LOG_TAIL_CHARS, LogFile, LogReading
from swe_aem.grading.log_reading import witnessed
from swe_aem.grading.name_rule import measured_rule
from swe_aem.grading.parser import SwebenchParser
from swe_aem.grading.prepare import PREPARE_TIMEOUT_S, prepare_for_grading
from swe_aem.grading.prestart import PrestartedSandbox
from swe_aem.grading.reward_file import read_rewards, remove_rewards
from swe_aem.grading.rules import NameRule, shadows
from swe_aem.grading.shell import put_file, script_text
from swe_aem.grading.twins.judging import is_spoiled, judged_by_twins, measured, measured_twins
from swe_aem.grading.twins.making import (
    Twin,
    Twins,
    make_twins,
    read_image_files,
    read_test_files,
    rules_digest,
    twin_key,
    why_no_twins,
)

T = TypeVar("T")

_HANDSHAKE_S = 30.0
CONTROL_EXTRA_S = 600.0
"""Seconds that a control gets beyond the limit of the evaluation script."""


class Grader:
    """Grades patches in sandboxes of one backend, any number at a time.

    Owns the process that parses logs, unless it is given one that its caller owns.
    """

    def __init__(self, backend: SandboxBackend, parser: SwebenchParser | None = None, *, twins: bool = True) -> None:
        """`twins`: are patches that pass the tests of their task also tried with the tests' contradictions?"""
        self._backend = backend
        self._runs_twins = twins
        self._parser = parser or SwebenchParser()
        self._owns_parser = parser is None
        self.layers = StartLayers(backend)
        """The layers that sandboxes of the backend start on; whoever else starts some shares them."""
        self._imports = ImportRecords()
        self._twins: KeptRecords[Twins] = KeptRecords("twins", Twins)
        self._sessions: KeptRecords[GoldSession] = KeptRecords("sessions", GoldSession)
        self._owned = AsyncExitStack()

    async def __aenter__(self) -> "Grader":
        if self._owns_parser:
            await self._owned.enter_async_context(self._parser)
        await self._owned.enter_async_context(self.layers)
        await self._owned.enter_async_context(self._imports)
        await self._owned.enter_async_context(self._twins)
        await self._owned.enter_async_context(self._sessions)
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._owned.aclose()

    @asynccontextmanager
    async def slot(
        self, record: TaskRecord, spec: SandboxSpec, *, max_log_bytes: int = 0
    ) -> AsyncIterator["GradeSlot"]:
        """Start a sandbox of `spec` in the background and hand out a slot that grades one patch for `record` in it.

        Returns at once; `grade` raises if the start failed. The sandbox is closed with the context. `max_log_bytes`
        bounds the slot's `kept_log`; with 0 it keeps none.
        """
        twins = partial(self.twins_of, record, spec) if self._runs_twins else None
        async with self._slot(record, spec, record, twins=twins, max_log_bytes=max_log_bytes) as slot:
            yield slot

    @asynccontextmanager
    async def _slot(
        self,
        record: TaskRecord,
        spec: SandboxSpec,
        original: TaskRecord,
        *,
        twins: Callable[[], Awaitable[Twins]] | None = None,
        session: Callable[[], Awaitable["GoldSession"]] | None = None,
        max_log_bytes: int = 0,
    ) -> AsyncIterator["GradeSlot"]:
        """A slot for `record`, which is `original` or its twin."""
        session = session or partial(self.session_of, original, spec)

        def choose(spec: SandboxSpec) -> Awaitable[SandboxSpec]:
            return self.layers.choose(spec, original, "grader")

        def another(key: AnswerKey) -> AbstractAsyncContextManager[GradeSlot]:
            return self._slot(original.model_copy(update={"key": key}), spec, original)

        async with PrestartedSandbox(self._backend, spec, choose) as sandbox:
            controls = Controls(partial(self._imports_of, original, spec), twins, session, another)
            yield GradeSlot(self._backend, self.layers, record, spec, sandbox, self._parser, controls, max_log_bytes)

    async def twins_of(self, record: TaskRecord, spec: SandboxSpec) -> Twins:
        """The twins of a task's tests that fail with its gold patch. A control of its own budget finds them out, once.

        Raises `InfrastructureError`.
        """
        why = why_no_twins(record.key)
        if why is not None:
            return Twins(why_not=dict.fromkeys(record.key.fail_to_pass, why))
        image = f"{self._backend.name} {await self._backend.image_digest(spec.image)}"
        script = await self._parser.script(record.key)
        more = (
            script,
            record.key.fail_to_pass,
            record.key.eval_type,
            record.key.log_parser,
            record.task.problem_statement,
            record.flaky,
            rules_digest(),
        )
        return await self._twins.kept(digest_of(image, record, *more), lambda: self._twin_control(record, spec))

    async def _twin_control(self, record: TaskRecord, spec: SandboxSpec) -> Twins:
        limit_s = record.key.timeout_s + CONTROL_EXTRA_S
        async with self._slot(record, spec, record) as slot:
            files = await slot.test_files(Deadline.after(limit_s))
        make = partial(make_twins, record.key, record.task.problem_statement, files, flaky=record.flaky)
        twins = await asyncio.to_thread(make)
        if not twins.usable:
            return twins
        gold = await self.gold_patch(record, spec, Deadline.after(CONTROL_EXTRA_S))

        async def with_gold(twin: Twin) -> Verdict:
            changed = record.model_copy(update={"key": twin_key(record.key, twin)})
            async with self._slot(changed, spec, record) as slot:
                return await slot.grade(gold, Deadline.after(limit_s))

        verdicts = [await with_gold(twin) for twin in twins.runs]
        if any(twin.names and is_spoiled(twin, said) for twin, said in zip(twins.runs, verdicts, strict=True)):
            twins = await asyncio.to_thread(make, with_more=False)
            verdicts = [await with_gold(twin) for twin in twins.runs]
        beside = twins.beside
        if beside is not None:
            said = await with_gold(beside)
            beside = None if is_spoiled(beside, said) else measured(beside, said)
        return measured_twins(twins, verdicts, beside)

    async def session_of(self, record: TaskRecord, spec: SandboxSpec) -> "GoldSession":
        """What the session of the tests leaves with the gold patch. A control of its own budget finds it out, once.

        Raises `InfrastructureError`.
        """
        image = f"{self._backend.name} {await self._backend.image_digest(spec.image)}"
        key, script = record.key, await self._parser.script(record.key)
        results = (key.fail_to_pass, key.pass_to_pass, key.eval_type, key.log_parser)
        name = digest_of(image, record, script, *results, script_text("witness.py"))
        return await self._sessions.kept(name, lambda: self._session_control(record, spec))

    async def _session_control(self, record: TaskRecord, spec: SandboxSpec) -> "GoldSession":
        async def unknown() -> GoldSession:
            return GoldSession(unwitnessed=False)

        if not record.key.has_gold:
            return await unknown()
        gold = await self.gold_patch(record, spec, Deadline.after(CONTROL_EXTRA_S))
        async with self._slot(record, spec, record, session=unknown) as slot:
            return await slot.session_with(gold, Deadline.after(record.key.timeout_s + CONTROL_EXTRA_S))

    async def _imports_of(self, record: TaskRecord, spec: SandboxSpec) -> ImportRecord:
        """What sessions of the task import: with the gold patch, and without a patch, for a runner imports more when
        tests fail. Controls of their own budget find it out, once."""

        async def session(patch: Delta | str) -> ImportRecord | None:
            async with self._slot(record, spec, record) as slot:
                return await slot.imports_with(patch, Deadline.after(record.key.timeout_s + CONTROL_EXTRA_S))

        async def control() -> ImportRecord:
            gold = await self.gold_patch(record, spec, Deadline.after(CONTROL_EXTRA_S))
            found = [await session(patch) for patch in ((gold, "") if gold else ("",))]
            return reduce(or_, (record for record in found if record is not None))

        image = f"{self._backend.name} {await self._backend.image_digest(spec.image)}"
        return await self._imports.of(image, record, await self._parser.script(record.key), control)

    async def gold_patch(self, record: TaskRecord, spec: SandboxSpec, deadline: Deadline) -> Delta | str:
        """The gold patch of a task; where it has a gold command instead, what that changes in a sandbox of `spec`."""
        if record.key.gold_command:
            spec = await self.layers.choose(spec, record, "agent")
        return await gold_patch(self._backend, record, spec, deadline)

    async def gold_delta(self, record: TaskRecord, spec: SandboxSpec, deadline: Deadline) -> Delta:
        """What the gold patch of a task changes; raises `GraderError` where it does not apply, and as `gold_patch`."""
        patch = await self.gold_patch(record, spec, deadline)
        if isinstance(patch, Delta):
            return patch
        async with self.slot(record, spec) as slot:
            delta = await slot.apply(patch, deadline)
        if isinstance(delta, NotApplied):
            raise GraderError(f"the gold patch of {record.task.id} does not apply: {delta.why[-500:]}")
        return delta

    async def check(self, record: TaskRecord) -> tuple[str, ...]:
        """What keeps a task from being graded by the installed swebench, one sentence each; empty for a sound task."""
        return await self._parser.check(record.key)


class GoldSession(Frozen):
    """What the session of a task's tests leaves with the gold patch."""

    unwitnessed: bool
    """Did a session take the witness's key, pass the tests by the log, and leave no record of them? So a runner does
    that replaces its process, or one out of the witness's reach behind another that is not."""


@dataclass(frozen=True)
class Controls:
    """What a slot may ask for beside its own sandbox."""

    imports: Callable[[], Awaitable[ImportRecord]]
    """What sessions of the task import."""
    twins: Callable[[], Awaitable[Twins]] | None
    """The twins of its tests; None: they are not run."""
    session: Callable[[], Awaitable[GoldSession]]
    """What the session of its tests leaves with the gold patch."""
    another: Callable[[AnswerKey], AbstractAsyncContextManager["GradeSlot"]]
    """Opens another slot of the task with another key, which runs no twins."""


class GradeSlot:
    """A fresh sandbox with the answer key of its task. It grades one patch."""

    def __init__(
        self,
        backend: SandboxBackend,
        layers: StartLayers,
        record: TaskRecord,
        spec: SandboxSpec,
        sandbox: PrestartedSandbox,
        parser: SwebenchParser,
        controls: Controls,
        max_log_bytes: int,
    ) -> None:
        self.kept_log = b""
        """The log of the evaluation as `kept_log.pack_log` packs it; empty if there was none, or none is kept."""
        self._max_log_bytes = max_log_bytes
        self._backend = backend
        self._controls = controls
        self._recorder: ImportRecorder | None = None
        self._recorded: ImportRecord | None = None
        self._layers = layers
        self._record = record
        self._key = record.key
        self._spec = spec
        self._workdir = spec.workdir
        self._sandbox = sandbox
        self._parser = parser
        self._is_prepared = False
        self._name_rule: NameRule | None = None
        self._undecided: tuple[EvaluationEnd, LogReading] | None = None
        self._used = False

    async def sandbox(self) -> Sandbox:
        """The slot's sandbox as soon as it has started, for measurements; raises what its start raised."""
        return await self._sandbox.ready()

    async def delta(self, work: CapturedWork) -> Delta:
        """What `work` changes, against the files of this slot's sandbox, which no agent has touched.

        Another slot of the same task may grade it. Raises `GraderError`, `InfrastructureError`, `SandboxDead`,
        `StartError`.
        """
        if work.empty:
            return Delta(left_out=work.left_out, why_empty=work.why_empty)
        return await delta_of(work, await self._prepared(PREPARE_TIMEOUT_S), self._workdir)

    async def apply(self, patch: str, deadline: Deadline) -> Delta | NotApplied:
        """What a foreign patch changes, or why it does not apply, found out in scratch sandboxes. Raises as `grade`
        does."""
        return await _bounded(self._delta_of_foreign(patch, deadline), deadline)

    async def grade(self, patch: Delta | NotApplied | str, deadline: Deadline, *, twins: bool = True) -> Verdict:
        """Clean, apply and evaluate a patch; if it passes the tests, also with their twins, unless `twins` or the
        grader's own is off.

        Text is a foreign patch: `apply` comes first, and what it changes is graded. A patch that is empty after
        cleaning, one that does not apply, and tests that hang are verdicts. Infrastructure failures
        raise `GraderError` (also when `deadline` passes first), `SandboxDead`, `StartError`, what `judge_names` raises,
        or, where this host has no space or no processes left, `InfrastructureError`. The deadline does not count while
        controls run, nor for twins, each evaluation of which gets as much time as this one.
        """
        self._use()
        started_s, limit_s = deadline.clock(), deadline.remaining_s()
        delta = await self.apply(patch, deadline) if isinstance(patch, str) else patch
        if isinstance(delta, NotApplied):
            verdict = _not_applied(CleanDelta(), delta.why)
            return verdict.model_copy(update={"wall_s": deadline.clock() - started_s})
        began_s = deadline.clock()
        await self.judge_names(delta)
        spent_s = deadline.clock() - began_s
        verdict = await _bounded(self._verdict_on(delta, deadline.postponed(spent_s)), deadline.postponed(spent_s))
        began_s = deadline.clock()
        verdict = await self._decided(verdict)
        spent_s += deadline.clock() - began_s
        if twins and verdict.resolved and self._controls.twins is not None:
            verdict = await self._judged_by_twins(delta, verdict, limit_s)
        return verdict.model_copy(update={"wall_s": deadline.clock() - started_s - spent_s})

    async def session_with(self, gold: Delta | str, deadline: Deadline) -> GoldSession:
        """What the session leaves with the gold patch. Raises as `grade` does, and `GraderError` where the session does
        not end."""
        verdict = await self.grade(gold, deadline)
        if verdict.timed_out:
            raise GraderError("the tests do not end with the gold patch")
        return GoldSession(unwitnessed=self._undecided is not None and verdict.official_resolved is True)

    async def _decided(self, verdict: Verdict) -> Verdict:
        """The verdict, by the log if the session of the gold patch leaves no record either. Raises `ControlFailed`."""
        if self._undecided is None:
            return verdict
        try:
            session = await self._controls.session()
        except InfrastructureError as error:
            what = "it is not known what the session of the gold patch leaves"
            raise ControlFailed(f"{what}: {type(error).__name__}: {error}") from error
        if not session.unwitnessed:
            return verdict
        end, reading = self._undecided
        end = end.model_copy(update={"unwitnessed": True})
        verdict = conclude(self._key, end, reading)
        if self.kept_log:
            self.kept_log = await asyncio.to_thread(with_end, self.kept_log, end, verdict.integrity)
        return verdict

    async def _judged_by_twins(self, delta: Delta, verdict: Verdict, limit_s: float) -> Verdict:
        assert self._controls.twins is not None
        try:
            twins = await self._controls.twins()
        except InfrastructureError as error:
            raise ControlFailed(f"the twins of the tests are not known: {type(error).__name__}: {error}") from error

        async def run(key: AnswerKey) -> Verdict:
            async with self._controls.another(key) as slot:
                slot._name_rule = self._name_rule
                await slot.sandbox()
                return await slot.grade(delta, Deadline.after(limit_s))

        return await judged_by_twins(verdict, self._key, twins, run) if twins.usable else verdict

    async def test_files(self, deadline: Deadline) -> dict[str, bytes]:
        """The test files of the task as they are when its tests start, with nothing of a patch there. Raises as `grade`
        does."""
        self._use()
        return await _bounded(self._read_test_files(deadline), deadline)

    async def _read_test_files(self, deadline: Deadline) -> dict[str, bytes]:
        script = await self._parser.script(self._key)
        sandbox = await self._prepared(deadline.within(PREPARE_TIMEOUT_S).remaining_s())
        for path, content in self._key.files.items():
            await put_file(sandbox, path, content)
        limit_s = deadline.within(self._key.timeout_s).remaining_s()
        return await read_test_files(sandbox, self._key, script, self._workdir, GRADING_ENV, limit_s)

    async def judge_names(self, delta: Delta) -> None:
        """Find out which new names of a delta are refused; `grade` does it if nobody has. Nothing of the delta is in
        the sandbox yet.

        The first time for a task it may run a control, whose limits are its own. Raises `ControlFailed`.
        """
        if self._name_rule is None:
            try:
                self._name_rule = await self._measured_rule(delta)
            except InfrastructureError as error:
                raise ControlFailed(f"the rule for new names is not known: {type(error).__name__}: {error}") from error

    async def grade_untouched(self, deadline: Deadline) -> Verdict:
        """Evaluate the repository as it is: what a task's tests say when nothing was done. Raises as `grade` does."""
        self._use()
        started_s = time.monotonic()
        verdict = await self._decided(await _bounded(self._run_tests(CleanDelta(), deadline), deadline))
        return verdict.model_copy(update={"wall_s": time.monotonic() - started_s})

    async def imports_with(self, patch: Delta | str, deadline: Deadline) -> ImportRecord | None:
        """What the session imports in an evaluation of the gold patch, or of the untouched tree if that is empty.

        None if the patch does not apply. Raises as `grade` does.
        """
        self._recorder = ImportRecorder()
        await (self.grade(patch, deadline) if patch else self.grade_untouched(deadline))
        return self._recorded

    def _use(self) -> None:
        if self._used:
            raise GraderError("a slot grades one patch, and its sandbox has been used: open another slot")
        self._used = True

    async def _delta_of_foreign(self, patch: str, deadline: Deadline) -> Delta | NotApplied:
        if not patch.strip():
            return NotApplied("the patch is empty")
        spec = await self._layers.choose(self._spec, self._record, "grader")
        work = await apply_foreign(self._backend, self._record, spec, patch, deadline)
        return work if isinstance(work, NotApplied) else await self.delta(work)

    async def _verdict_on(self, delta: Delta, deadline: Deadline) -> Verdict:
        assert self._name_rule is not None
        clean = clean_delta(delta, self._key, self._name_rule, self._files_inside(), self._workdir)
        if not clean.accepted:
            return _not_applied(clean, delta.why_empty or "the patch is empty")
        return await self._run_tests(clean, deadline)

    async def _measured_rule(self, delta: Delta) -> NameRule:
        if self._recorder is not None:
            return lambda path: None
        if all(change.old is not None for change in delta.changes):
            return shadows
        sandbox = await self._prepared(PREPARE_TIMEOUT_S)
        return await measured_rule(delta, self._key, sandbox, self._workdir, self._controls.imports)

    def _files_inside(self, files: Mapping[str, bytes] | None = None) -> dict[str, bytes]:
        """Files that lie in the work tree, by their path in it; those of the answer key if none are given."""
        root = f"{self._workdir.rstrip('/')}/"
        given = (self._key.files if files is None else files).items()
        return {path.removeprefix(root): content for path, content in given if path.startswith(root)}

    async def _prepared(self, timeout_s: float) -> Sandbox:
        """The sandbox, with the repository that patches are made against; a shell has answered in it."""
        sandbox = await self._sandbox.ready()
        if not self._is_prepared:
            answer = await sandbox.run("exec bash -c true", timeout_s=_HANDSHAKE_S, cwd="/")
            if answer.exit_code != 0:
                raise GraderError(f"no shell starts in the sandbox: {answer.output.strip()[:500]}")
            await prepare_for_grading(sandbox, self._record, self._workdir, timeout_s)
            self._is_prepared = True
        return sandbox

    async def _run_tests(self, clean: CleanDelta, deadline: Deadline) -> Verdict:
        plain = script = await self._parser.script(self._key)
        sandbox = await self._prepared(deadline.within(PREPARE_TIMEOUT_S).remaining_s())
        # Test files of the image are written again, so that their twins, which are, look no different.
        files = {**await read_image_files(sandbox, self._key, self._workdir), **self._key.files}
        inside = self._files_inside(files)
        # Before the patch: nothing of it can stand in their way.
        for path, content in files.items():
            if path.removeprefix(f"{self._workdir.rstrip('/')}/") not in inside:
                await put_file(sandbox, path, content)
        if clean.accepted or inside:
            before = await sandbox.list_tree(self._workdir)
            test_patch = self._key.test_patch if clean.accepted else ""
            wanted = wanted_state(clean.accepted, before, test_patch, inside)
            await write_state(sandbox, self._workdir, before, wanted)
        if self._recorder is not None:
            script = await self._recorder.install(sandbox, self._workdir, script)
        if results_from(self._key.eval_type) == "reward file":
            await remove_rewards(sandbox)
        with scratch_directory("log") as directory:
            limit_s = self._key.timeout_s
            evaluation = await evaluate(
                sandbox, script, self._workdir, limit_s, deadline, directory, with_witness=witnessed(self._key)
            )
            if self._recorder is not None:
                self._recorded = await self._recorder.read(sandbox)
            return await self._concluded(clean, evaluation, plain, sandbox)

    async def _concluded(self, clean: CleanDelta, evaluation: Evaluation, script: str, sandbox: Sandbox) -> Verdict:
        """The verdict on an evaluation, whose log is kept even where its reading fails."""
        result, reading, verdict = evaluation.result, None, None
        end = EvaluationEnd(
            exit_code=result.exit_code,
            timed_out=result.timed_out,
            killed_for=result.killed_for,
            wall_s=result.wall_s,
            starved_s=result.starved_s,
            cpu_s=result.cpu_s,
            tail=result.output[-LOG_TAIL_CHARS:],
            refused=clean.refused,
            hygiene=clean.integrity,
        )
        try:
            if evaluation.log is not None:
                reading = await self._parser.read(self._key, evaluation.log, with_results=not result.timed_out)
            if wants_rewards(self._key, reading):
                end = end.model_copy(update={"rewards": await read_rewards(sandbox)})
            verdict = conclude(self._key, end, reading)
            if reading is not None and reading.undecided:
                self._undecided = end, reading
            return verdict
        finally:
            if self._max_log_bytes:
                await self._keep(script, evaluation.log, end, verdict.integrity if verdict else None)

    async def _keep(
        self, script: str, log: LogFile | None, end: EvaluationEnd, evidence: tuple[str, ...] | None
    ) -> None:
        try:
            self.kept_log = await asyncio.to_thread(
                pack_log, self._record, script, log, end, evidence, self._max_log_bytes
            )
        except OSError as error:
            raise HostFailed(f"the log of an evaluation cannot be kept: {error.strerror}") from error


async def _bounded(grading: Coroutine[Any, Any, T], deadline: Deadline) -> T:
    """What `grading` returns; raises `GraderError` when the deadline passes first."""
    started_s = time.monotonic()
    try:
        async with asyncio.timeout(deadline.remaining_s()):
            return await grading
    except TimeoutError:
        raise GraderError(f"no verdict after {time.monotonic() - started_s:.0f} s, when the deadline passed") from None


def _not_applied(clean: CleanDelta, why: str) -> Verdict:
    """The verdict on a patch that was not evaluated. Where nothing of it was refused, swebench would not resolve it."""
    return Verdict(
        resolved=False,
        official_resolved=None if clean.refused else False,
        patch_applied=False,
        stripped_files=clean.refused,
        integrity=clean.integrity,
        log_tail=why[-LOG_TAIL_CHARS:],
    )
