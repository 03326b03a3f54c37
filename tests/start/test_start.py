"""`./start`: what it finds, fetches and refuses; against an index on this host, and on a fresh system."""

import hashlib
import importlib.machinery
import importlib.util
import os
import shutil
import subprocess
import sys
import threading
import tomllib
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
INDEX_VARIABLES = ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL", "PIP_CONFIG_FILE")


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The program as a module, with a .venv of its own and no index configured."""
    loader = importlib.machinery.SourceFileLoader("start_program", str(ROOT / "start"))
    spec = importlib.util.spec_from_loader("start_program", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    monkeypatch.setattr(module, "VENV", tmp_path / "venv")
    monkeypatch.setattr(module, "BIN", tmp_path / "venv" / "bin")
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in INDEX_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    return module


@pytest.fixture
def index(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A package index on this host: its directory and its address."""
    place = tmp_path / "index"
    (place / "uv").mkdir(parents=True)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(place)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield place, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def make_wheel(start: ModuleType, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wheel of uv whose program is a script, whose hash is the expected one."""
    wheel = place / "uv" / f"uv-{start.UV_VERSION}-py3-none-manylinux_2_17_x86_64.manylinux2014_x86_64.whl"
    with zipfile.ZipFile(wheel, "w") as files:
        files.writestr(f"uv-{start.UV_VERSION}.data/scripts/uv", f"#!/bin/sh\necho uv {start.UV_VERSION}\n")
    monkeypatch.setattr(start, "UV_WHEELS", {"x86_64": hashlib.sha256(wheel.read_bytes()).hexdigest()})
    monkeypatch.setattr(start.platform, "machine", lambda: "x86_64")


def test_uv_comes_out_of_its_wheel(
    start: ModuleType, index: tuple[Path, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    place, address = index
    make_wheel(start, place, monkeypatch)
    monkeypatch.setenv("PIP_INDEX_URL", f"{address}/")
    monkeypatch.setattr(start.shutil, "which", lambda name: None)
    found = start.find_uv()
    said = subprocess.run([found, "--version"], capture_output=True, text=True, check=True).stdout
    assert (found, said) == (start.BIN / "uv", f"uv {start.UV_VERSION}\n")
    shutil.rmtree(place)
    assert start.find_uv() == found, "what is there is not fetched again"
    assert capsys.readouterr().err.count("installs uv") == 1


def test_a_wheel_of_another_hash_is_refused(
    start: ModuleType, index: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    place, address = index
    make_wheel(start, place, monkeypatch)
    monkeypatch.setattr(start, "UV_WHEELS", {"x86_64": "0" * 64})
    monkeypatch.setenv("UV_INDEX_URL", address)
    with pytest.raises(start.CannotStart, match="not the file that its hash says"):
        start.fetch_uv()
    assert not (start.BIN / "uv").exists()


def test_an_index_without_it_or_out_of_reach_is_named_without_its_password(
    start: ModuleType, index: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, address = index
    monkeypatch.setenv("UV_DEFAULT_INDEX", address.replace("//", "//somebody:secret@"))
    with pytest.raises(start.CannotStart, match=f"^{address}/uv/ has no uv") as none_there:
        start.fetch_uv()
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://somebody:secret@127.0.0.1:9")
    with pytest.raises(start.CannotStart, match=r"cannot be read.*PIP_INDEX_URL") as unreachable:
        start.fetch_uv()
    assert "secret" not in f"{none_there.value}{unreachable.value}"


def test_a_password_of_the_index_does_not_follow_its_redirections(start: ModuleType) -> None:
    asked: list[tuple[str, str | None]] = []

    class Index(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append((self.path, self.headers["Authorization"]))
            self.send_response(302 if self.path == "/wheel" else 200)
            self.send_header("Location", "/storage")
            self.end_headers()

    with ThreadingHTTPServer(("127.0.0.1", 0), Index) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        start.fetch(f"http://me:geheim@127.0.0.1:{server.server_port}/wheel")
        server.shutdown()
        thread.join()
    assert asked == [("/wheel", "Basic bWU6Z2VoZWlt"), ("/storage", None)]


def test_the_index_is_that_of_uv_then_of_pip_then_of_pips_file(
    start: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configuration = tmp_path / "pip.conf"
    configuration.write_text("[global]\nextra-index-url = https://extra\nindex-url = https://file/simple/\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(configuration))
    assert start.package_index() == "https://file/simple"
    monkeypatch.setenv("PIP_INDEX_URL", "https://pip/simple")
    assert start.package_index() == "https://pip/simple"
    monkeypatch.setenv("UV_DEFAULT_INDEX", "https://uv/simple")
    assert start.package_index() == "https://uv/simple"


def test_torch_without_cuda_leaves_out_what_cuda_brings(start: ModuleType, tmp_path: Path) -> None:
    uv = shutil.which("uv")
    if uv is None:
        pytest.skip("needs uv")
    listed = tmp_path / "requirements.txt"
    command = [uv, "export", "-q", "--frozen", "--no-dev", "--no-emit-project", "--no-annotate", "--no-header"]
    subprocess.run([*command, "--extra=train", "--output-file", listed], cwd=ROOT, check=True)
    kept = [each.split("==")[0] for each in start.requirements(listed) if not start.CUDA.match(each)]
    assert {"trl", "transformers", "sympy", "pydantic"} <= set(kept)
    assert not [name for name in kept if name.startswith(("nvidia", "cuda", "triton", "torch"))]
    assert "boto3" not in kept
    assert "litellm" not in kept
    assert all("--hash=sha256:" in each for each in start.requirements(listed))


@pytest.mark.parametrize(
    ("setting", "value", "fix"),
    [
        ("kernel/apparmor_restrict_unprivileged_userns", "1", "kernel.apparmor_restrict_unprivileged_userns=0"),
        ("user/max_user_namespaces", "0", "user.max_user_namespaces=15000"),
    ],
)
def test_a_kernel_that_refuses_namespaces_to_users_is_told_with_the_command(
    start: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: str, value: str, fix: str
) -> None:
    monkeypatch.setattr(start.os, "geteuid", lambda: 1000)
    file = tmp_path / setting
    file.parent.mkdir(parents=True)
    file.write_text(f"{value}\n")
    assert f"`sudo sysctl -w {fix}`" in start.namespaces_fix(tmp_path)


def test_docker_in_a_command_or_its_configuration_needs_no_bubblewrap(start: ModuleType, tmp_path: Path) -> None:
    configuration = tmp_path / "run.yaml"
    configuration.write_text("rollout:\n  sandbox: {type: docker}\n")
    assert start.names_engine(["rollout", "--sandbox", "docker"])
    assert start.names_engine(["train", str(configuration)])
    assert not start.names_engine(["train", str(ROOT / "configs" / "quickstart.yaml")])


def test_it_asks_for_the_python_and_the_extras_of_the_project(start: ModuleType) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["requires-python"] == ">=3.11"
    assert set(project["optional-dependencies"]) >= start.WITH_TORCH
    assert "torch>=2.6" in project["optional-dependencies"]["transformers"]
    assert os.access(ROOT / "start", os.X_OK)


def test_without_a_command_it_explains_itself() -> None:
    done = subprocess.run([sys.executable, ROOT / "start", "--help"], capture_output=True, text=True, check=True)
    assert "./start COMMAND" in done.stdout


@pytest.mark.nightly
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("user", ["root", "user"])
def test_a_command_works_on_a_fresh_system(user: str, tmp_path: Path) -> None:
    if os.geteuid() != 0 or not all(map(shutil.which, ("debootstrap", "slirp4netns"))):
        pytest.skip("needs root, debootstrap and slirp4netns")
    done = subprocess.run(
        [ROOT / "benchmarks" / "fresh.sh", "bookworm", user, "bench"],
        env={**os.environ, "FRESH_DIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert "4 of 4 samples with a verdict resolved" in done.stdout
