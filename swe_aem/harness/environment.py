"""The Python environment of a harness: `swe-aem harness install` makes it, and a rollout uses it."""

import shutil
import subprocess
import sys
from pathlib import Path

from swe_aem.cache import cache_dir
from swe_aem.errors import UserError
from swe_aem.harness.spec import BUNDLED, HarnessSpec

_COMPLETE = "complete"
"""A file that marks an environment whose installation finished."""


def directory(spec: HarnessSpec, pins: tuple[str, ...] = ()) -> Path:
    """The directory of the environment, whether it exists or not; its name holds a hash of the packages in it."""
    return cache_dir() / "harness" / f"{spec.name}-{spec.digest(pins)}"


def installed(spec: HarnessSpec, pins: tuple[str, ...] = ()) -> bool:
    """Is the environment installed?"""
    return (directory(spec, pins) / _COMPLETE).exists()


def interpreter(spec: HarnessSpec, pins: tuple[str, ...] = ()) -> Path:
    """The environment's Python; raises `UserError` if it was not installed."""
    if not installed(spec, pins):
        raise UserError(f"the harness {spec.name} is not installed: {_command(spec, pins)}")
    return directory(spec, pins) / "bin" / "python"


def install(spec: HarnessSpec, pins: tuple[str, ...] = ()) -> Path:
    """Install the environment if it is missing, and return its directory. Raises `UserError` if uv fails or is
    missing."""
    place = directory(spec, pins)
    if installed(spec, pins):
        return place
    uv = shutil.which("uv")
    if uv is None:
        raise UserError("environments of harnesses are made with uv, which is not installed: pip install uv")
    shutil.rmtree(place, ignore_errors=True)
    _run([uv, "venv", "--quiet", "--python", _python(spec), str(place)])
    requirements = spec.requirements(pins)
    if requirements:
        python = str(place / "bin" / "python")
        arguments = ["--quiet", "--compile-bytecode", "--python", python, "--requirements", "-"]
        _run([uv, "pip", "install", *arguments], given="\n".join(requirements))
    (place / _COMPLETE).touch()
    return place


def _python(spec: HarnessSpec) -> str:
    """This interpreter if its version fits, else the version that uv has to find."""
    from packaging.specifiers import SpecifierSet

    version = ".".join(map(str, sys.version_info[:3]))
    return sys.executable if SpecifierSet(spec.requires_python).contains(version) else spec.requires_python


def _run(command: list[str], given: str = "") -> None:
    done = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise UserError(f"{' '.join(command[:3])}: {done.stderr.strip()[-2000:]}")


def _command(spec: HarnessSpec, pins: tuple[str, ...]) -> str:
    chosen = "".join(f" --pin {pin}" for pin in pins)
    return f"swe-aem harness install {spec.name if spec.name in BUNDLED else spec.file}{chosen}"
