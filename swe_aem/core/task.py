"""`Task`: what an agent may see. `AnswerKey`: what only the grader may see. Two types: no code path can mix them."""

from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, PrivateAttr

from swe_aem.core.base import Frozen


class Task(Frozen):
    """One problem in one repository, without anything that gives its solution away."""

    id: str
    repo: str
    """`owner/name`."""
    base_commit: str
    """The commit that the task starts from; empty where the data set names none: then what the image has is it."""
    problem_statement: str
    image: str
    """Image reference (docker), or the name of an unpacked root file system (bubblewrap)."""
    workdir: str = "/testbed"
    network: Literal["none", "blackhole"] = "none"
    """`none`: loopback only. `blackhole`: packets leave and are swallowed, which some test suites need."""


class AnswerKey(Frozen):
    """How a task is graded and what solves it. Never serialised into a sandbox before the agent's is gone."""

    model_config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")

    task_id: str
    repo: str
    version: str
    gold_patch: str
    """Empty if there is a `gold_command`."""
    test_patch: str
    eval_script: str
    log_parser: str
    """The name of a parser in `swe_aem.tasks.families.log_parsers`, e.g. `parse_log_pytest`, or of a `LogParser` that
    the task's family brings, as `package.module:object` or `file.py:object`."""
    eval_type: str
    """How results become a verdict: `pass_and_fail` or `fail_only` (swebench's EvalType), `exact_map` (R2E-Gym: every
    test of `expected` and no other, each with that status), `reward_file` (Harbor: what the tests wrote)."""
    fail_to_pass: tuple[str, ...]
    pass_to_pass: tuple[str, ...]
    timeout_s: float = 1800.0
    """Limit of the evaluation script, in seconds."""
    expected: dict[str, str] = {}
    """For `exact_map`: test name to status, in swebench's words."""
    setup_patch: str = ""
    """What turns the image's repository into the one that the task starts from, where the image has another (for
    SWE-smith: the bug). Applied before an agent sees the repository, and before grading."""
    hidden: tuple[str, ...] = ()
    """Paths that no agent may see: absolute, or relative to the working directory if they are below it."""
    gold_files: dict[str, bytes] = {}
    """Absolute path to content: what `gold_command` needs."""
    gold_command: str = ""
    """What solves the task, where its data set has a script and no patch (Harbor). Run in an agent's sandbox."""
    files: dict[str, bytes] = {}
    """Absolute path to content: what is put into the grading sandbox once the patch is applied. Base64 in JSON."""

    @property
    def has_gold(self) -> bool:
        """Does the data set have something that solves the task?"""
        return bool(self.gold_patch.strip() or self.gold_command)


class TaskRecord(Frozen):
    """A task and its answer key, as a reader yields them."""

    task: Task
    key: AnswerKey
    split: str | None = None
    weight: float = 1.0
    """What its trajectories count in training, 0..1; below 1 for a task whose tests preflight found flaky."""
    flaky: tuple[str, ...] = ()
    """Its tests whose results differed between equal runs of preflight, as a lock says; they get no twins."""
    repository: Path | None = None
    """The git repository of this host whose `base_commit` is the working tree; None if the image has the tree, or the
    set's packages have."""
    _origin: Any = PrivateAttr(default=None)
    """The set that it was loaded from, without records (`TaskSet.of` makes a set of it again). Copies keep it."""

    def __eq__(self, other: object) -> bool:
        """Same task, key, split and weight, wherever they were loaded from."""
        return isinstance(other, TaskRecord) and dict(self) == dict(other)
