"""The newest release of OpenHands' SDK, in an environment of its own."""

import shutil
import subprocess
from functools import cache

from swe_aem.harness import install, read_harness_spec
from swe_aem.harness.environment import directory
from tests.conftest import absent

NEWEST = ("openhands-sdk", "openhands-tools")
"""Pins without a version: what the package registry has by now."""


@cache
def install_newest() -> None:
    """Install it anew, once in this process: that of an earlier day may have an older one. Prints which it is."""
    if shutil.which("uv") is None:
        absent("uv is not installed")
    spec = read_harness_spec("openhands")
    shutil.rmtree(directory(spec, NEWEST), ignore_errors=True)
    python = install(spec, NEWEST) / "bin" / "python"
    print(subprocess.check_output(["uv", "pip", "freeze", "--python", str(python)], text=True))
