"""Tests that samples wrote, run against the program as other samples left it.

A test file counts if it passes on its own author's program: others are unfinished, or the author's change is. The score
of a sample is the share of the other samples' files that count which pass on its program.
"""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from swe_aem.core import SandboxBackend, TaskRecord
from swe_aem.grading import StartLayers, apply_text, prepare_for_agent
from swe_aem.rollout import RolloutConfig
from swe_aem.rollout.budget import sandbox_spec
from swe_aem.selection.answers import digest_of
from swe_aem.selection.candidates import Candidate
from swe_aem.selection.config import SelectConfig

_APPLY_S = 120.0
_RUN = "select"
"""Stands for the run in the labels of these sandboxes."""


class Trial(NamedTuple):
    """The tests of one sample on the program of another; equal ones are one."""

    task_id: str
    code: str
    tests: str
    test_files: tuple[str, ...]

    def key(self, config: SelectConfig, task_digest: str) -> str:
        """The key of its answer."""
        return digest_of("tests", task_digest, *self, config.test_command, config.test_limit_s)


def trial(author: Candidate, program: Candidate) -> Trial | None:
    """What has to be run; None where the author wrote no tests."""
    if not author.patch.test_files:
        return None
    return Trial(author.task_id, program.patch.code, author.patch.tests, author.patch.test_files)


def trials(candidates: Sequence[Candidate]) -> list[Trial]:
    """Every trial of a task, each once."""
    every = [trial(author, program) for author in candidates for program in candidates]
    return list(dict.fromkeys(one for one in every if one is not None))


@dataclass(frozen=True)
class TrialSandboxes:
    """Runs trials, each in a sandbox of its own, which is the one that an agent gets."""

    backend: SandboxBackend
    layers: StartLayers
    rollout: RolloutConfig
    config: SelectConfig

    async def run(self, record: TaskRecord, one: Trial, workspace: Path | None) -> list[str]:
        """The test files that pass; none where the two changes do not apply together. Raises `InfrastructureError`."""
        spec = sandbox_spec(self.rollout, record, 0, run=_RUN, role="agent", workspace=workspace)
        spec = await self.layers.choose(spec, record, "agent")
        async with self.backend.open(spec) as sandbox:
            await prepare_for_agent(sandbox, record)
            if await apply_text(sandbox, spec.workdir, one.code + one.tests, _APPLY_S) is not None:
                return []
            passed = []
            for file in one.test_files:
                command = self.config.test_command.replace("{}", shlex.quote(file))
                done = await sandbox.run(command, timeout_s=self.config.test_limit_s, cwd=spec.workdir)
                await sandbox.settle()
                if done.exit_code == 0 and not done.timed_out:
                    passed.append(file)
            return passed


@dataclass(frozen=True)
class ByTests:
    """Scores samples by the tests of the others."""

    passed: Mapping[Trial, frozenset[str]]
    """The files that passed in each trial. Tasks with a trial that is not here cannot be scored."""
    name: str = field(default="tests", init=False)

    def knows(self, among: Sequence[Candidate]) -> bool:
        """Has every trial been run?"""
        return all(one in self.passed for one in trials(among))

    def scores(self, among: Sequence[Candidate]) -> dict[int, float]:
        """The score of each sample, judged by the tests of these alone."""
        return {one.sample: self._score(one, among) for one in among}

    def _score(self, program: Candidate, among: Sequence[Candidate]) -> float:
        passed = counted = 0
        for author in among:
            own, here = trial(author, author), trial(author, program)
            if author.sample == program.sample or own is None or here is None:
                continue
            counts = self.passed[own]
            passed += len(counts & self.passed[here])
            counted += len(counts)
        return passed / counted if counted else 0.0
