"""The Python environment of a harness, and its packages of the npm registry: `swe-aem harness install` makes both, a
rollout uses them."""

import shutil
import subprocess
import sys
from pathlib import Path

from swe_aem.cache import cache_dir
from swe_aem.errors import UserError
from swe_aem.harness.spec import BUNDLED, HarnessSpec

PACKAGES = "/.swe-aem-packages"
"""Where a sandbox sees the packages of the npm registry."""
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


def packages(spec: HarnessSpec, pins: tuple[str, ...] = ()) -> Path | None:
    """The directory with its packages of the npm registry; None if it asks for none."""
    return directory(spec, pins) / "npm" / "node_modules" if spec.npm else None


def install(spec: HarnessSpec, pins: tuple[str, ...] = ()) -> Path:
    """Install the environment if it is missing, and return its directory. Raises `UserError` if uv or npm fails or is
    missing."""
    place = directory(spec, pins)
    if installed(spec, pins):
        return place
    uv = _program("uv", "environments of harnesses are made with uv", "pip install uv")
    npm = _program("npm", f"packages of the harness {spec.name} are npm's", "apt-get install npm") if spec.npm else ""
    shutil.rmtree(place, ignore_errors=True)
    _run([uv, "venv", "--quiet", "--python", _python(spec), str(place)])
    requirements = spec.requirements(pins)
    if requirements:
        python = str(place / "bin" / "python")
        arguments = ["--quiet", "--compile-bytecode", "--python", python, "--requirements", "-"]
        _run([uv, "pip", "install", *arguments], given="\n".join(requirements))
    if spec.npm:
        _install_npm(npm, spec.npm_packages(pins), place / "npm")
    (place / _COMPLETE).touch()
    return place


def _program(name: str, why: str, fix: str) -> str:
    """The path of an installer; raises `UserError` if it is missing."""
    found = shutil.which(name)
    if found is None:
        raise UserError(f"{why}, which is not installed: {fix}")
    return found


def _install_npm(npm: str, asked: tuple[str, ...], place: Path) -> None:
    """Install packages of the npm registry without running scripts of theirs."""
    place.mkdir()
    options = ["--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    try:
        _run([npm, "install", "--prefix", str(place), *options, *asked])
    except UserError as error:
        raise UserError(f"{error}\n`npm view PACKAGE versions` lists the versions that there are") from None


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
