"""Manifests of OCI and of docker (schema 2), read with checks: what a registry serves is not trusted."""

import hashlib
import json
import platform
import re
from collections.abc import Mapping
from typing import Any

from swe_aem.core.base import Frozen
from swe_aem.sandbox.images.failures import PullError, PullFailure

ACCEPTED = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
"""Media types of manifests that can be read; the value of an Accept header."""
MAX_MANIFEST_BYTES = 4 << 20
MAX_CONFIG_BYTES = 8 << 20
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


class Descriptor(Frozen):
    """A blob: its digest and its size in bytes."""

    digest: str
    size_bytes: int


class Manifest(Frozen):
    """One image for one platform."""

    config: Descriptor
    layers: tuple[Descriptor, ...]
    """The lowest comes first."""


class ImageConfig(Frozen):
    """What an image's configuration says about its root file system."""

    image_id: str
    env: tuple[str, ...]
    diff_ids: tuple[str, ...]
    """Digests of the layers' archives without compression, the lowest first."""


def digest_of(content: bytes) -> str:
    """`sha256:...` of some bytes."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def own_architecture() -> str:
    """This host's architecture as registries name it."""
    machine = platform.machine()
    return _ARCHITECTURES.get(machine, machine)


def malformed(what: str) -> PullError:
    """The error for an image that is not as it must be; asking again would not help."""
    return PullError(PullFailure.MALFORMED, what)


def read_manifest(content: bytes) -> Manifest | str:
    """A manifest; or, of an index, the digest of the manifest for this host's platform.

    Raises `PullError` if it is neither, or if the index has nothing for this platform.
    """
    row = _mapping(content, "manifest")
    if isinstance(row.get("manifests"), list):
        return _for_this_platform(row["manifests"])
    if not isinstance(row.get("config"), dict) or not isinstance(row.get("layers"), list):
        raise malformed("its manifest has no config and layers (the old schema 1 of docker is not supported)")
    return Manifest(config=_descriptor(row["config"]), layers=tuple(map(_descriptor, row["layers"])))


def read_config(content: bytes, manifest: Manifest) -> ImageConfig:
    """An image's configuration; raises `PullError` if it does not fit its manifest."""
    row = _mapping(content, "configuration")
    inner, rootfs = row.get("config") or {}, row.get("rootfs") or {}
    env = inner.get("Env") or () if isinstance(inner, dict) else ()
    diff_ids = rootfs.get("diff_ids") or () if isinstance(rootfs, dict) else ()
    if not all(isinstance(entry, str) and "\0" not in entry for entry in env):
        raise malformed("its configuration has an environment that is no list of NAME=value")
    if len(diff_ids) != len(manifest.layers) or not all(map(_is_digest, diff_ids)):
        raise malformed(f"its configuration names {len(diff_ids)} layers, its manifest {len(manifest.layers)}")
    return ImageConfig(image_id=manifest.config.digest, env=tuple(env), diff_ids=tuple(diff_ids))


def _for_this_platform(rows: list[Any]) -> str:
    offered = []
    for row in rows:
        wanted = row.get("platform") if isinstance(row, dict) else None
        if not isinstance(wanted, dict):
            continue
        offered.append(f"{wanted.get('os')}/{wanted.get('architecture')}")
        if offered[-1] == f"linux/{own_architecture()}":
            return _descriptor(row).digest
    raise PullError(
        PullFailure.MISSING,
        f"no matching manifest for linux/{own_architecture()}; there are {', '.join(offered) or 'none'}",
    )


def _mapping(content: bytes, what: str) -> Mapping[str, Any]:
    try:
        row = json.loads(content)
    except ValueError:
        raise malformed(f"its {what} is not JSON") from None
    if not isinstance(row, dict):
        raise malformed(f"its {what} is not a JSON object")
    return row


def _descriptor(row: Any) -> Descriptor:
    if not isinstance(row, dict) or not _is_digest(row.get("digest")) or not _is_size(row.get("size")):
        raise malformed("a descriptor has no sha256 digest or no size")
    return Descriptor(digest=row["digest"], size_bytes=row["size"])


def _is_digest(value: Any) -> bool:
    return isinstance(value, str) and _DIGEST.fullmatch(value) is not None


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
