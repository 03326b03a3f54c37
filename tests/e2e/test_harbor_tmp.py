"""A Harbor task that works in /tmp, as 91 of 3,558 real folders do: nothing of ours lies in its work tree."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import docker
import pytest
import pytest_asyncio

from swe_aem.core import Deadline, SandboxBackend, SandboxSpec, TaskRecord
from swe_aem.grading import Delta, Grader, capture_work, prepare_for_agent
from swe_aem.sandbox import open_backend
from swe_aem.sandbox.images.engine import connect
from swe_aem.sandbox.images.ledger import Ledger
from swe_aem.sandbox.images.unpack import unpack
from swe_aem.tasks import load_tasks

pytestmark = pytest.mark.slow

FOLDER = Path(__file__).parents[1] / "data" / "families" / "harbor" / "add-numbers"


def moved(directory: Path) -> Path:
    """A copy of the task, moved from /app to /tmp."""
    folder = Path(shutil.copytree(FOLDER, directory / "in-tmp"))
    for path in folder.rglob("*"):
        if path.is_file():
            path.write_text(path.read_text().replace("/app", "/tmp"))
    return folder


@dataclass
class Case:
    """The task in one backend."""

    backend: SandboxBackend
    record: TaskRecord
    spec: SandboxSpec


@pytest.fixture(scope="module")
def image(require_docker: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The task's image, on the engine and unpacked in a cache of this module."""
    name = f"swe-aem/test-tmp:{os.getpid()}"
    docker.from_env().images.build(path=str(moved(tmp_path_factory.mktemp("task")) / "environment"), tag=name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SWE_AEM_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield name
    docker.from_env().images.remove(name, force=True)


@pytest_asyncio.fixture(
    params=[
        pytest.param("bubblewrap", marks=pytest.mark.bubblewrap),
        pytest.param("docker", marks=pytest.mark.docker),
    ]
)
async def case(request: pytest.FixtureRequest, image: str, tmp_path: Path) -> Case:
    (record,) = load_tasks(str(moved(tmp_path)))
    assert record.task.workdir == "/tmp"
    if request.param == "bubblewrap":
        request.getfixturevalue("require_bubblewrap")
        async with connect() as engine:
            await unpack(engine, Ledger.of_roots(), image)
    record = record.model_copy(update={"task": record.task.model_copy(update={"image": image})})
    return Case(open_backend(request.param), record, SandboxSpec(image=image, workdir="/tmp", ttl_s=300))


@pytest_asyncio.fixture
async def grader(case: Case):
    async with Grader(case.backend) as grader:
        yield grader


async def test_only_what_the_agent_did_is_in_its_patch(case: Case, grader: Grader) -> None:
    async with case.backend.open(case.spec) as sandbox:
        given = await prepare_for_agent(sandbox, case.record)
        await sandbox.run("true", timeout_s=20)
        assert (await capture_work(sandbox, "/tmp", given)).empty
    async with case.backend.open(case.spec) as sandbox:
        given = await prepare_for_agent(sandbox, case.record)
        await sandbox.run("echo hi >new.txt", timeout_s=20)
        work = await capture_work(sandbox, "/tmp", given)
    async with grader.slot(case.record, case.spec) as slot:
        delta = await slot.delta(work)
        assert ([change.path for change in delta.changes], delta.left_out) == (["new.txt"], ())
        verdict = await slot.grade(delta, Deadline.after(120))
    assert verdict.patch_applied
    assert not verdict.resolved


async def test_the_solution_resolves_it_and_nothing_does_not(case: Case, grader: Grader) -> None:
    gold = await grader.gold_patch(case.record, case.spec, Deadline.after(120))
    assert isinstance(gold, Delta)
    assert [change.path for change in gold.changes] == ["calc.py"]
    async with grader.slot(case.record, case.spec) as slot:
        verdict = await slot.grade(gold, Deadline.after(120))
    assert verdict.resolved, verdict
    async with grader.slot(case.record, case.spec) as slot:
        untouched = await slot.grade_untouched(Deadline.after(120))
    assert not untouched.resolved
    assert untouched.fail_to_pass, untouched
