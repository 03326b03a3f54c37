"""The image that all contenders share: the given one, the example repository at /testbed, and SWE-ReX's server."""

import io
import shutil
import subprocess
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from contenders.base import RUN_LABEL, WORKDIR
from engine import remove_containers

REPOSITORY = "swe-aem-benchmark"
SWEREX = "swe-rex==1.4.0"
_COMMAND_TIMEOUT_S = 120
_SWEREX_DIR = "/opt/swe-rex"
_SWEREX_SERVER = f"""#!/usr/bin/python3
import sys
sys.path.insert(0, {_SWEREX_DIR!r})
from swerex.server import main
main()
"""
"""Not PYTHONPATH: the commands in the sandbox would inherit it."""


def _archive(root: Path) -> bytes:
    """The content of a directory as a tar, owned by root."""

    def own(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.uid = member.gid = 0
        member.uname = member.gname = ""
        return member

    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.add(root, arcname=".", filter=own)
    return buffer.getvalue()


def add_swerex(tree: Path, python: str) -> str | None:
    """Put SWE-ReX's server for a Python version below `tree`. Returns the reason if it cannot be fetched, else None."""
    uv = shutil.which("uv")
    if uv is None:
        return "uv is not installed: SWE-ReX's server cannot be put into the image"
    target = tree / _SWEREX_DIR.lstrip("/")
    platform = ["--python-version", python, "--python-platform", "x86_64-manylinux2014", "--only-binary", ":all:"]
    fetch = subprocess.run([uv, "pip", "install", "-q", "--target", target, *platform, SWEREX], capture_output=True)
    if fetch.returncode != 0:
        return f"{SWEREX} cannot be fetched: {fetch.stderr.decode('utf-8', 'replace').strip()[-500:]}"
    server = tree / "usr" / "local" / "bin" / "swerex-remote"
    server.parent.mkdir(parents=True)
    server.write_text(_SWEREX_SERVER)
    server.chmod(0o755)
    return None


def _python_of(client: Any, image: str, labels: dict[str, str]) -> str:
    script = "import sys; print('%d.%d' % sys.version_info[:2])"
    return client.containers.run(image, ["python3", "-c", script], remove=True, labels=labels).decode().strip()


@contextmanager
def image_with(
    client: Any, base: str, tree: Path, run: str, *, tag: str, command: Sequence[str] = ("true",)
) -> Iterator[str]:
    """Image of `base` with the files of `tree` on top, after `command` ran in it once. Removed at the end.

    The image has the run's label, and so has every container of it, whatever starts the container.
    """
    container = client.containers.create(base, list(command), labels={RUN_LABEL: run}, network_mode="none")
    try:
        container.put_archive("/", _archive(tree))
        container.start()
        exit_code = container.wait(timeout=_COMMAND_TIMEOUT_S)["StatusCode"]
        if exit_code != 0:
            raise RuntimeError(f"{' '.join(command)} ended with {exit_code} in {base}")
        container.commit(REPOSITORY, tag, changes=f'LABEL {RUN_LABEL}={run}\nWORKDIR {WORKDIR}\nCMD ["bash"]')
    finally:
        container.remove(force=True)
    try:
        yield f"{REPOSITORY}:{tag}"
    finally:
        remove_containers(client, run)
        client.images.remove(f"{REPOSITORY}:{tag}", force=True)


@contextmanager
def shared_image(
    client: Any, base: str, work: Path, repository: Path, run: str, *, swerex: bool
) -> Iterator[tuple[str, str | None]]:
    """Build the image. Yields its name, and the reason if SWE-ReX was wanted and is not in it. Removed at the end."""
    extras = work / "extras"
    shutil.copytree(repository, extras / WORKDIR.lstrip("/"))
    without_swerex = "it was not asked for"
    if swerex:
        without_swerex = add_swerex(extras, _python_of(client, base, {RUN_LABEL: run}))
    # Compiled once; otherwise every container would compile it at its start.
    command = ["true"] if without_swerex else ["python3", "-m", "compileall", "-q", _SWEREX_DIR]
    with image_with(client, base, extras, run, tag=run, command=command) as image:
        yield image, without_swerex


def copy_out(client: Any, image: str, path: str, target: Path, run: str) -> None:
    """Copy a directory of an image to the host."""
    container = client.containers.create(image, ["true"], labels={RUN_LABEL: run})
    archive = target.with_suffix(".tar")
    try:
        with archive.open("wb") as file:
            for chunk in container.get_archive(path)[0]:
                file.write(chunk)
    finally:
        container.remove(force=True)
    target.mkdir()
    subprocess.run(["tar", "-C", target, "--strip-components=1", "-xpf", archive], check=True)
    archive.unlink()


def unpack(client: Any, image: str, root: Path, run: str) -> Path:
    """Unpack the image's file system into a directory, for bubblewrap."""
    root.mkdir()
    container = client.containers.create(image, ["true"], labels={RUN_LABEL: run})
    archive = root.with_suffix(".tar")
    try:
        with archive.open("wb") as file:
            for chunk in container.export():
                file.write(chunk)
    finally:
        container.remove(force=True)
    subprocess.run(["tar", "-C", root, "-xpf", archive, "--numeric-owner"], check=True)
    archive.unlink()
    return root
