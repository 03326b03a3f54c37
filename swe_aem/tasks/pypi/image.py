"""The image of a set: `swe-aem/micro:1` plus what the tests import, without the packages under test."""

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from swe_aem.core import SandboxBackend, SandboxSpec
from swe_aem.errors import InfrastructureError, UserError
from swe_aem.sandbox.images.engine import Engine
from swe_aem.sandbox.images.ledger import Ledger
from swe_aem.sandbox.images.unpack import unpack
from swe_aem.tasks.pypi.recipe import PackageRecipe
from swe_aem.tasks.synthesis.codebase import MICRO_IMAGE

_LABEL = "swe-aem.recipes"
_TIMEOUT_S = 300.0
_SITES = "dist-packages|site-packages|_vendor|vendored|extern|python3|python3.[0-9]+"
"""Directories that hold modules."""


async def ensure_image(
    engine: Engine, image: str, recipes: Sequence[PackageRecipe], wheels: Mapping[str, Path]
) -> None:
    """Build the image unless the engine has the one of these recipes, and unpack it for bubblewrap.

    `wheels` are the downloaded files by name. Raises `UserError` if the base image is missing.
    """
    base = await engine.inspect(MICRO_IMAGE)
    if base is None:
        raise UserError(f"the docker engine has no image {MICRO_IMAGE!r}: `swe-aem images build micro` makes it")
    files = {**_install_files(recipes), **{f"wheels/{name}": path.read_bytes() for name, path in wheels.items()}}
    state = hashlib.sha256(base.id.encode())
    for name, content in sorted(files.items()):
        state.update(f"{name}\0{len(content)}\0".encode() + content)
    present = await engine.inspect(image)
    if present is None or present.labels.get(_LABEL) != state.hexdigest():
        dockerfile = _dockerfile(bool(wheels), recipes[0].python, state.hexdigest())
        await engine.build(_archive({**files, "Dockerfile": dockerfile.encode()}), image)
    await unpack(engine, Ledger.of_roots(), image)


async def check_image(backend: SandboxBackend, image: str, recipe: PackageRecipe) -> None:
    """Refuse an image with another Python, or one in which an agent could read the clean package."""
    names = "|".join(recipe.import_names)
    look = f"find / -xdev -regextype posix-extended -regex '.*/({_SITES})/({names})(\\.py)?' -print -quit"
    version = "python3 -c 'import sys; print(\"%d.%d\" % sys.version_info[:2])'"
    async with backend.open(SandboxSpec(image=image)) as sandbox:
        python = (await sandbox.run(version, timeout_s=_TIMEOUT_S)).output.strip()
        looked = await sandbox.run(look, timeout_s=_TIMEOUT_S)
    if python != recipe.python:
        raise UserError(f"recipe {recipe.name} wants Python {recipe.python}, image {image} has {python or 'none'}")
    if looked.exit_code != 0:
        raise InfrastructureError(f"{image} could not be searched for {recipe.name}: {looked.output.strip()[-300:]}")
    if found := looked.output.strip():
        raise UserError(
            f"recipe {recipe.name}: image {image} contains the package itself, in {found}; use another image"
        )


def _install_files(recipes: Sequence[PackageRecipe]) -> dict[str, bytes]:
    """Files that install the packages without their source: the import path, and metadata with their versions."""
    roots = sorted({recipe.import_root for recipe in recipes})
    lines = ["/testbed" if root == "." else f"/testbed/{root}" for root in roots]
    files = {"site/testbed.pth": "\n".join(lines) + "\n"}
    for recipe in recipes:
        directory = f"site/{recipe.name.replace('-', '_')}-{recipe.version}.dist-info"
        metadata = f"Metadata-Version: 2.1\nName: {recipe.name}\nVersion: {recipe.version}\n"
        files |= {f"{directory}/METADATA": metadata, f"{directory}/INSTALLER": "swe-aem\n"}
    return {name: text.encode() for name, text in files.items()}


def _dockerfile(with_wheels: bool, python: str, state: str) -> str:
    site = f"/usr/local/lib/python{python}/dist-packages/"
    install = "python3 -m pip install --no-index --no-deps --no-cache-dir --break-system-packages --quiet"
    wheels = ["COPY wheels /tmp/wheels", f"RUN {install} /tmp/wheels/*.whl && rm -rf /tmp/wheels"]
    lines = [f"FROM {MICRO_IMAGE}", *(wheels if with_wheels else []), f"COPY site {site}"]
    return "\n".join([*lines, f"LABEL {_LABEL}={json.dumps(state)}"]) + "\n"


def _archive(files: Mapping[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, content in sorted(files.items()):
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o644
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()
