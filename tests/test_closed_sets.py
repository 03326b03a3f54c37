"""Settings with a closed set of values: each value has its own implementation, and any other value is an error."""

import re
from typing import Any, get_args

import pytest

from swe_aem.advantage.config import NO_IMPORTANCE_SAMPLING
from swe_aem.core import OUTCOME_TABLE, Outcome, TestStatus
from swe_aem.errors import GraderError
from swe_aem.grading.eval_types import EVAL_TYPES, results_from
from swe_aem.grading.integrity import contradictions, has_summary
from swe_aem.sandbox.isolation import LAUNCHERS, Launcher
from swe_aem.sandbox.warden import is_blackhole
from swe_aem.tasks.decontaminate import Contamination
from swe_aem.tasks.families import swebench
from swe_aem.tasks.families.script import evaluation_script
from swe_aem.tasks.families.specs_file import RepoSpec
from swe_aem.tasks.lock import LOCK_RULES, LockPolicy
from swe_aem.testing.builders import make_record, make_trajectory
from swe_aem.train.training_row import baseline_reward
from swe_aem.view.site import STATIC

UNKNOWN: Any = "something new"


@pytest.mark.parametrize(
    ("values", "registry"),
    [
        pytest.param(Launcher, LAUNCHERS, id="launchers"),
        pytest.param(LockPolicy, LOCK_RULES, id="lock policies"),
    ],
)
def test_every_value_is_in_its_registry(values: object, registry: dict[Any, Any]) -> None:
    assert set(get_args(values)) == set(registry)


def test_every_outcome_has_a_rule_and_a_colour() -> None:
    assert set(OUTCOME_TABLE) == set(Outcome)
    styles = (STATIC / "style.css").read_text()
    classes = re.findall(r"\.outcome-(\w+) \{ --outcome: var\(--outcome-\1\); \}", styles)
    assert set(classes) == set(Outcome)
    assert {name for name in Outcome if f"--outcome-{name}: #" not in styles} == set()


@pytest.mark.parametrize(
    "use",
    [
        pytest.param(lambda: is_blackhole(UNKNOWN), id="network"),
        pytest.param(lambda: has_summary(UNKNOWN, ""), id="runner of a log"),
        pytest.param(
            lambda: evaluation_script(RepoSpec(test_cmd="RUN").model_copy(update={"select": UNKNOWN}), "c", ""),
            id="selection of tests",
        ),
        pytest.param(
            lambda: str(Contamination(task_id="t", kind="same text", other="o").model_copy(update={"kind": UNKNOWN})),
            id="contamination",
        ),
        pytest.param(lambda: baseline_reward(make_trajectory("t", 0), UNKNOWN), id="reward of a limit"),
    ],
)
def test_a_value_without_an_implementation_falls_into_no_branch(use: Any) -> None:
    with pytest.raises(AssertionError, match="something new"):
        use()


def test_an_unknown_mode_of_importance_sampling_weighs_nothing() -> None:
    torch = pytest.importorskip("torch", reason="needs the transformers extra")
    from swe_aem.advantage.importance import importance_weights

    config = NO_IMPORTANCE_SAMPLING.model_copy(update={"mode": UNKNOWN})
    with pytest.raises(AssertionError, match="something new"):
        importance_weights(torch.zeros(1, 1), torch.ones(1, 1, dtype=torch.bool), config)


def test_every_eval_type_is_stated() -> None:
    from swebench.harness.constants import EvalType

    of_swebench = {kind.name for kind in EVAL_TYPES.values() if not kind.own}
    assert of_swebench == {kind.value for kind in EvalType} == set(swebench.EVAL_TYPES)


def test_an_unknown_eval_type_is_neither_read_nor_checked() -> None:
    with pytest.raises(GraderError, match="no eval_type 'guess'; there are pass_and_fail"):
        results_from("guess")
    key = make_record().key.model_copy(update={"eval_type": "guess"})
    with pytest.raises(GraderError, match="no eval_type 'guess'"):
        contradictions(key, "", {"t::a": TestStatus.PASSED}, resolved=True)
