"""A SWE-bench row and its image, built on the spot, go the whole way: read, opened, scrubbed, captured, graded.

The image follows SWE-bench's conventions: /testbed, `source /opt/miniconda3/bin/activate; conda activate testbed`, a
"SWE-bench" commit on top of the base commit, and an evaluation script that installs the package again, here offline.
"""

import asyncio
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import pytest_asyncio

from swe_aem.core import Deadline, SandboxSpec, TestStatus
from swe_aem.grading import Grader, capture_work, prepare_for_agent, scrub_history
from swe_aem.sandbox import open_backend
from swe_aem.tasks import load_tasks

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

IMAGE = f"swe-aem/test-swebench:{os.getpid()}"

BUILD = r"""
set -euo pipefail
export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@example.org GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@example.org

# What conda is to a SWE-bench image: a file to source, a function, and an environment of its own.
env=/opt/miniconda3/envs/testbed
mkdir -p /opt/miniconda3/bin
python3 -m venv --without-pip --system-site-packages $env
printf '#!%s/bin/python\nimport sys\nfrom pytest import console_main\nsys.exit(console_main())\n' $env >$env/bin/pytest
chmod +x $env/bin/pytest
cat >/opt/miniconda3/bin/activate <<'EOF'
conda() {
  [ "$1" = activate ] && [ "$2" = testbed ] || return 1
  . /opt/miniconda3/envs/testbed/bin/activate
  export CONDA_DEFAULT_ENV=testbed
}
EOF

cd /testbed
git init -q -b main .
mkdir -p src/shapes tests
cat >setup.py <<'EOF'
from setuptools import find_packages, setup

setup(name="shapes", version="1.0", package_dir={"": "src"}, packages=find_packages("src"))
EOF
echo '*.egg-info/' >.gitignore
echo >src/shapes/__init__.py
printf 'def area(w, h):\n    return w + h\n\n\ndef perimeter(w, h):\n    return 2 * (w + h)\n' >src/shapes/rect.py
cat >tests/test_rect.py <<'EOF'
from shapes.rect import perimeter


def test_perimeter():
    assert perimeter(2, 3) == 10
EOF
git add -A && git commit -q -m base && git rev-parse HEAD >/base
sed -i 's/w + h$/w * h/' src/shapes/rect.py
printf '\n\ndef test_area():\n    from shapes.rect import area\n\n    assert area(2, 3) == 6\n' >>tests/test_rect.py
git diff src >/gold.patch && git diff tests >/test.patch
git commit -q -a -m "the fix" && git rev-parse HEAD >/fix
git tag v2.0 && git branch future && git reset -q --hard "$(cat /base)"
echo '# set up for evaluation' >>setup.py && git commit -q -a -m SWE-bench
. /opt/miniconda3/bin/activate
conda activate testbed
python -m pip install -q --no-build-isolation --no-index -e .
"""

EVALUATION = """#!/bin/bash
set -uxo pipefail
source /opt/miniconda3/bin/activate
conda activate testbed
cd /testbed
git config --global --add safe.directory /testbed
cd /testbed
git status
git show
git -c core.fileMode=false diff {base}
source /opt/miniconda3/bin/activate
conda activate testbed
python -m pip install -e .
git checkout {base} tests/test_rect.py
git apply -v - <<'EOF_114329324912'
{test_patch}
EOF_114329324912
: '>>>>> Start Test Output'
pytest -rA tests/test_rect.py
: '>>>>> End Test Output'
git checkout {base} tests/test_rect.py
"""


@pytest.fixture(scope="module")
def row(require_docker):
    """The row; its image is there as long as the module runs."""
    import docker

    client = docker.from_env()
    sleep = ["sleep", "600"]
    container = client.containers.run("swe-aem/micro:1", sleep, detach=True, network_mode="none", init=True)
    try:
        code, output = container.exec_run(["bash", "-c", BUILD])
        assert code == 0, output.decode()
        base, fix, gold, tests = (
            container.exec_run(["cat", path])[1].decode() for path in ("/base", "/fix", "/gold.patch", "/test.patch")
        )
        container.exec_run(["rm", "/base", "/fix", "/gold.patch", "/test.patch"])
        container.commit(*IMAGE.split(":"))
    finally:
        container.remove(force=True)
    yield {
        "instance_id": "shapes__shapes-1",
        "repo": "shapes/shapes",
        "base_commit": base.strip(),
        "patch": gold,
        "test_patch": tests,
        "problem_statement": "area(2, 3) is 5",
        "hints_text": "",
        "version": "1.0",
        "FAIL_TO_PASS": json.dumps(["tests/test_rect.py::test_area"]),
        "PASS_TO_PASS": json.dumps(["tests/test_rect.py::test_perimeter"]),
        "image": IMAGE,
        "eval_script": EVALUATION.format(base=base.strip(), test_patch=tests),
        "log_parser": "parse_log_pytest",
        "eval_type": "pass_and_fail",
        "_fix": fix.strip(),
    }
    client.images.remove(IMAGE, force=True)


@pytest.fixture(scope="module")
def rows_file(row, tmp_path_factory):
    """A data set with that row."""
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    path.write_text(json.dumps({name: value for name, value in row.items() if name != "_fix"}) + "\n")
    return path


@pytest.fixture(scope="module")
def record(rows_file):
    """The task, as the reader of SWE-bench rows makes it."""
    return load_tasks(str(rows_file)).records[0]


@pytest.fixture(scope="module")
def spec():
    """A sandbox of the image, with everything of it used: its environment, its /testbed, no network."""
    return SandboxSpec(image=IMAGE, ttl_s=300)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def grader(require_docker):
    async with Grader(open_backend("docker")) as grader:
        yield grader


async def test_the_task_is_sound(grader, record):
    assert await grader.check(record) == ()


async def test_an_agent_finds_no_later_history(row, record, spec):
    async with open_backend("docker").open(spec) as sandbox:
        before = await sandbox.run("git log --all --format=%H; which python", timeout_s=20)
        assert row["_fix"] in before.output
        assert "/opt/miniconda3/envs/testbed/bin/python" in before.output
        base = await scrub_history(sandbox, "/testbed", record.task.base_commit)
        everything = "git log --all --reflog --format=%H; git tag; git cat-file --batch-all-objects --batch-check"
        after = await sandbox.run(everything, timeout_s=20)
        assert row["_fix"] not in after.output
        assert "v2.0" not in after.output
        assert base in after.output
        assert row["base_commit"] in after.output


FIX = "sed -i 's/return w + h$/return w * h/' src/shapes/rect.py"
PATCHES = {
    "gold": (FIX, True, True),
    "empty": ("true", False, False),
    "wrong": ("sed -i 's/return w + h$/return w ** h/' src/shapes/rect.py", False, True),
    "committed": (f"{FIX}; git -c user.name=a -c user.email=a@example.org commit -qam x", True, True),
    "with its own test": (f"{FIX}; echo 'broken(' >tests/test_rect.py; echo 'x' >setup.cfg", True, True),
}
"""What an agent does, whether it resolves the task, and whether there is anything to evaluate."""


@pytest.mark.parametrize("kind", PATCHES)
async def test_patches_are_graded_right(grader, record, spec, kind):
    command, resolved, applied = PATCHES[kind]
    async with grader.slot(record, spec) as slot:
        async with open_backend("docker").open(spec) as sandbox:
            given = await prepare_for_agent(sandbox, record)
            assert (await sandbox.run(command, timeout_s=20)).exit_code == 0
            work = await capture_work(sandbox, "/testbed", given)
        verdict = await slot.grade(await slot.delta(work), Deadline.after(120))
    assert verdict.resolved is resolved, verdict.log_tail
    assert verdict.patch_applied is applied
    if applied:
        assert "Successfully installed shapes" in verdict.log_tail
        assert verdict.pass_to_pass == {"tests/test_rect.py::test_perimeter": TestStatus.PASSED}


@pytest.mark.nightly  # tests/benchmarks/test_smoke.py has a short one of the bundled tasks
async def test_the_official_harness_says_the_same(rows_file, tmp_path):
    script, found = Path(__file__).parents[2] / "benchmarks" / "parity.py", tmp_path / "parity.json"
    command = [sys.executable, str(script), "--tasks", str(rows_file), "--json", str(found)]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    said = [
        (one["kind"], one["ours"], one["harness"], one["tests"], one["differing"])
        for one in json.loads(found.read_text())
    ]
    assert said == [
        ("gold", True, True, 2, []),
        ("empty", False, False, 2, []),
        ("wrong", False, False, 2, []),
        ("partial", False, False, 2, []),
    ]


async def test_a_verdict_comes_within_a_second_of_the_end_of_the_script(grader, record, spec):
    behind_s = []
    for _ in range(3):  # the machine may be busy once
        async with grader.slot(record, spec) as slot:
            await slot.sandbox()  # which starts while the agent works
            async with open_backend("docker").open(spec) as sandbox:
                given = await prepare_for_agent(sandbox, record)
                await sandbox.run(FIX, timeout_s=20)
                started_s = time.monotonic()
                work = await capture_work(sandbox, "/testbed", given)
                captured_s = time.monotonic() - started_s
            started_s = time.monotonic()
            delta = await slot.delta(work)
            captured_s += time.monotonic() - started_s
            verdict = await slot.grade(delta, Deadline.after(120), twins=False)
        assert verdict.resolved, verdict.log_tail
        assert verdict.integrity == ()
        behind_s.append(captured_s + verdict.wall_s - verdict.eval_s)
        if behind_s[-1] < 1.0:
            return
    raise AssertionError(behind_s)
