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
    """Are the results compared with the rest of the log? Not where the log names the failed tests alone."""
    own: bool = False
    """A rule of this project; the others are swebench's."""


EVAL_TYPES = {
    kind.name: kind
    for kind in (
        EvalType("pass_and_fail", results="log", contradictions=True),
        EvalType("fail_only", results="log", contradictions=False),
        EvalType("exact_map", results="log", contradictions=True, own=True),
        EvalType("reward_file", results="reward file", contradictions=False, own=True),
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
