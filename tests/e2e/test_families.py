"""Every family of data sets goes the whole way on a real engine: read, opened, prepared, captured, graded.

The rows and the images are made on the spot, in each family's shape (`tests/data/families`): none is a data set's own.
"""

import os
from pathlib import Path

import pytest
import pytest_asyncio

from swe_aem.core import Deadline, SandboxSpec, TaskRecord
from swe_aem.grading import Grader, capture_work, prepare_for_agent
from swe_aem.sandbox import open_backend
from swe_aem.tasks import load_tasks

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

DATA = Path(__file__).parents[1] / "data" / "families"
SOURCES = {
    "swe-gym": "swe-gym.jsonl",
    "swe-rebench": "swe-rebench.jsonl",
    "swe-rebench-v2": "swe-rebench-v2.jsonl",
    "swe-lego": "swe-lego.jsonl",
    "swe-bench-live": "swe-bench-live.jsonl",
    "swe-smith": "swe-smith.jsonl",
    "r2e-gym": "r2e-gym.jsonl",
    "multi-swe-bench": "multi-swe-bench.jsonl",
    "harbor": "harbor",
}


def _build(client, state: str) -> str:
    """An image with the repository in a state, made in a container."""
    tag = f"{state}-{os.getpid()}"
    container = client.containers.run(
        "swe-aem/micro:1",
        ["sleep", "600"],
        detach=True,
        network_mode="none",
        init=True,
        working_dir="/",
    )
    try:
        script = (DATA / "build.sh").read_text()
        code, output = container.exec_run(["bash", "-c", f"rm -rf /testbed; set -- {state}\n{script}"])
        assert code == 0, output.decode()
        container.commit("swe-aem/test-families", tag, conf={"Env": ["LANG=C.UTF-8"]})
    finally:
        container.remove(force=True)
    return f"swe-aem/test-families:{tag}"


@pytest.fixture(scope="module")
def images(require_docker):
    """The image of each source, there as long as the module runs."""
    import docker

    client = docker.from_env()
    buggy, clean = _build(client, "buggy"), _build(client, "clean")
    harbor = f"swe-aem/test-families:harbor-{os.getpid()}"
    client.images.build(path=str(DATA / "harbor" / "add-numbers" / "environment"), tag=harbor)
    yield {**dict.fromkeys(SOURCES, buggy), "swe-smith": clean, "harbor": harbor}
    for image in (buggy, clean, harbor):
        client.images.remove(image, force=True)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def grader(require_docker):
    async with Grader(open_backend("docker")) as grader:
        yield grader


@pytest.fixture(params=SOURCES)
def record(request, images) -> TaskRecord:
    """The source's task, in the image made for it instead of the published one."""
    (record,) = load_tasks(str(DATA / SOURCES[request.param]))
    return record.model_copy(update={"task": record.task.model_copy(update={"image": images[request.param]})})


@pytest.fixture
def spec(record) -> SandboxSpec:
    """A sandbox of the task."""
    return SandboxSpec(image=record.task.image, workdir=record.task.workdir, ttl_s=300)


async def test_the_task_can_be_graded(grader, record):
    assert await grader.check(record) == ()


async def test_gold_resolves_and_nothing_does_not(grader, record, spec):
    gold = await grader.gold_patch(record, spec, Deadline.after(120))
    async with grader.slot(record, spec) as slot:
        verdict = await slot.grade(gold, Deadline.after(120))
    assert verdict.resolved, verdict
    assert verdict.integrity == ()
    async with grader.slot(record, spec) as slot:
        untouched = await slot.grade_untouched(Deadline.after(120))
    assert not untouched.resolved, untouched
    assert untouched.integrity == ()
    assert untouched.fail_to_pass, untouched


async def test_an_agent_that_fixes_it_gets_its_due_and_cannot_look_it_up(grader, record, spec):
    task = record.task
    async with open_backend("docker").open(spec) as sandbox:
        given = await prepare_for_agent(sandbox, record)
        for path in record.key.hidden:
            absolute = path if path.startswith("/") else f"{task.workdir}/{path}"
            assert (await sandbox.run(f"test ! -e {absolute}", timeout_s=20)).exit_code == 0, path
        # the fix is in no object of the repository, and in no file beside it
        objects = "git cat-file --batch --batch-all-objects | grep -c 'return a + b'"
        assert (await sandbox.run(objects, timeout_s=20)).output.strip() == "0"
        files = await sandbox.run("grep -rlE 'return a [+] b|a . b/a [+] b' / --include=*.p* -s", timeout_s=60)
        assert [path for path in files.output.split() if task.workdir in path or path.startswith("/tmp")] == []
        assert (await sandbox.run("git status --porcelain", timeout_s=20)).output.count("calc.py") == 0
        fix = "sed -i 's/a - b/a + b/' calc.py; echo 'x = 1' >notes.py; echo broken >run_tests.sh; mkdir -p r2e_tests"
        assert (await sandbox.run(fix, timeout_s=20)).exit_code == 0
        work = await capture_work(sandbox, task.workdir, given)
    async with grader.slot(record, spec) as slot:
        delta = await slot.delta(work)
        verdict = await slot.grade(delta, Deadline.after(120))
    assert not any(change.path.startswith(".venv") for change in delta.changes)
    assert verdict.resolved, verdict
    assert verdict.patch_applied
