"""One evaluation by SWE-bench's official harness, in a process of its own, since its imports take seconds.

    python benchmarks/harness.py ROW_FILE RUN RESULT_FILE

grading.py and parity.py run it in a temporary directory, because the harness writes its logs below the current one.
Importing is not timed. The row's `model_patch` is graded, or its gold patch if it has none; an empty patch grades the
tree unchanged.
"""

import json
import re
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from swe_aem.core import AnswerKey

EVALUATION_LIMIT_S = 1800


def row_of(key: "AnswerKey") -> dict[str, Any]:
    """Row of a task as the harness reads it, without its image."""
    return {
        "instance_id": key.task_id,
        "repo": key.repo,
        "version": key.version,
        "patch": key.gold_patch,
        "FAIL_TO_PASS": list(key.fail_to_pass),
        "PASS_TO_PASS": list(key.pass_to_pass),
        "log_parser": key.log_parser,
        "eval_type": key.eval_type,
        "eval_script": key.eval_script,
    }


def evaluate(row: dict[str, Any], run: str) -> dict[str, Any]:
    """Grade one patch: seconds in all and in the evaluation script, whether it was resolved, and which tests passed."""
    import docker
    from swebench.harness.run_evaluation import run_instance
    from swebench.harness.utils import make_test_spec

    patch = row.get("model_patch", row["patch"])
    prediction = {"instance_id": row["instance_id"], "model_name_or_path": "gold", "model_patch": patch or "none"}
    client, spec = docker.from_env(timeout=300), make_test_spec(row)
    began_s = time.perf_counter()
    result = run_instance(spec, prediction, client, run, EVALUATION_LIMIT_S, skip_patch=not patch)
    wall_s = time.perf_counter() - began_s
    (log,) = Path("logs").rglob(f"{run}/gold/{row['instance_id']}/run_instance.log")
    said = re.search(r"Test runtime: ([\d_.]+) seconds", log.read_text())
    if result is None or said is None:
        raise RuntimeError(f"the harness came to no result: {log.read_text()[-2000:]}")
    eval_s = float(said[1].replace("_", ""))
    report = result[1][row["instance_id"]]
    groups = report.get("tests_status", {}).values()
    passed = sorted({test for group in groups for test in group["success"]})
    return {"wall_s": wall_s, "eval_s": eval_s, "resolved": report["resolved"], "passed": passed}


if __name__ == "__main__":
    found = evaluate(json.loads(Path(sys.argv[1]).read_text()), sys.argv[2])
    Path(sys.argv[3]).write_text(json.dumps(found))
