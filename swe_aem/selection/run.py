"""`Selection`: asks for everything that the ways of a selection need, and keeps each answer as it comes.

    DIR/answers.jsonl            what test runs and the verifier said
    DIR/predictions-<way>.json   what the way chose, as the SWE-bench harness reads it

A rerun asks for what is missing. Hidden tests take no part: verdicts are read when what was chosen is reported.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from pathlib import Path
from typing import NamedTuple

from swe_aem.core import Outcome, SandboxBackend, TaskRecord
from swe_aem.core.settings import check
from swe_aem.errors import InfrastructureError, UserError
from swe_aem.grading import StartLayers
from swe_aem.policy import is_server, open_policy_factory
from swe_aem.reward import REWARDS, Rewards, terms_of
from swe_aem.rollout import Manifest, RolloutConfig
from swe_aem.rollout.components import turn_renderer
from swe_aem.sandbox import open_backend
from swe_aem.selection.agent_tests import ByTests, Trial, TrialSandboxes, trials
from swe_aem.selection.answers import Answers, digest_of, opened
from swe_aem.selection.best import ByMajority, ByScore, Way, choose
from swe_aem.selection.candidates import Candidate, Candidates
from swe_aem.selection.config import SelectConfig
from swe_aem.selection.verifier import UNDECIDED, ask, messages_about
from swe_aem.store import locked, replace
from swe_aem.tasks import TaskSet

_ATTEMPTS = 3
_OF_THE_VERDICT = ("resolved", "fraction", "graded", "turn_cost")
"""Built-in rewards that pay for what the hidden tests said."""


class Unanswered(NamedTuple):
    """A question that infrastructure kept from an answer."""

    about: str
    why: str


class Selection:
    """One selection into one directory. Use once."""

    def __init__(
        self,
        config: SelectConfig,
        rollout: RolloutConfig,
        manifest: Manifest,
        candidates: Candidates,
        tasks: TaskSet,
        directory: Path,
        *,
        backend: SandboxBackend | None = None,
        tell: Callable[[str], None] = lambda text: None,
    ) -> None:
        """`rollout` says which sandboxes trials get, as the store's run had them, and `manifest` what its tasks were.
        Raises `UserError` for a reward that pays for the verdict, and for a verifier that is no policy."""
        self._config, self._rollout, self._manifest = config, rollout, manifest
        self._candidates, self._directory, self._backend, self._tell = candidates, directory, backend, tell
        self._tasks = tasks
        self._records = {record.task.id: record for record in tasks}
        self._slots = asyncio.Semaphore(config.workers)
        self._rewards = None if config.reward is None else _rewards(config.reward)
        self._verifier = None if config.verifier is None else _verifier(config)
        self.unanswered: list[Unanswered] = []
        """What a rerun asks for again."""

    async def run(self) -> list[Way]:
        """Ask what is not known yet, and write the predictions of each way. Returns the ways, in their order."""
        self._directory.mkdir(parents=True, exist_ok=True)
        with locked(self._directory), opened(self._directory) as answers:
            ways = [await self._way(name, answers) for name in self._config.ways]
            for way in ways:
                self._write(way)
            self._tell(f"{answers.asked} questions were asked, the answers are in {self._directory}")
        return ways

    async def _way(self, name: str, answers: Answers) -> Way:
        match name:
            case "tests":
                return await self._by_tests(answers)
            case "majority":
                return ByMajority()
            case "verifier":
                return await self._by_verifier(answers)
            case _:
                return await self._by_reward()

    # -- the tests that samples wrote ----------------------------------------------------------------------------------

    async def _by_tests(self, answers: Answers) -> ByTests:
        every = [one for many in self._candidates.tasks.values() for one in trials(many)]
        missing = [one for one in every if self._key(one) not in answers]
        authors = sum(bool(one.patch.test_files) for many in self._candidates.tasks.values() for one in many)
        self._tell(f"tests: {authors} samples wrote some; {len(missing)} of {len(every)} trials are still to be run")
        if missing:
            lent = open_backend(self._rollout.sandbox) if self._backend is None else _lent(self._backend)
            async with lent as backend, StartLayers(backend) as layers:
                sandboxes = TrialSandboxes(backend, layers, self._rollout, self._config)
                await self._all([self._trial(one, sandboxes, answers) for one in missing])
        found = {one: frozenset(answers[key]) for one in every if (key := self._key(one)) in answers}
        return ByTests(found)

    async def _trial(self, one: Trial, sandboxes: TrialSandboxes, answers: Answers) -> None:
        record = self._record(one.task_id)
        workspace = await asyncio.to_thread(self._tasks.workspace, one.task_id)

        async def run() -> None:
            answers.add(self._key(one), "tests", await sandboxes.run(record, one, workspace))

        await self._asked(f"tests on {one.task_id}", run)

    def _key(self, one: Trial) -> str:
        return one.key(self._config, self._manifest.tasks.get(one.task_id, ""))

    # -- a verifier ----------------------------------------------------------------------------------------------------

    async def _by_verifier(self, answers: Answers) -> ByScore:
        wanted = [
            (one, number, self._question(one, number))
            for many in self._candidates.tasks.values()
            for one in many
            if not one.patch.empty
            for number in range(self._config.verifier_samples)
        ]
        missing = [(one, number, key) for one, number, key in wanted if key not in answers]
        self._tell(f"verifier: {len(missing)} of {len(wanted)} questions are still to be asked")
        if missing:
            assert self._verifier is not None
            renderer = turn_renderer(self._verifier)
            async with open_policy_factory(self._verifier.policy, renderer) as policies:

                async def one_answer(one: Candidate, number: int, key: str) -> None:
                    record = self._record(one.task_id)

                    async def run() -> None:
                        policy = policies(record, one.sample)
                        score = await ask(policy, renderer, record.task, one, number, self._config)
                        answers.add(key, "verifier", score)

                    await self._asked(f"the verifier on {one.key}", run)

                await self._all([one_answer(*question) for question in missing])
        known = {}
        for many in self._candidates.tasks.values():
            for one in many:
                keys = [self._question(one, number) for number in range(self._config.verifier_samples)]
                if one.patch.empty:
                    known[one.key] = 0.0
                elif all(key in answers for key in keys):
                    known[one.key] = sum(answers[key] for key in keys) / len(keys)
        undecided = sum(key in answers and answers[key] == UNDECIDED for _, _, key in wanted)
        if undecided:
            self._tell(f"verifier: {undecided} of {len(wanted)} answers are neither YES nor NO")
        return ByScore("verifier", known)

    def _question(self, one: Candidate, number: int) -> str:
        config = self._config
        asked = messages_about(self._record(one.task_id).task, one)
        return digest_of("verifier", config.verifier, config.verifier_tokenizer, config.verifier_tokens, asked, number)

    # -- a reward function ---------------------------------------------------------------------------------------------

    async def _by_reward(self) -> ByScore:
        assert self._rewards is not None
        known = {}
        for many in self._candidates.tasks.values():
            for one in many:
                stored = self._candidates.store.load(self._candidates.rows[one.key])
                blind = {"verdict": None, "outcome": Outcome.UNRESOLVED, "error": None}
                paid = await self._rewards.give(stored.model_copy(update=blind))
                known[one.key] = paid.reward or 0.0
        return ByScore("reward", known)

    # -- asking --------------------------------------------------------------------------------------------------------

    async def _all(self, questions: Sequence[Awaitable[None]]) -> None:
        async with asyncio.TaskGroup() as group:
            for one in questions:
                group.create_task(_awaited(one))

    async def _asked(self, about: str, run: Callable[[], Awaitable[None]]) -> None:
        """Ask, and again where infrastructure fails; in the end the question stays open."""
        why = ""
        for _ in range(_ATTEMPTS):
            try:
                async with self._slots:
                    await run()
                return
            except InfrastructureError as error:
                why = f"{type(error).__name__}: {error}"
        self._tell(f"{about}: no answer, {why}")
        self.unanswered.append(Unanswered(about, why))

    def _record(self, task_id: str) -> TaskRecord:
        record = self._records.get(task_id)
        if record is None:
            raise UserError(
                f"task {task_id} of the store is not in {self._tasks.name}: bring the task set of its rollout back"
            )
        return record

    def _write(self, way: Way) -> None:
        rows = {
            one.task_id: {
                "model_name_or_path": one.model,
                "instance_id": one.task_id,
                "model_patch": one.patch.text,
            }
            for one in chosen(way, self._candidates)
        }
        replace(self._directory / f"predictions-{way.name}.json", json.dumps(rows, indent=2) + "\n")


def chosen(way: Way, candidates: Candidates) -> Iterator[Candidate]:
    """What a way chooses of each task whose scores are known."""
    return (choose(way, many) for many in candidates.tasks.values() if way.knows(many))


async def _awaited(one: Awaitable[None]) -> None:
    await one


def _lent(backend: SandboxBackend) -> AbstractAsyncContextManager[SandboxBackend]:
    return nullcontext(backend)


def _rewards(setting: "str | dict[str, object]") -> Rewards:
    names = [REWARDS.name_of(term.setting) for term in terms_of(setting)]
    told = [name for name in names if name in _OF_THE_VERDICT]
    if told:
        raise UserError(
            f"reward {told[0]} pays for what the hidden tests said, which no choice may know: name a function of the "
            "trajectory, such as format or file.py:object"
        )
    return Rewards(setting)


def _verifier(config: SelectConfig) -> RolloutConfig:
    """The settings by which a rollout would open the verifier's policy."""
    if is_server(config.verifier or "") and config.verifier_tokenizer is None:
        raise UserError("the verifier is behind a URL: give --verifier-tokenizer, the directory of its model")
    values = {"tasks": "none", "policy": config.verifier}
    if config.verifier_tokenizer is not None:
        values["tokenizer"] = config.verifier_tokenizer
    return check(RolloutConfig, values, where="verifier")
