"""Checks of the machine itself: memory, processors, disk, limits, versions, programs, GPU."""

import importlib.metadata
import os
import platform
import resource
import shutil
import subprocess
import tempfile

from swe_aem.cache import cache_dir
from swe_aem.core.filesystem import network_filesystem
from swe_aem.core.finding import Finding, fail, ok, warn
from swe_aem.sandbox import allowance
from swe_aem.sandbox.open_files import FILES_PER_TRAJECTORY

_GIB = 1 << 30
LEAST_DISK_BYTES = 5 * _GIB
LEAST_MEMORY_BYTES = 4 * _GIB
LEAST_FILES = 1024
_PROGRAM_TIMEOUT_S = 5.0
_PACKAGES = ("swebench", "docker", "datasets", "renderers")
_TRAINING = ("torch", "transformers")


def python() -> Finding:
    """Interpreter and operating system."""
    found = f"Python {platform.python_version()} on {platform.system()} {platform.release()} {platform.machine()}"
    if platform.system() != "Linux":
        return fail("python", found, "sandboxes need Linux: use a Linux host or virtual machine")
    return ok("python", found)


def packages() -> Finding:
    """Versions of the packages that rollouts need."""
    versions, missing = _versions(_PACKAGES)
    if missing:
        return fail("packages", f"{', '.join(missing)} not installed", "uv sync")
    return ok("packages", versions)


def training_packages() -> Finding:
    """Versions of the packages that training needs."""
    versions, missing = _versions(_TRAINING)
    if missing:
        return fail("training", f"{', '.join(missing)} not installed", "uv sync --all-extras")
    return ok("training", versions)


def _versions(names: tuple[str, ...]) -> tuple[str, list[str]]:
    found, missing = [], []
    for name in names:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
    return ", ".join(found), missing


def git() -> Finding:
    """The git program, which makes the repositories of the bundled tasks."""
    if shutil.which("git") is None:
        return fail("git", "not installed", "apt-get install git")
    return ok("git", _said("git", "--version"))


def processors() -> Finding:
    """Processors that this process may use."""
    count = allowance.processors()
    return ok("processors", f"{count}; --concurrency of about {2 * count} keeps them busy with scripted agents")


def memory() -> Finding:
    """Memory that is free now, and that this process may use."""
    free, total = allowance.free_memory_bytes(), os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    found = f"{free / _GIB:.1f} of {total / _GIB:.1f} GiB free"
    if free < LEAST_MEMORY_BYTES:
        return warn("memory", found, "a sandbox may use 4 GiB: lower --memory or --concurrency")
    return ok("memory", found)


def disk() -> Finding:
    """Space and permissions in the cache."""
    place = cache_dir()
    try:
        place.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        return fail(
            "cache",
            f"{place} cannot be written ({error.strerror})",
            "set SWE_AEM_CACHE to a directory that can be written",
        )
    free = shutil.disk_usage(place).free
    found = f"{place}: {free / _GIB:.0f} GiB free"
    if free < LEAST_DISK_BYTES:
        return warn("cache", found, "swe-aem images gc, or set SWE_AEM_CACHE to a larger disk")
    if (kind := network_filesystem(place)) is not None:
        found = f"{found}, on {kind}: sandboxes start slowly"
        return warn("cache", found, "set SWE_AEM_CACHE to a directory on a disk of this host")
    return ok("cache", found)


def temporary() -> Finding:
    """Space in the directory for temporary files."""
    place = tempfile.gettempdir()
    free = shutil.disk_usage(place).free
    found = f"{place}: {free / _GIB:.1f} GiB free"
    if free < _GIB:
        return warn("tmp", found, "free some space, or set TMPDIR to a larger disk")
    return ok("tmp", found)


def open_files() -> Finding:
    """How many files and sockets a process may have open; a sandbox takes a few."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    found = f"{soft}, raised to {hard} where sandboxes are opened" if soft < hard else f"{soft}"
    if hard < LEAST_FILES:
        return warn("open files", found, f"ulimit -Hn {LEAST_FILES} as root; a trajectory takes {FILES_PER_TRAJECTORY}")
    return ok("open files", found)


def gpu() -> Finding:
    """GPUs that the driver reports."""
    if shutil.which("nvidia-smi") is None:
        return fail("gpu", "no nvidia-smi", "training a large policy needs NVIDIA GPUs and their driver on this host")
    listed = _said("nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader")
    names = [line.strip() for line in listed.splitlines() if line.strip()]
    if not names:
        return fail("gpu", "nvidia-smi lists none", "nvidia-smi; see what the driver says")
    return ok("gpu", f"{len(names)} x {names[0]}")


def _said(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=_PROGRAM_TIMEOUT_S, check=True)
    return done.stdout.strip()
