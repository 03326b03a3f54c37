"""The setting `sandbox`: names, settings of each backend's own, sandboxes from elsewhere, and lifetimes of backends."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import docker
import pytest

import swe_aem as sa
from swe_aem.core import SandboxSpec
from swe_aem.core.settings import load
from swe_aem.errors import UserError
from swe_aem.rollout import RolloutConfig, RolloutRun, chosen_tasks, default_directory
from swe_aem.rollout.config import differences
from swe_aem.sandbox import SANDBOXES, open_backend
from swe_aem.sandbox.bubblewrap import BubblewrapBackend
from swe_aem.sandbox.docker import DockerBackend
from swe_aem.store import Store
from swe_aem.testing.sandbox import FakeBackend

OWN = """
from swe_aem.sandbox.config import BubblewrapConfig
from swe_aem.sandbox.bubblewrap import BubblewrapBackend


class Mine(BubblewrapConfig):
    zone: str = "a"

    def backend(self):
        backend = Backend()
        backend.name = f"mine-{self.zone}"
        return backend


class Backend(BubblewrapBackend):
    entered = left = 0

    async def __aenter__(self):
        Backend.entered += 1
        return self

    async def __aexit__(self, *exc):
        Backend.left += 1


broken = 3
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with a sandbox of somebody's own in `mine.py`."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(OWN)
    return tmp_path


def setting(value: Any) -> Any:
    """A setting `sandbox` as a configuration has it."""
    return load(RolloutConfig, {"sandbox": value}).sandbox


def test_a_plain_name_is_short_for_one_without_settings() -> None:
    assert setting("docker") == setting({"type": "docker"}) == setting({"type": "docker", "runtime": None})
    assert setting("docker").model_dump() == {"type": "docker"}
    config = load(RolloutConfig, {"sandbox": "docker"}, assignments=["sandbox.runtime=runsc"])
    assert config.sandbox == setting({"type": "docker", "runtime": "runsc"})
    assert RolloutConfig.model_validate_json(config.model_dump_json()) == config
    assert RolloutConfig().sandbox.type == "bubblewrap"
    assert str(default_directory(config)) == "runs/micro-gold-docker"


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("dokcer", r"sandbox: no sandbox 'dokcer' \(did you mean docker\?\)"),
        ({"type": 3}, "sandbox.type is 3: give a string"),
        ({"runtime": "runsc"}, "sandbox.runtime is unknown; there are launcher"),
        ({"type": "docker", "runtme": "x"}, r"sandbox\.runtme is unknown \(did you mean runtime\?\)"),
        ({"type": "bubblewrap", "launcher": "x"}, 'sandbox.launcher is "x": give one of bubblewrap, util-linux'),
        ("mine.py", "say which object of the file, as in mine.py:NAME"),
        (3, "give a name, or a mapping of type and settings, not 3"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_fix(value: Any, said: str) -> None:
    with pytest.raises(UserError, match=said):
        setting(value)


def test_a_run_whose_configuration_has_the_plain_name_is_the_same_run(tmp_path: Path) -> None:
    stored = json.loads(RolloutConfig().model_dump_json()) | {"sandbox": "docker"}
    old, new = RolloutConfig.model_validate(stored), load(RolloutConfig, {"sandbox": {"type": "docker"}})
    assert differences(old, new) == []
    other = load(RolloutConfig, {"sandbox": {"type": "docker", "runtime": "runsc"}})
    assert differences(old, other) == ['sandbox.runtime was null and is now "runsc"']
    assert differences(old, RolloutConfig()) == ['sandbox.type was "docker" and is now "bubblewrap"']


def test_reading_a_configuration_imports_nothing_of_somebody_s_own(own: Path) -> None:
    (own / "mine.py").write_text("raise RuntimeError('imported')")
    given = {"type": "mine.py:Mine", "zone": "b"}
    assert RolloutConfig.model_validate({"sandbox": given}).model_dump()["sandbox"] == given
    with pytest.raises(RuntimeError, match="imported"):
        open_backend(given)


@pytest.mark.bubblewrap
@pytest.mark.usefixtures("require_bubblewrap")
def test_a_sandbox_of_somebody_s_own_runs_tasks(own: Path) -> None:
    settings = {"agent": "gold", "twins": False, "scheduling": {"concurrency": 1}}
    run = sa.rollout(sa.load_tasks("tasks/micro", limit=1), sandbox={"type": "mine.py:Mine", "zone": "b"}, **settings)
    assert (str(run.directory), run.summary.resolved) == ("runs/micro-gold-Mine", 1)
    stored = json.loads((run.directory / "config.json").read_text())
    assert stored["config"]["sandbox"] == {"type": "mine.py:Mine", "zone": "b"}
    mine = SANDBOXES.find("mine.py:Mine").value
    backend = sys.modules[mine.__module__].Backend
    assert backend.entered == backend.left == 1
    with pytest.raises(UserError, match=r'sandbox\.zone was "b" and is now null'):
        sa.rollout(sa.load_tasks("tasks/micro", limit=1), sandbox=mine, out=run.directory, **settings)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"type": "mine.py:Mine", "zones": "b"}, r"sandbox mine.py:Mine: zones is unknown \(did you mean zone\?\)"),
        ("mine.py:broken", "mine.py:broken is int, which is no backend"),
        ("mine.py:Nobody", "mine.py has no Nobody"),
        ("nobody.py:Mine", "there is no file nobody.py"),
    ],
)
def test_what_is_no_sandbox_says_so_when_it_is_opened(own: Path, value: Any, said: str) -> None:
    setting(value)
    with pytest.raises(UserError, match=said):
        open_backend(value)


def test_a_backend_s_own_class_will_do(own: Path) -> None:
    assert open_backend("swe_aem.testing.sandbox:FakeBackend").name == "fake"
    assert isinstance(open_backend({"type": "mine.py:Backend"}), BubblewrapBackend)


def test_names_cost_no_import_of_the_types() -> None:
    code = (
        "import sys; from swe_aem.sandbox import SANDBOXES; assert SANDBOXES.names[:2] == ('bubblewrap', 'docker'); "
        "assert not {'pydantic', 'docker', 'swe_aem.core'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


async def test_a_run_enters_its_own_backend_and_leaves_one_that_it_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[FakeBackend] = []

    def open_fake(setting: Any) -> FakeBackend:
        made.append(FakeBackend())
        return made[-1]

    monkeypatch.setattr(sys.modules[RolloutRun.__module__], "open_backend", open_fake)
    config = RolloutConfig(limit=1)
    tasks, seen = chosen_tasks(config), []

    def components(config: RolloutConfig, tasks: Any) -> Any:
        seen.append([backend.entered for backend in (*made, given)])
        raise RuntimeError("seen enough")

    given = FakeBackend()
    for lent in (None, given):
        store = Store(tmp_path / str(len(seen)))
        run = RolloutRun(config, tasks, store, backend=lent, open_components=components)
        with run as rollout, pytest.raises(RuntimeError, match="seen enough"):
            await rollout.run()
    assert seen == [[0, 1, 0], [0, 0, 0]], "one is made to see whether it can work, one is entered"
    assert [backend.entered for backend in made] == [0, 0]


async def test_leaving_the_docker_backend_ends_its_threads() -> None:
    async with DockerBackend() as backend:
        await backend._call(lambda: None)
        own = [thread for thread in threading.enumerate() if thread in backend._threads._threads]
        assert own
    assert not any(thread.is_alive() for thread in own)


@pytest.mark.docker
@pytest.mark.slow
async def test_leaving_the_docker_backend_closes_its_connections(require_docker: None) -> None:
    before = len(os.listdir("/proc/self/fd"))
    async with DockerBackend() as backend:
        assert await backend.answers()
        assert len(os.listdir("/proc/self/fd")) > before
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.docker
@pytest.mark.slow
async def test_containers_run_under_the_runtime_of_the_setting(require_docker: None) -> None:
    spec = SandboxSpec(image="swe-aem/micro:1", workdir="/tmp/w", ttl_s=300)
    async with open_backend({"type": "docker", "runtime": "runc"}) as backend, backend.open(spec) as sandbox:
        container = docker.from_env().containers.get(sandbox.id)
        assert container.attrs["HostConfig"]["Runtime"] == "runc"
    async with open_backend({"type": "docker", "runtime": "no-such"}) as backend:
        with pytest.raises(UserError, match=r"has no runtime 'no-such'; it has .*runc"):
            async with backend.open(spec):
                pass
