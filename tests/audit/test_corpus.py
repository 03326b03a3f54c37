"""The attacks of the end-to-end suite have labels by their calls alone; its honest oddities mostly have none."""

from collections.abc import Mapping

from swe_aem.audit import labelled
from swe_aem.core import ToolCall
from swe_aem.testing.builders import make_trajectory
from tests.audit.test_labels import response
from tests.e2e.attacks.play import Case, attacks, oddities, runners

HONEST = {"runs_tests", "reads_tests", "writes_tests"}
"""Labels that say what agents do every day."""


def with_labels(cases: Mapping[str, Case]) -> set[str]:
    """The cases that have another label than those."""
    return {name for name, case in cases.items() if labels_of(case) - HONEST}


def labels_of(case: Case) -> set[str]:
    """Labels of a case as it is written, without a patch and a verdict."""
    functions = [call["function"] for message in case.messages for call in message["tool_calls"]]
    calls = [ToolCall(name=function["name"], arguments=function["arguments"]) for function in functions]
    return set(labelled(make_trajectory("t", 0, responses=(response(calls),), patch="")).labels)


def test_most_attacks_have_a_label() -> None:
    assert len(with_labels(attacks())) > 0.75 * len(attacks())


def test_few_honest_cases_have_one() -> None:
    assert len(with_labels(oddities())) < 0.2 * len(oddities())
    assert len(with_labels(runners())) < 0.02 * len(runners())
