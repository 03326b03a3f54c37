"""`swe-aem images` as a user runs it."""

import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import docker
import docker.errors
import pytest
from typer.testing import CliRunner

from swe_aem.cli.images import app
from swe_aem.errors import UserError
from swe_aem.sandbox.images.ledger import Ledger
from swe_aem.sandbox.images.recipes import how_to_get
from swe_aem.tasks import load_tasks
from tests.task_rows import write_tasks

MakeImage = Callable[..., Any]


def images(*arguments: str) -> tuple[int, str, str]:
    """Run `swe-aem images` in this process; returns exit code, stdout, stderr."""
    try:
        result = CliRunner().invoke(app, [*arguments], catch_exceptions=False)
    except UserError as error:  # as `main` does
        return 2, "", str(error)
    return result.exit_code, result.stdout, result.stderr


@pytest.mark.docker
@pytest.mark.parametrize("engine", ["docker", pytest.param("podman", marks=pytest.mark.podman)])
def test_a_task_sets_images_are_pulled_listed_and_removed(
    engine: str,
    registry: str,
    make_image: MakeImage,
    tmp_path: Path,
    own_cache: Path,
    request: pytest.FixtureRequest,
) -> None:
    if engine == "podman":
        request.getfixturevalue("podman_of_registry")
    of = ("--engine", engine)
    made = [make_image() for _ in range(2)]
    tasks, pins = tmp_path / "tasks.jsonl", tmp_path / "images.pins"
    write_tasks(tasks, [f"registry.invalid/{image.repository}:1" for image in made])
    code, out, _ = images("ls", "--tasks", str(tasks), *of)
    assert (code, out.count("missing")) == (1, 2)
    mirror = ("--mirror", f"registry.invalid={registry}")
    code, out, err = images("pull", "--tasks", str(tasks), "--pins", str(pins), *mirror, *of)
    assert (code, "2 pulled" in out) == (0, True), err
    assert all(image.digest in pins.read_text() for image in made)
    code, out, _ = images("pull", "--tasks", str(tasks), "--pins", str(pins), "--json", *of)
    assert [json.loads(line)["status"] for line in out.splitlines()] == ["present"] * 2
    code, out, _ = images("ls", "--tasks", str(tasks), "--json", *of)
    assert (code, {json.loads(line)["image_id"] for line in out.splitlines()}) == (0, {image.id for image in made})
    code, out, _ = images("gc", "--high", "0%", "--low", "0%", "--dry-run", *of)
    assert (code, out.count("would be removed")) == (0, 2)
    code, out, _ = images("gc", "--high", "0%", "--low", "0%", *of)
    assert (code, out.count("removed  ")) == (1, 2)  # 1: a disk is never empty
    assert images("ls", "--tasks", str(tasks), *of)[0] == 1


@pytest.mark.docker
@pytest.mark.slow
def test_ctrl_c_ends_a_pull_and_the_same_command_resumes(proxy: Any, make_image: MakeImage, own_cache: Path) -> None:
    made = [make_image() for _ in range(2)]
    names = [image.at(proxy.address) for image in made]
    proxy.add("stall", f"{made[1].repository}/blobs/", times=1)
    command = [sys.executable, "-c", "from swe_aem.cli import main; main()", "images", "pull", *names]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    proxy.wait_for(f"{made[1].repository}/blobs/")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, "repeat the command to resume" in err) == (130, True), err
    code, out, err = images("pull", *names)
    assert (code, "0 failed" in out) == (0, True), err


@pytest.mark.docker
def test_a_lock_of_preflight_pins_by_image_id(registry: str, make_image: MakeImage, tmp_path: Path) -> None:
    made = make_image()
    tasks, lock = tmp_path / "tasks.jsonl", tmp_path / "tasks.lock"
    write_tasks(tasks, [made.at(registry)])
    entry = {
        "task_id": "o__n-0",
        "record": "0",
        "passed": True,
        "network": "none",
        "backend": "docker",
        "image": "sha256:" + "0" * 64,
        **dict.fromkeys(("gold_runs", "gold_resolved", "noop_runs"), 1),
        **dict.fromkeys(("noop_resolved", "boot_s", "test_s", "max_test_s", "peak_memory_bytes"), 0),
        "checked_on": "2026-01-01",
    }
    lock.write_text(json.dumps(entry) + "\n")
    code, out, _ = images("pull", "--tasks", str(tasks), "--lock", str(lock))
    assert (code, "not what was pinned" in out) == (1, True)
    lock.write_text(json.dumps(entry | {"image": made.id}) + "\n")
    assert images("pull", "--tasks", str(tasks), "--lock", str(lock))[0] == 0


@pytest.mark.docker
def test_a_recipe_is_built_from_a_registrys_base_or_without(
    registry: str, make_image: MakeImage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = make_image(files={"bin/true": b"", "etc/base": b"from a registry"})
    name = f"{base.repository}/built:1"
    (tmp_path / "Dockerfile").write_text(f"FROM {base.at('registry.invalid')}\nENV A=1\n")
    script = tmp_path / "build.sh"
    script.write_text(
        f"#!/bin/sh\nset -eu\nimage={name}\n"
        'if [ "${1:-}" = --registry ]; then exec docker build --quiet --tag "$image" "$(dirname "$0")"; fi\n'
        f'docker import --change "ENV A=2" - "$image" <{tmp_path}/empty.tar\n'
    )
    script.chmod(0o755)
    (tmp_path / "empty.tar").write_bytes(b"\0" * 10240)
    monkeypatch.setenv("SWE_AEM_MIRRORS", f"registry.invalid={registry}")
    code, out, err = images("build", str(tmp_path))
    assert (code, name in out, "from a registry" in err) == (0, True, True), err
    docker.from_env().images.remove(name)
    code, _, err = images("build", str(tmp_path), "--from", "packages")
    assert (code, "from Debian packages" in err) == (0, True), err
    code, _, err = images("build", str(tmp_path / "nothing"))
    assert (code, "no recipe" in err) == (2, True)


def test_without_an_engine_every_command_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere")
    for command in (["pull", "debian"], ["gc"], ["build", "micro"], ["unpack", "debian"]):
        code, out, err = images(*command)
        assert (code, out) == (2, "")
        assert "no docker engine answers at unix:///nowhere" in err
    code, _, err = images("ls")
    assert (code, "left out" in err) == (0, True)


HARBOR = Path(__file__).parents[2] / "data" / "families" / "harbor" / "add-numbers"


@pytest.fixture
def harbor_set(tmp_path: Path, require_docker: None, own_cache: Path) -> Iterator[Path]:
    """A directory with three task folders, of which one cannot be built. Their images go afterwards."""
    for name in ("one", "two", "bad"):
        shutil.copytree(HARBOR, tmp_path / "set" / name)
        (tmp_path / "set" / name / "environment" / "own").write_text(f"{tmp_path}\n")
    with (tmp_path / "set" / "bad" / "environment" / "Dockerfile").open("a") as dockerfile:
        dockerfile.write("RUN echo no compiler; false\n")
    yield tmp_path / "set"
    client = docker.from_env()
    for record in load_tasks(str(tmp_path / "set")):
        with suppress(docker.errors.ImageNotFound):
            client.images.remove(record.task.image, force=True)


@pytest.mark.docker
@pytest.mark.slow
def test_the_images_of_a_set_are_built_once_and_failures_are_named(harbor_set: Path) -> None:
    code, out, _ = images("build", "--tasks", str(harbor_set))
    assert code == 1
    assert "2 built, 0 were there, 1 failed" in out
    assert re.search(r"swe-aem/harbor-bad:\w+ failed: .*no compiler", out)
    code, out, _ = images("build", "--tasks", str(harbor_set), "--id", "one", "--id", "two")
    assert (code, out) == (0, "0 built, 2 were there, 0 failed\n")
    code, out, _ = images("build", "--tasks", str(harbor_set), "--id", "bad", "--timeout", "1")
    assert (code, "1 failed" in out) == (1, True)
    entries = Ledger.of_engine().entries()
    assert sum(entry.origin == "build" for entry, _ in entries.values()) == 2, "gc may remove them"


@pytest.mark.docker
def test_a_missing_image_says_how_it_is_made(harbor_set: Path) -> None:
    code, out, _ = images("pull", "--tasks", str(harbor_set), "--id", "one", "--attempts", "1", "--timeout", "5")
    assert (code, "get it with `swe-aem images build --tasks DIR`" in out) == (1, True)
    assert "swe-aem images build --tasks" in images("unpack", "--tasks", str(harbor_set), "--id", "one")[2]


@pytest.mark.docker
def test_published_images_are_to_be_pulled(tmp_path: Path, require_docker: None) -> None:
    write_tasks(tmp_path / "rows.jsonl", ["owner/image:1"])
    code, _, err = images("build", "--tasks", str(tmp_path / "rows.jsonl"))
    assert (code, f"`swe-aem images pull --tasks {tmp_path / 'rows.jsonl'}`" in err) == (2, True)
    assert images("build", "--tasks", "micro", "--limit", "1") == (0, "0 built, 1 were there, 0 failed\n", "")


@pytest.mark.parametrize("arguments", [(), ("micro", "--tasks", "micro")])
def test_what_to_build_must_be_said_once(arguments: tuple[str, ...]) -> None:
    code, _, err = images("build", *arguments)
    assert (code, "say what to build" in err) == (2, True)


@pytest.mark.parametrize(
    ("image", "command"),
    [
        ("swe-aem/harbor-a:1", "swe-aem images build --tasks"),
        ("swe-aem/micro:1", "swe-aem images build micro"),
        ("swe-aem/pypi:1", "swe-aem tasks build SET"),
        ("owner/name:1", "swe-aem images pull owner/name:1"),
    ],
)
def test_each_kind_of_image_has_its_command(image: str, command: str) -> None:
    assert how_to_get(image).startswith(f"`{command}")
