"""Small task sets of published rows, for tests of what their images need."""

import json
from collections.abc import Sequence
from pathlib import Path


def write_tasks(path: Path, images: Sequence[str]) -> None:
    """A task set with one task for each image."""
    row = {
        "repo": "o/n",
        "base_commit": "a" * 40,
        "version": "1",
        "problem_statement": "It fails.",
        "patch": "diff --git a/x b/x\n",
        "test_patch": "diff --git a/t b/t\n",
        "FAIL_TO_PASS": ["t"],
        "PASS_TO_PASS": [],
        "eval_script": "true",
        "log_parser": "parse_log_pytest",
        "eval_type": "pass_and_fail",
    }
    rows = [row | {"instance_id": f"o__n-{number}", "image": image} for number, image in enumerate(images)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
