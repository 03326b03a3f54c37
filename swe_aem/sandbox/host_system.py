"""The host's own system, read-only, as the root of a sandbox: the default root for the bundled tasks.

Only system directories, this interpreter and a copy of pytest are visible. Home directories, the checkout (which holds
answer keys) and everything else of the host are not mounted at all.
"""

import compileall
import hashlib
import importlib.metadata
import os
import shutil
import sys
import sysconfig
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
_TEST_RUNNER = ("pytest", "pluggy", "iniconfig", "packaging", "pygments")


def _interpreter() -> tuple[Path, Path]:
    """(prefix, executable) of the interpreter below any virtual environment."""
    prefix = Path(sys.base_prefix).resolve()
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    executable = Path(sysconfig.get_config_var("BINDIR") or prefix / "bin") / name
    executable = executable if executable.exists() else prefix / "bin" / name
    if not executable.exists():
        raise UserError(f"cannot find the interpreter {name} below {prefix}; use the sandbox docker")
    return prefix, executable


@cache
def toolchain() -> Path:
    """A directory with `bin/` (python, python3, pytest), `site/` (pytest and what it needs) and `etc/`; made once.

    Mounted read-only at `TOOLCHAIN`. Its name is a hash of versions, so an upgrade makes a new one.
    """
    _, executable = _interpreter()
    distributions = [importlib.metadata.distribution(name) for name in _TEST_RUNNER]
    versions = [f"{distribution.name}={distribution.version}" for distribution in distributions]
    key = "|".join([sys.version, str(executable), *_OWN_ETC.values(), *versions])
    target = cache_dir() / "toolchains" / hashlib.sha256(key.encode()).hexdigest()[:16]
    if target.exists():
        return target
    draft = target.with_name(f"{target.name}.{os.getpid()}")
    (draft / "bin").mkdir(parents=True)
    for name in ("python", "python3"):
        (draft / "bin" / name).symlink_to(executable)
    runner = draft / "bin" / "pytest"
    runner.write_text('#!/bin/sh\nexec python -m pytest "$@"\n')
    runner.chmod(0o755)
    for distribution in distributions:
        for file in distribution.files or []:
            source = Path(str(distribution.locate_file(file)))
            if ".." in file.parts or not source.is_file():
                continue  # console scripts lie outside the package directory
            (draft / "site" / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, draft / "site" / file)
    compileall.compile_dir(draft / "site", quiet=2)
    (draft / "etc").mkdir()
    for name, text in _OWN_ETC.items():
        (draft / "etc" / name).write_text(text)
    try:
        draft.rename(target)
    except OSError:  # another process was faster
        shutil.rmtree(draft)
    return target


def mounts() -> list[str]:
    """bubblewrap arguments that build the root: system, interpreter, toolchain, a few files of /etc."""
    prefix, _ = _interpreter()
    tools = toolchain()
    arguments = ["--ro-bind", "/usr", "/usr"]
    shown = [Path("/usr")]
    for directory in map(Path, _SYSTEM):
        if directory.is_symlink():
            arguments += ["--symlink", str(directory.readlink()), str(directory)]
        elif directory.exists():
            arguments += ["--ro-bind", str(directory), str(directory)]
    for name in _ETC:
        arguments += ["--ro-bind-try", f"/etc/{name}", f"/etc/{name}"]
    for name in _OWN_ETC:
        arguments += ["--ro-bind", str(tools / "etc" / name), f"/etc/{name}"]
    if not prefix.is_relative_to("/usr"):
        arguments += ["--ro-bind", str(prefix), str(prefix)]
        shown.append(prefix)
    for secret in _SECRETS:
        if any(secret.is_relative_to(directory) for directory in shown) and secret.exists():
            arguments += ["--tmpfs", str(secret)]
    return [*arguments, "--ro-bind", str(tools), TOOLCHAIN]


def environment() -> dict[str, str]:
    """PATH, HOME and PYTHONPATH for commands in such a root."""
    return {
        "PATH": f"{TOOLCHAIN}/bin:/usr/local/bin:/usr/bin:/bin",
        "HOME": HOME,
        "USER": "root",
        "PYTHONPATH": f"{TOOLCHAIN}/site",
    }
