"""The ways in which results become a verdict (`AnswerKey.eval_type`), and what grading does differently for each."""

from dataclasses import dataclass
from typing import Literal

from swe_aem.errors import GraderError

Results = Literal["log", "reward file"]


@dataclass(frozen=True)
class EvalType:
    """One way in which results become a verdict."""

    name: str
    results: Results
    """Where the results of the tests are read from."""
    contradictions: bool
    """Are results of a log compared with the rest of it? Not where the log names the failed tests alone."""
    records: bool
    """Do signed records of the runner decide, where there are any? Not where a test without a result counts as passed,
    or where results are not those of a runner."""
    own: bool = False
    """A rule of this project; the others are swebench's."""


EVAL_TYPES = {
    kind.name: kind
    for kind in (
        EvalType("pass_and_fail", results="log", contradictions=True, records=True),
        EvalType("fail_only", results="log", contradictions=False, records=False),
        EvalType("exact_map", results="log", contradictions=True, records=True, own=True),
        EvalType("reward_file", results="reward file", contradictions=False, records=False, own=True),
    )
}


def eval_type(name: str) -> EvalType:
    """The eval type of that name; raises `GraderError` if there is none."""
    if name not in EVAL_TYPES:
        raise GraderError(f"there is no eval_type {name!r}; there are {', '.join(EVAL_TYPES)}")
    return EVAL_TYPES[name]


def results_from(name: str) -> Results:
    """Where the results of an eval type are read from; raises `GraderError` for an unknown one."""
    return eval_type(name).results
