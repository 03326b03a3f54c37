"""The host's own system, read-only, as the root of a sandbox: the default root for the bundled tasks.

Only system directories, this interpreter and a copy of pytest are visible. Home directories, the checkout (which holds
answer keys) and everything else of the host are not mounted at all. Packages that somebody installed for an interpreter
of the host are covered: verdicts must not depend on them.
"""

import compileall
import hashlib
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from swe_aem.cache import cache_dir
from swe_aem.errors import UserError
from swe_aem.sandbox.isolation import HOSTNAME

HOST_IMAGE = "swe-aem/micro:1"
"""The image name that bubblewrap serves from the host: a plain Python with git and pytest."""

TOOLCHAIN = "/opt/swe-aem"
HOME = "/home/agent"
_SYSTEM = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
_ETC = ("ld.so.cache", "ld.so.conf", "ld.so.conf.d", "alternatives", "localtime", "ssl/certs", "ca-certificates")
_PACKAGE = Path(__file__).resolve().parents[1]
_SECRETS = (_PACKAGE.parent if (_PACKAGE.parent / "pyproject.toml").exists() else _PACKAGE,)
"""The checkout, or an installed package (a wheel carries answer keys): hidden where it lies below a directory that
sandboxes see, e.g. below /usr."""
_OWN_ETC = {
    "passwd": f"root:x:0:0:root:{HOME}:/bin/bash\nnobody:x:65534:65534::/:/bin/false\n",
    "group": "root:x:0:\nnogroup:x:65534:\n",
    "hosts": f"127.0.0.1 localhost {HOSTNAME}\n::1 localhost\n",
}
_INTERPRETER = re.compile(r"(python|pypy)[0-9.]*[a-z]?")
_ASK = """
import site, sysconfig
for path in site.getsitepackages() + [sysconfig.get_path(name) for name in ("purelib", "platlib")]:
    print(path)
"""
_ASK_TIMEOUT_S = 60.0
_COVERED = "covered"
"""File of the toolchain: the directories of the host's installed packages, one a line."""
_TEST_RUNNER = ("pytest", "pluggy", "iniconfig", "packaging", "pygments")
_SITE = f"lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
"""Where a virtual environment has its packages: the interpreter finds them whatever a command sets in PYTHONPATH."""


def _interpreter() -> tuple[Path, Path]:
    """(prefix, executable) of the interpreter below any virtual environment."""
    prefix = Path(sys.base_prefix).resolve()
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    executable = Path(sysconfig.get_config_var("BINDIR") or prefix / "bin") / name
    executable = executable if executable.exists() else prefix / "bin" / name
    if not executable.exists():
        raise UserError(f"cannot find the interpreter {name} below {prefix}; use the sandbox docker")
    return prefix, executable


def _interpreters() -> list[Path]:
    """Every Python interpreter that commands can see, links resolved."""
    prefix, executable = _interpreter()
    found = {executable.resolve()}
    for directory in {Path("/usr/bin"), Path("/usr/local/bin"), prefix / "bin"}:
        found |= {path.resolve() for path in directory.glob("*py*") if _INTERPRETER.fullmatch(path.name)}
    return sorted(path for path in found if os.access(path, os.X_OK))


@cache
def digest() -> str:
    """A hash of what decides which toolchain this host gives to sandboxes: interpreters, versions, own files."""
    distributions = [importlib.metadata.distribution(name) for name in _TEST_RUNNER]
    versions = [f"{distribution.name}={distribution.version}" for distribution in distributions]
    interpreters = [f"{path}:{(found := path.stat()).st_size}:{found.st_mtime_ns}" for path in _interpreters()]
    key = "|".join([_SITE, sys.version, str(_interpreter()[1]), *_OWN_ETC.values(), *versions, *interpreters])
    return hashlib.sha256(key.encode()).hexdigest()[:16]


def _package_directories() -> list[str]:
    """Where the visible interpreters look for installed packages, as each of them says itself."""
    found: set[Path] = set()
    for interpreter in _interpreters():
        # No site-packages, no variables, no directory of the user's: the installation's own answer.
        done = subprocess.run(
            [interpreter, "-E", "-s", "-S", "-c", _ASK], capture_output=True, text=True, timeout=_ASK_TIMEOUT_S
        )
        if done.returncode == 0:  # one that does not run here does not run in a sandbox
            found |= {Path(line).resolve() for line in done.stdout.splitlines()}
    return sorted(map(str, found))


@cache
def toolchain() -> Path:
    """A virtual environment (python, python3, pytest and what it needs) with an `etc/` besides; made once.

    Mounted read-only at `TOOLCHAIN`. Its name is `digest`, so an upgrade makes a new one.
    """
    _, executable = _interpreter()
    distributions = [importlib.metadata.distribution(name) for name in _TEST_RUNNER]
    target = cache_dir() / "toolchains" / digest()
    if target.exists():
        return target
    draft = target.with_name(f"{target.name}.{os.getpid()}")
    (draft / "bin").mkdir(parents=True)
    for name in ("python", "python3"):
        (draft / "bin" / name).symlink_to(executable)
    settings = f"home = {executable.parent}\ninclude-system-site-packages = false\n"
    (draft / "pyvenv.cfg").write_text(settings)
    runner = draft / "bin" / "pytest"
    runner.write_text('#!/bin/sh\nexec python -m pytest "$@"\n')
    runner.chmod(0o755)
    for distribution in distributions:
        for file in distribution.files or []:
            source = Path(str(distribution.locate_file(file)))
            if ".." in file.parts or not source.is_file():
                continue  # console scripts lie outside the package directory
            (draft / _SITE / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, draft / _SITE / file)
    compileall.compile_dir(draft / _SITE, quiet=2)
    (draft / "etc").mkdir()
    for name, text in _OWN_ETC.items():
        (draft / "etc" / name).write_text(text)
    (draft / _COVERED).write_text("".join(f"{path}\n" for path in _package_directories()))
    try:
        draft.rename(target)
    except OSError:  # another process was faster
        shutil.rmtree(draft)
    return target


def mounts(tools: str, empty: str) -> list[str]:
    """bubblewrap arguments that build the root: system, interpreter, toolchain, a few files of /etc.

    `tools` is where the launcher shows the toolchain, `empty` an empty directory that covers what must not be seen.
    """
    covers = [argument for covered in _covered() for argument in ("--ro-bind", empty, covered)]
    return [*_system(), *covers, "--ro-bind", tools, TOOLCHAIN]


def _shown() -> list[Path]:
    """The directories of the host that sandboxes see with everything below them."""
    prefix, _ = _interpreter()
    return [Path("/usr"), *([] if prefix.is_relative_to("/usr") else [prefix])]


@cache
def _system() -> tuple[str, ...]:
    """The arguments for what is shown of the host."""
    arguments = []
    for directory in map(Path, _SYSTEM):
        if directory.is_symlink():
            arguments += ["--symlink", str(directory.readlink()), str(directory)]
        elif directory.exists():
            arguments += ["--ro-bind", str(directory), str(directory)]
    for name in _ETC:
        arguments += ["--ro-bind-try", f"/etc/{name}", f"/etc/{name}"]
    for name in _OWN_ETC:
        arguments += ["--symlink", f"{TOOLCHAIN}/etc/{name}", f"/etc/{name}"]
    shown = [argument for path in _shown() for argument in ("--ro-bind", str(path), str(path))]
    return (*shown, *arguments)


@cache
def _covered() -> tuple[str, ...]:
    """Directories below the shown ones that must look empty: the checkout, installed packages."""
    packages = map(Path, (toolchain() / _COVERED).read_text().splitlines())
    candidates = _outermost([*_SECRETS, *packages])
    below = [path for path in candidates if any(path.is_relative_to(directory) for directory in _shown())]
    return tuple(str(path) for path in below if path.exists())


def _outermost(paths: Iterable[Path]) -> list[Path]:
    """The paths that lie below none of the others."""
    found: list[Path] = []
    for path in sorted(paths):
        if not any(path.is_relative_to(above) for above in found):
            found.append(path)
    return found


def environment() -> dict[str, str]:
    """PATH, HOME and USER for commands in such a root."""
    return {
        "PATH": f"{TOOLCHAIN}/bin:/usr/local/bin:/usr/bin:/bin",
        "HOME": HOME,
        "USER": "root",
    }
