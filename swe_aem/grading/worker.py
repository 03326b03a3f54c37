"""Child process that holds swebench: its imports take seconds and much memory, so they stay out of every other process.

Speaks JSON lines: one request on stdin, one answer on stdout. Started by `swe_aem.grading.parser`:

    python -m swe_aem.grading.worker
"""

import json
import os
import sys
from collections.abc import Callable
from typing import Any

from swe_aem.grading.eval_types import EVAL_TYPES

Answer = dict[str, Any]


def prepare(row: dict[str, Any]) -> Answer:
    """The evaluation script of a row, as the installed swebench builds it."""
    from swebench.harness.utils import make_test_spec

    return {"script": make_test_spec(row).eval_script}


def check(row: dict[str, Any]) -> Answer:
    """Problems that keep a row from being graded: a list of sentences, empty if there are none."""
    from swebench.harness.log_parsers import PARSER_REGISTRY
    from swebench.harness.utils import make_test_spec

    problems = []
    if row["log_parser"] not in PARSER_REGISTRY and row["eval_type"] != "reward_file":
        problems.append(f"there is no log parser {row['log_parser']!r}")
    if row["eval_type"] not in EVAL_TYPES:
        problems.append(f"there is no eval_type {row['eval_type']!r}")
    if not row["FAIL_TO_PASS"]:
        problems.append("FAIL_TO_PASS is empty")
    return {"problems": problems, "script": make_test_spec(row).eval_script}


def report(row: dict[str, Any], log_path: str) -> Answer:
    """The results that swebench's parser and rules read from a log."""
    from swebench.harness import grading
    from swebench.harness.constants import EvalType, ResolvedStatus, TestStatus
    from swebench.harness.log_parsers import PARSER_REGISTRY
    from swebench.harness.utils import make_test_spec

    spec = make_test_spec(row)
    if spec.log_parser not in PARSER_REGISTRY:
        raise KeyError(f"no log parser {spec.log_parser}")
    try:
        statuses, found = grading.get_logs_eval(spec, log_path)
    except Exception as error:  # the parsers fail on lines that no runner prints; the patch's code can print any
        print(f"{spec.instance_id}: {spec.log_parser} failed on its log: {error!r:.500}", file=sys.stderr)
        return {"found": False}
    if not found:
        return {"found": False}
    known = {status.value for status in TestStatus}
    statuses = {test: status if status in known else TestStatus.FAILED.value for test, status in statuses.items()}
    if spec.eval_type == "exact_map":
        return exact_map(statuses, row["expected"], spec.FAIL_TO_PASS)
    wanted: dict[str, Any] = {"FAIL_TO_PASS": spec.FAIL_TO_PASS, "PASS_TO_PASS": spec.PASS_TO_PASS}
    tests = grading.get_eval_tests_report(statuses, wanted, eval_type=EvalType(spec.eval_type))

    def status_of(group: str) -> dict[str, str]:
        # A success without an entry of its own: a truncated id that was matched by its prefix, or `fail_only`.
        passed = set(tests[group]["success"])
        return {test: statuses.get(test, "PASSED" if test in passed else "MISSING") for test in wanted[group]}

    return {
        "found": True,
        "resolved": grading.get_resolution_status(tests) == ResolvedStatus.FULL.value,
        "fail_to_pass": status_of("FAIL_TO_PASS"),
        "pass_to_pass": status_of("PASS_TO_PASS"),
        "fail_to_pass_fraction": float(grading.compute_fail_to_pass(tests)),
        "pass_to_pass_fraction": float(grading.compute_pass_to_pass(tests)),
    }


def exact_map(statuses: dict[str, str], expected: dict[str, str], fail_to_pass: list[str]) -> Answer:
    """R2E-Gym's rule: every expected test ends as expected, and no other test ran."""
    right = sum(statuses.get(test) == status for test, status in expected.items())
    return {
        "found": True,
        "resolved": statuses == expected,
        "fail_to_pass": {test: statuses.get(test, "MISSING") for test in fail_to_pass},
        "pass_to_pass": {},
        "fail_to_pass_fraction": right / len(expected),
        "pass_to_pass_fraction": 1.0,
    }


def register_own_parsers() -> None:
    """Add this project's parsers to swebench's registry, where its code finds them."""
    from swebench.harness.log_parsers import PARSER_REGISTRY

    from swe_aem.tasks.families.log_parsers import PARSERS

    def with_spec(parse: Callable[[str], dict[str, str]]) -> Callable[..., dict[str, str]]:
        return lambda log, spec: parse(log)

    own = {parser.name: with_spec(parser.read) for parser in PARSERS.values() if parser.read is not None}
    PARSER_REGISTRY.update(own)


OPERATIONS: dict[str, Callable[..., Answer]] = {"prepare": prepare, "check": check, "report": report}


def main() -> None:
    """Answer requests until stdin ends."""
    # What an import prints must not mix with the answers.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    import swebench.harness.grading
    import swebench.harness.utils  # noqa: F401  (imported here so that the first request does not pay for it)

    register_own_parsers()
    print(json.dumps({"ready": True}), file=answers, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = OPERATIONS[request.pop("op")](**request)
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
