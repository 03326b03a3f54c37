"""The start of a task is prepared once and kept: what later sandboxes of it hold, and what is never kept."""

import asyncio
import errno
import os
import shutil
import subprocess
import sys
from collections import Counter
from contextlib import asynccontextmanager

import pytest
import pytest_asyncio

from swe_aem.core import AnswerKey, SandboxSpec, Task, TaskRecord
from swe_aem.errors import InfrastructureError, StartError
from swe_aem.grading import StartLayers, capture_work, layers, prepare_for_agent, prepare_for_grading
from swe_aem.grading.comparing import delta_of
from swe_aem.rollout.gate import StartGate
from swe_aem.sandbox import open_backend
from swe_aem.sandbox.bubblewrap import BubblewrapBackend
from swe_aem.sandbox.images.collect import Collector, Disk, Watermark
from swe_aem.sandbox.images.engine import connect
from swe_aem.sandbox.images.ledger import Ledger
from swe_aem.sandbox.images.stock import engine_stock, obtained_by_us, roots_stock
from swe_aem.sandbox.images.unpack import unpack
from swe_aem.sandbox.layers import LayerDraft, kept_layers, layers_dir
from swe_aem.testing.sandbox import FakeBackend

IMAGE = f"swe-aem/test-layers:{os.getpid()}"
BUILD = r"""
set -euo pipefail
export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@example.org GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@example.org
cd /testbed
git init -q -b main .
mkdir -p pkg hidden/deep docs
echo 'x = 1' >pkg/one.py; echo secret >hidden/deep/test_it.py; echo text >docs/a.rst; ln -s a.rst docs/b.rst
git add -A && git commit -q -m base && git tag base
for n in $(seq 40); do echo "y = $n" >>pkg/one.py; git commit -qam "later $n"; done
git gc -q && git branch future && git reset -q --hard base && git tag -d base >/dev/null
echo 'y = 3' >>pkg/one.py && git diff >/setup.patch && git checkout -q .
echo beside >untracked.txt && chmod 750 untracked.txt
mkdir -p /opt/solutions && echo secret >/opt/solutions/answer
"""


def record_of(base, **key):
    """A task whose start is in the image, below what must be hidden."""
    task = Task(id="t-1", repo="o/t", base_commit=base, problem_statement="", image=IMAGE)
    blank = dict.fromkeys(("version", "gold_patch", "test_patch", "eval_script", "log_parser", "eval_type"), "")
    answer = AnswerKey(task_id=task.id, repo=task.repo, fail_to_pass=("a",), pass_to_pass=(), **{**blank, **key})
    return TaskRecord(task=task, key=answer)


@pytest.fixture(scope="module")
def built(require_docker, tmp_path_factory):
    """The image, on the engine and unpacked in a cache of this module; its base commit, fix and setup patch."""
    import docker

    client = docker.from_env()
    container = client.containers.run("swe-aem/micro:1", ["sleep", "600"], detach=True, network_mode="none", init=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SWE_AEM_CACHE", str(tmp_path_factory.mktemp("cache")))
        try:
            code, output = container.exec_run(["bash", "-c", BUILD])
            assert code == 0, output.decode()
            git = ["git", "-C", "/testbed", "rev-parse"]
            base, later = (container.exec_run([*git, name])[1].decode().strip() for name in ("HEAD", "future"))
            setup = container.exec_run(["cat", "/setup.patch"])[1].decode()
            container.commit(*IMAGE.split(":"))
        finally:
            container.remove(force=True)
        yield base, later, setup
        client.images.remove(IMAGE, force=True)


@pytest_asyncio.fixture(loop_scope="function")
async def unpacked(built):
    """The image is also the root of bubblewrap sandboxes."""
    async with connect() as engine:
        await unpack(engine, Ledger.of_roots(), IMAGE)
    return built


KINDS = [
    pytest.param("bubblewrap", marks=[pytest.mark.bubblewrap, pytest.mark.docker, pytest.mark.slow]),
    pytest.param(
        "util-linux", marks=[pytest.mark.bubblewrap, pytest.mark.docker, pytest.mark.slow, pytest.mark.nightly]
    ),
    pytest.param("docker", marks=[pytest.mark.docker, pytest.mark.slow]),
]


@pytest.fixture(params=KINDS)
def backend(request, unpacked):
    """A backend of each kind that notes which layers it is asked to make."""
    kind = request.param
    made = BubblewrapBackend(launcher="util-linux") if kind == "util-linux" else open_backend(kind)
    made.made, make = Counter(), made.make_layer

    def count(spec):
        made.made[spec.layer] += 1
        return make(spec)

    made.make_layer = count
    yield made
    shutil.rmtree(layers_dir(), ignore_errors=True)
    remove_layers_on_the_engine()


def remove_layers_on_the_engine():
    """Remove the layers of this module's image."""
    import docker

    client = docker.from_env()
    image = client.images.get(IMAGE).id
    for layer in client.images.list(filters={"label": f"swe-aem.layer-of={image}"}):
        client.images.remove(layer.id, force=True)
    client.close()


@pytest.fixture
def slow(monkeypatch):
    """Every preparation takes long enough to be kept."""
    monkeypatch.setattr(layers, "NOTICEABLE_S", 0.0)


def spec_of(**fields):
    """A small sandbox of the image."""
    return SandboxSpec(image=IMAGE, ttl_s=900, **fields)


LOOK = """
git status --porcelain --ignored; git log --all --reflog --format=%H; git cat-file --batch-all-objects --batch-check
find . /opt -path ./.git -prune -o -type d -printf '%p %m\\n' -o -printf '%p %y %m %s %l\\n' | sort
cat .git/info/exclude pkg/one.py; ls -A /tmp/swe-aem-output | grep -v '^00000[0-9].log$'
"""


async def look(backend, spec, record):
    """What a prepared agent's sandbox holds."""
    async with backend.open(spec) as sandbox:
        given = await prepare_for_agent(sandbox, record)
        return given.tracked, (await sandbox.run(LOOK, timeout_s=60, max_output_bytes=1 << 20)).output


async def test_a_group_that_starts_at_once_is_prepared_once_and_finds_the_same(backend, built, slow):
    base, later, setup = built
    hide = ("hidden", "/opt/solutions")
    for record in (record_of(base), record_of(base, setup_patch=setup, hidden=hide)):
        plain = await look(backend, spec_of(), record)
        assert later not in plain[1]
        chooser, chosen = StartLayers(backend), []

        async def one(chooser=chooser, chosen=chosen, record=record):
            chosen.append(await chooser.choose(spec_of(), record, "agent"))
            return await look(backend, chosen[-1], record)

        found = await asyncio.gather(*(one() for _ in range(8)))
        (layer,) = {spec.layer for spec in chosen}
        assert layer is not None
        assert backend.made[layer] == 1
        assert set(found) == {plain}
        again = await StartLayers(backend).choose(spec_of(), record, "agent")  # as another process would
        assert again.layer == layer
        assert backend.made[layer] == 1


async def test_no_work_on_a_layer_is_no_delta_and_work_is_one(backend, built, slow):
    base, _, setup = built
    record = record_of(base, setup_patch=setup, hidden=("hidden",))
    chooser = StartLayers(backend)
    mine, theirs = [await chooser.choose(spec_of(), record, role) for role in ("agent", "grader")]
    for command, changed in (("true", []), ("echo z >pkg/one.py; rm docs/a.rst; echo n >new.py",
                                            ["docs/a.rst", "new.py", "pkg/one.py"])):  # fmt: skip
        async with backend.open(mine) as sandbox, backend.open(theirs) as untouched:
            given = await prepare_for_agent(sandbox, record)
            await prepare_for_grading(untouched, record, "/testbed")
            await sandbox.run(command, timeout_s=20)
            delta = await delta_of(await capture_work(sandbox, "/testbed", given), untouched, "/testbed")
        assert [change.path for change in delta.changes] == changed
        assert delta.left_out == ()


async def test_sandboxes_on_a_layer_do_not_see_each_others_changes(backend, built, slow):
    record = record_of(built[0])
    spec = await StartLayers(backend).choose(spec_of(), record, "agent")
    async with backend.open(spec) as one, backend.open(spec) as two:
        await one.run("rm -rf .git docs; echo z >pkg/one.py", timeout_s=20)
        assert (await two.run("git status --porcelain", timeout_s=20)).output == "?? untracked.txt\n"
    async with backend.open(spec) as three:
        assert (await three.run("cat docs/b.rst pkg/one.py", timeout_s=20)).output == "text\nx = 1\n"


async def test_a_grading_sandbox_has_a_layer_of_its_own_with_hidden_paths_in_place(backend, built, slow):
    base, _, setup = built
    chooser = StartLayers(backend)
    record = record_of(base, setup_patch=setup, hidden=("hidden",))
    spec = await chooser.choose(spec_of(), record, "grader")
    assert spec.layer != (await chooser.choose(spec_of(), record, "agent")).layer
    async with backend.open(spec) as sandbox:
        await prepare_for_grading(sandbox, record, "/testbed")
        seen = await sandbox.run("cat hidden/deep/test_it.py pkg/one.py; git log --oneline | wc -l", timeout_s=20)
        assert seen.output == "secret\nx = 1\ny = 3\n2\n"
    assert (await chooser.choose(spec_of(), record_of(base), "grader")).layer is None  # nothing to prepare


async def test_what_a_start_depends_on_is_in_its_key(built, slow, tmp_path):
    base, _, setup = built
    backend = FakeBackend()
    backend.layers = set()
    specs = [spec_of(), spec_of(user="1000"), spec_of(workdir="/other")]
    records = [record_of(base), record_of("0" * 40), record_of(base, setup_patch=setup), record_of(base, hidden=("x",))]
    keys = {layers.layer_key(digest, spec, record, role) for digest in "ab" for spec in specs for record in records
            for role in ("agent", "grader")}  # fmt: skip
    assert len(keys) == 2 * 3 * 4 * 2
    workspace = spec_of(workspace=tmp_path)
    assert await StartLayers(backend).choose(workspace, record_of(base), "agent") == workspace


class SlowBackend(FakeBackend):
    """Keeps layers; a preparation waits until it may go on, the end of one raises what `failures` holds."""

    def __init__(self):
        super().__init__()
        self.layers, self.begun, self.go, self.failures, self.made = set(), asyncio.Event(), asyncio.Event(), [], 0
        self.go.set()

    @asynccontextmanager
    async def make_layer(self, spec):
        self.made += 1
        async with self.open(spec.model_copy(update={"layer": None})) as sandbox:
            yield sandbox
            self.begun.set()
            await self.go.wait()
        if self.failures:
            raise self.failures.pop()
        self.layers.add((spec.image, spec.layer))


@pytest.fixture
def slow_backend(slow, monkeypatch, tmp_path):
    """A `SlowBackend`, in whose sandboxes nothing is prepared."""

    async def prepare(sandbox, record):
        pass

    monkeypatch.setenv("SWE_AEM_CACHE", str(tmp_path))
    monkeypatch.setattr(layers, "prepare_for_agent", prepare)
    return SlowBackend()


@pytest.mark.parametrize("error", [StartError("no answer"), OSError(errno.ENOSPC, "No space left on device")])
async def test_a_layer_that_could_not_be_made_is_tried_again_after_growing_pauses(slow_backend, caplog, error):
    now, record = [1000.0], record_of("0" * 40)
    slow_backend.failures = [error, error]
    chooser = StartLayers(slow_backend, clock=lambda: now[0])
    made = []
    for later_s in (0, 29, 2, 58, 3, 0):
        now[0] += later_s
        made.append(((await chooser.choose(spec_of(), record, "agent")).layer is not None, slow_backend.made))
    assert made == [(False, 1), (False, 1), (False, 2), (False, 2), (True, 3), (True, 3)]
    assert [line.args[1] for line in caplog.records] == [30.0, 60.0]
    assert not slow_backend.live


async def test_a_backend_without_layers_is_asked_once(slow_backend):
    slow_backend.layers, asked = None, slow_backend.has_layer
    count = Counter()

    async def has_layer(spec):
        count["asked"] += 1
        return await asked(spec)

    slow_backend.has_layer = has_layer
    async with StartLayers(slow_backend) as chooser:
        for _ in range(3):
            assert (await chooser.choose(spec_of(), record_of("0" * 40), "agent")).layer is None
    assert count["asked"] == 1


async def test_a_layer_is_made_although_its_first_caller_gave_up(slow_backend):
    record = record_of("0" * 40)
    slow_backend.go.clear()
    async with StartLayers(slow_backend) as chooser:
        first = asyncio.create_task(chooser.choose(spec_of(), record, "agent"))
        await slow_backend.begun.wait()
        second = asyncio.create_task(chooser.choose(spec_of(), record, "agent"))
        first.cancel()
        await asyncio.wait([first])
        slow_backend.go.set()
        assert (await second).layer is not None
    assert (first.cancelled(), slow_backend.made, slow_backend.live) == (True, 1, [])


async def test_what_is_being_made_ends_with_its_owner(slow_backend):
    slow_backend.go.clear()
    async with StartLayers(slow_backend) as chooser:
        waiting = asyncio.create_task(chooser.choose(spec_of(), record_of("0" * 40), "agent"))
        await slow_backend.begun.wait()
        assert len(slow_backend.live) == 1
    await asyncio.wait([waiting])
    assert (slow_backend.live, slow_backend.layers, waiting.cancelled()) == ([], set(), True)


async def test_a_layer_that_the_gate_could_not_keep_is_none(slow_backend):
    slow_backend.failures = [StartError("no space left on device")]
    gate = StartGate(slow_backend, starting=1, start_limit_s=10.0)
    async with StartLayers(gate) as chooser:
        assert (await chooser.choose(spec_of(), record_of("0" * 40), "agent")).layer is None


async def test_a_real_layer_is_made_without_its_first_caller_and_its_making_ends_with_its_owner(backend, built, slow):
    makers = set()
    for hidden, leave in (("given up",), False), (("ended",), True):
        begun, record = asyncio.Event(), record_of(built[0], hidden=hidden)

        @asynccontextmanager
        async def make(spec, begun=begun, make=backend.make_layer):
            async with make(spec) as sandbox:
                makers.add(sandbox.id)
                begun.set()
                yield sandbox

        backend.make_layer = make
        async with StartLayers(backend) as chooser:
            first = asyncio.create_task(chooser.choose(spec_of(), record, "agent"))
            await begun.wait()
            if not leave:
                first.cancel()
                await asyncio.wait([first])
                assert (await chooser.choose(spec_of(), record, "agent")).layer is not None
        await asyncio.wait([first])
        assert first.cancelled()
    assert set(backend.made.values()) == {1}
    assert len(makers) == 2
    assert not makers & {one.id for one in await backend.ls()}
    assert not list(layers_dir().glob("*/.*.draft"))


async def test_a_quick_start_is_noted_and_not_kept(backend, built, monkeypatch):
    monkeypatch.setattr(layers, "NOTICEABLE_S", 3600.0)
    record = record_of(built[0], hidden=("quick",))
    for _ in range(2):
        spec = await StartLayers(backend).choose(spec_of(), record, "agent")
        assert spec.layer is None
    assert sum(backend.made.values()) == 1


async def test_a_failed_preparation_keeps_nothing_and_each_sandbox_prepares_itself(backend, built, slow, caplog):
    record = record_of(built[0], setup_patch="nonsense")
    chooser = StartLayers(backend)
    for _ in range(2):
        spec = await chooser.choose(spec_of(), record, "agent")
        assert spec.layer is None
    ((key, times),) = backend.made.items()
    assert times == 1
    assert not await backend.has_layer(spec_of(layer=key))
    assert "swe-aem images gc" in caplog.text
    async with backend.open(spec) as sandbox:
        with pytest.raises(InfrastructureError, match="the setup patch does not apply"):
            await prepare_for_agent(sandbox, record)


@pytest.mark.bubblewrap
@pytest.mark.docker
@pytest.mark.slow
async def test_a_full_disk_costs_the_layer_and_nothing_else(unpacked, slow, caplog, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(LayerDraft, "keep", full)
    backend, record = BubblewrapBackend(), record_of(unpacked[0], hidden=("full",))
    spec = await StartLayers(backend).choose(spec_of(), record, "agent")
    assert spec.layer is None
    assert "No space left" in caplog.text
    assert not list(layers_dir().glob("*/.*"))
    assert (await look(backend, spec, record))[0]


def test_of_two_makers_the_first_keeps_its_layer(tmp_path, monkeypatch):
    monkeypatch.setenv("SWE_AEM_CACHE", str(tmp_path))
    drafts = [LayerDraft("root", "key") for _ in range(2)]
    for number, draft in enumerate(drafts):
        draft.make()
        (draft.directory / "upper" / "made").write_text(str(number))
        (draft.directory / "upper" / "tmp" / "output").mkdir(parents=True)
    for draft in drafts:
        draft.keep(["/tmp/output", "/tmp/nowhere/deeper"])
        draft.discard()
    assert kept_layers() == [("root", "key")]
    assert {str(path.relative_to(layers_dir() / "root")) for path in layers_dir().glob("root/**/*")} == {
        "key", "key/upper", "key/upper/made", "key/upper/tmp",
    }  # fmt: skip
    assert (layers_dir() / "root/key/upper/made").read_text() == "0"


def test_a_link_of_the_image_leads_no_removal_out_of_the_layer(tmp_path, monkeypatch):
    monkeypatch.setenv("SWE_AEM_CACHE", str(tmp_path / "cache"))
    (tmp_path / "outside" / "output").mkdir(parents=True)
    draft = LayerDraft("root", "key")
    draft.make()
    (draft.directory / "upper" / "tmp").symlink_to(tmp_path / "outside")
    draft.keep(["/tmp/output"])
    assert (tmp_path / "outside" / "output").exists()


@pytest.mark.docker
@pytest.mark.slow
async def test_an_image_with_volumes_has_no_layers_for_a_commit_leaves_them_out(built, slow):
    import docker

    client = docker.from_env()
    name = f"{IMAGE}-volume"
    container = client.containers.create(IMAGE, ["true"])
    container.commit(*name.split(":"), conf={"Volumes": {"/testbed": {}}})
    container.remove()
    try:
        spec = spec_of().model_copy(update={"image": name})
        backend, record = open_backend("docker"), record_of(built[0], hidden=("volume",))
        assert await StartLayers(backend).choose(spec, record, "agent") == spec
        async with backend.open(spec) as sandbox:
            await prepare_for_agent(sandbox, record)
    finally:
        client.images.remove(name)
        client.close()


KILLED = """
import asyncio, os, signal, sys
from swe_aem.core import SandboxSpec
from swe_aem.sandbox import open_backend

async def main():
    spec = SandboxSpec(image=sys.argv[2], layer=sys.argv[3], ttl_s=900)
    async with open_backend(sys.argv[1]).make_layer(spec) as sandbox:
        await sandbox.run("rm -rf .git; sync", timeout_s=20)
        os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


async def test_a_killed_maker_leaves_no_layer_and_prune_removes_the_rest(backend, unpacked):
    key = "f" * 32
    command = [sys.executable, "-c", KILLED, backend.name, IMAGE, key]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, check=False)
    assert done.returncode == -9, done.stderr.decode()
    assert not await backend.has_layer(spec_of(layer=key))
    await backend.prune()
    assert not list(layers_dir().glob("*/.*.draft"))
    assert not list(layers_dir().glob("*/.*.gone"))
    assert key not in {name for _, name in kept_layers()}


async def test_layers_are_listed_and_go_before_their_image_but_never_from_under_a_sandbox(backend, unpacked, slow):
    record = record_of(unpacked[0], hidden=("collected",))
    spec = await StartLayers(backend).choose(spec_of(), record, "agent")
    full, mark = Disk(total=100, free=0), Watermark(high=0.5, low=0.5)
    on_engine, on_roots = Ledger.of_engine(), Ledger.of_roots()

    async def collect(engine):
        ours = obtained_by_us([IMAGE])
        items = [*await engine_stock(engine, on_engine, ours), *await roots_stock(on_roots, ours)]
        mine = [item for item in items if any(spec.layer in name for name in item.names)]
        assert [item.layer_of is not None for item in mine] == [True]
        collector = Collector(engine, on_engine, on_roots)
        result = await collector.collect(layers_dir().parent, mine, mark, lambda _: full)
        return [removal.outcome for removal in result.removals]

    async with connect() as engine:
        async with backend.open(spec):
            assert await collect(engine) == ["kept"]
        assert await collect(engine) == ["kept"]  # this process has reserved it
        for hold in [*on_engine.directory.glob("holds/*"), *on_roots.directory.glob("holds/*")]:
            hold.unlink()
        assert await collect(engine) == ["removed"]
    assert not await backend.has_layer(spec)
