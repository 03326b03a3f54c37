"""A packed image that is made in a moment, of this host's bash."""

import re
import shutil
import subprocess
from pathlib import Path

from swe_aem.sandbox.packed import PackedDir, PackedImage, PackFormat

PROGRAMS = ("bash", "cat", "ls")
DATA_BYTES = 4 << 20
"""Size of the file /data, which no start of a sandbox reads."""


def pack_small_image(directory: PackedDir, reference: str, format: PackFormat, work: Path) -> PackedImage:
    """Pack it without compression, so that the file is as long as what is in it."""
    root = work / "root"
    for name in ("bin", "usr/bin", "root", "tmp", "etc", "proc", "dev"):
        (root / name).mkdir(parents=True, exist_ok=True)
    for program in PROGRAMS:
        _install(root, program)
    (root / "data").write_bytes(bytes(range(256)) * (DATA_BYTES // 256))
    image = PackedImage(
        reference=reference, image_id=f"sha256:{64 * '7'}", digest=None, format=format, size_bytes=0, env=()
    )
    file = directory.file(image)
    options = ["-noI", "-noD", "-noF", "-noX", "-no-progress", "-quiet"]
    commands = {"squashfs": ["mksquashfs", root, file, *options], "erofs": ["mkfs.erofs", "--quiet", file, root]}
    subprocess.run(commands[format], check=True, capture_output=True)
    image = image.model_copy(update={"size_bytes": file.stat().st_size})
    directory.name(image)
    return image


def _install(root: Path, program: str) -> None:
    """Copy a program and the libraries that it needs."""
    path = Path(shutil.which(program) or program)
    shutil.copy(path, root / "bin" / program)
    said = subprocess.run(["ldd", path], check=True, capture_output=True, text=True).stdout
    for library in map(Path, re.findall(r"(/\S+)", said)):
        to = root / library.relative_to("/")
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(library, to)
