"""Child process that holds swebench: its imports take seconds and much memory, so they stay out of every other process.

Speaks JSON lines: one request on stdin, one answer on stdout. Started by `swe_aem.grading.parser`:

    python -m swe_aem.grading.worker
"""

import json
import os
import resource
import signal
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from swe_aem.core import AnswerKey
from swe_aem.grading.eval_types import EVAL_TYPES
from swe_aem.grading.log_file import LogFile
from swe_aem.grading.log_reading import read_log, read_official

MEMORY_BYTES = 3 << 30
"""What the process may map beyond what swebench's imports do; ordinary logs of 64 MiB need a third of it."""

Answer = dict[str, Any]
T = TypeVar("T")


def row_of(key: AnswerKey) -> dict[str, Any]:
    """The row that swebench wants, made from an answer key."""
    return {
        "instance_id": key.task_id,
        "image": "",
        "repo": key.repo,
        "version": key.version,
        "FAIL_TO_PASS": list(key.fail_to_pass),
        "PASS_TO_PASS": list(key.pass_to_pass),
        "log_parser": key.log_parser,
        "eval_type": key.eval_type,
        "eval_script": key.eval_script,
        "expected": key.expected,
    }


def prepare(key: AnswerKey) -> Answer:
    """The evaluation script of a task, as the installed swebench builds it."""
    from swebench.harness.utils import make_test_spec

    return {"script": make_test_spec(row_of(key)).eval_script}


def check(key: AnswerKey) -> Answer:
    """Problems that keep a task from being graded: a list of sentences, empty if there are none."""
    from swebench.harness.log_parsers import PARSER_REGISTRY
    from swebench.harness.utils import make_test_spec

    problems, row = [], row_of(key)
    if row["log_parser"] not in PARSER_REGISTRY and row["eval_type"] != "reward_file":
        problems.append(f"there is no log parser {row['log_parser']!r}")
    if row["eval_type"] not in EVAL_TYPES:
        problems.append(f"there is no eval_type {row['eval_type']!r}")
    if not row["FAIL_TO_PASS"]:
        problems.append("FAIL_TO_PASS is empty")
    return {"problems": problems, "script": make_test_spec(row).eval_script}


def read(key: AnswerKey, log: dict[str, Any], with_results: bool) -> Answer:
    """What an evaluation left. `failed` in the answer: this log is what it failed on."""
    _known(key, with_results)
    row, file = row_of(key), LogFile.model_validate(log)
    reading = _or_failed(
        key, lambda: read_log(key, file, partial(parse, row), partial(judge, row), with_results=with_results)
    )
    return reading if isinstance(reading, dict) else reading.model_dump(mode="json")


def official(key: AnswerKey, log: dict[str, Any]) -> Answer:
    """What swebench's parser and rule say of a log, as `report`, None if it is not complete; `failed` as in `read`."""
    _known(key, True)
    row, file = row_of(key), LogFile.model_validate(log)
    report = _or_failed(key, lambda: read_official(key, file, partial(parse, row), partial(judge, row)))
    return report if isinstance(report, dict) else {"report": report.model_dump(mode="json") if report else None}


def _known(key: AnswerKey, with_results: bool) -> None:
    """Raise what is wrong with the task: that is none of the log's."""
    from swebench.harness.log_parsers import PARSER_REGISTRY
    from swebench.harness.utils import make_test_spec

    make_test_spec(row_of(key))
    if with_results and key.log_parser not in PARSER_REGISTRY and key.eval_type != "reward_file":
        raise KeyError(f"no log parser {key.log_parser}")


def _or_failed(key: AnswerKey, work: Callable[[], T]) -> T | Answer:
    """What `work` returns; an answer with `failed` in it where it fails for something that stands in the log."""
    try:
        return work()
    except OSError:  # this host's disk or memory, and nothing that stands in a log
        raise
    except Exception as error:  # the parsers fail on lines that no runner prints; the patch's code can print any
        return {"failed": f"{key.log_parser} failed on the log of {key.task_id}: {error!r:.500}"}


def parse(row: dict[str, Any], log_path: str) -> dict[str, str] | None:
    """The status of each test that swebench's parser reads from a log; None where it believes no run in it."""
    from swebench.harness import grading
    from swebench.harness.utils import make_test_spec

    statuses, found = grading.get_logs_eval(make_test_spec(row), log_path)
    return statuses if found else None


def judge(row: dict[str, Any], statuses: Mapping[str, str]) -> Answer:
    """The report on the status of each test, by swebench's rules."""
    from swebench.harness import grading
    from swebench.harness.constants import EvalType, ResolvedStatus, TestStatus
    from swebench.harness.utils import make_test_spec

    spec = make_test_spec(row)
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
    from swe_aem.tasks.families.log_parsers import PARSERS

    for parser in PARSERS.values():
        if parser.read is not None:
            _register(parser.name, parser.read)


def _register(name: str, read: Callable[[str], dict[str, str]]) -> None:
    from swebench.harness.log_parsers import PARSER_REGISTRY

    PARSER_REGISTRY[name] = lambda log, test_spec: read(log)


def register_parser_of(key: AnswerKey) -> None:
    """Add the task's parser to swebench's registry, if a family brought it. Raises what importing it raises."""
    from swe_aem.tasks.families.log_parsers import is_own_parser, log_parser

    if is_own_parser(key.log_parser) and (read := log_parser(key.log_parser).read) is not None:
        _register(key.log_parser, read)


OPERATIONS: dict[str, Callable[..., Answer]] = {"prepare": prepare, "check": check, "read": read, "official": official}


def limit_memory() -> None:
    """Bound what this process may map: the code under evaluation chooses how large a log is to read."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def main() -> None:
    """Answer requests until stdin ends."""
    # What an import prints must not mix with the answers.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    import swebench.harness.grading
    import swebench.harness.utils  # noqa: F401  (imported here so that the first request does not pay for it)

    register_own_parsers()
    limit_memory()
    print(json.dumps({"ready": True}), file=answers, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        # At its end the kernel kills this process by SIGPROF: no code of a parser can hold that up.
        signal.setitimer(signal.ITIMER_PROF, request.pop("cpu_s"))
        try:
            key = AnswerKey.model_validate(request.pop("key"))
            register_parser_of(key)
            answer = OPERATIONS[request.pop("op")](key, **request)
        except OSError as error:
            answer = {"host": str(error)}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        signal.setitimer(signal.ITIMER_PROF, 0)
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
