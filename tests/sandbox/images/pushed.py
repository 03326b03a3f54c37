"""Layers and images made by hand, hostile ones too, and pushed to a registry without an engine."""

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import httpx
import zstandard

from swe_aem.sandbox.images.pack.manifest import own_architecture

Compression = Literal["gzip", "zstd", "none"]
Member = tuple[tarfile.TarInfo, bytes]


def file(name: str, content: bytes = b"", **header: Any) -> Member:
    """A regular file."""
    return made(name, tarfile.REGTYPE, content, **header)


def made(name: str, kind: bytes, content: bytes = b"", **header: Any) -> Member:
    """A member of any kind."""
    member = tarfile.TarInfo(name)
    member.type, member.size, member.mode = kind, len(content), 0o755 if kind == tarfile.DIRTYPE else 0o644
    for key, value in header.items():
        setattr(member, key, value)
    return member, content


def folder(name: str, **header: Any) -> Member:
    """A directory."""
    return made(name, tarfile.DIRTYPE, **header)


def link(name: str, target: str) -> Member:
    """A symbolic link."""
    return made(name, tarfile.SYMTYPE, linkname=target)


def hard_link(name: str, target: str, mode: int = 0o644) -> Member:
    """A hard link; engines give its mode to the file."""
    return made(name, tarfile.LNKTYPE, linkname=target, mode=mode)


def archive(members: Iterable[Member]) -> bytes:
    """A layer without compression."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for member, content in members:
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def compressed(plain: bytes, how: Compression) -> bytes:
    """A layer as a registry has it."""
    match how:
        case "gzip":
            return gzip.compress(plain)
        case "zstd":
            return zstandard.compress(plain)
        case "none":
            return plain


def digest(content: bytes) -> str:
    """`sha256:...`."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


@dataclass(frozen=True)
class Pushed:
    """An image that a registry has."""

    name: str
    id: str
    digest: str
    layers: tuple[str, ...]
    """Digests of the compressed layers."""


def push(
    registry: str,
    repository: str,
    layers: Sequence[bytes],
    *,
    tag: str = "1",
    env: Sequence[str] = ("PATH=/bin",),
    how: Compression = "gzip",
    index: bool = False,
) -> Pushed:
    """Push an image made of archives; with `index`, as one of two platforms."""
    blobs = [compressed(layer, how) for layer in layers]
    diff_ids = [digest(layer) for layer in layers]
    platform = {"os": "linux", "architecture": own_architecture()}
    rootfs = {"type": "layers", "diff_ids": diff_ids}
    config = json.dumps({**platform, "config": {"Env": list(env)}, "rootfs": rootfs}).encode()
    kind = "application/vnd.oci.image.manifest.v1+json"
    rows = [{"mediaType": "application/vnd.oci.image.layer.v1.tar", **_descriptor(blob)} for blob in blobs]
    head = {"mediaType": "application/vnd.oci.image.config.v1+json", **_descriptor(config)}
    manifest = json.dumps({"schemaVersion": 2, "mediaType": kind, "config": head, "layers": rows}).encode()
    with httpx.Client(base_url=f"http://{registry}/v2/{repository}/") as http:
        for blob in (*blobs, config):
            _push_blob(http, blob)
        top = manifest
        if index:
            _put(http, f"manifests/{digest(manifest)}", manifest, kind)
            platforms = [("arm64" if own_architecture() == "amd64" else "amd64"), own_architecture()]
            listed = [
                {"mediaType": kind, **_descriptor(manifest), "platform": {"os": "linux", "architecture": architecture}}
                for architecture in platforms
            ]
            listed[0]["digest"] = _push_other(http, kind, manifest)
            kind = "application/vnd.oci.image.index.v1+json"
            top = json.dumps({"schemaVersion": 2, "mediaType": kind, "manifests": listed}).encode()
        _put(http, f"manifests/{tag}", top, kind)
    return Pushed(f"{registry}/{repository}:{tag}", digest(config), digest(top), tuple(map(digest, blobs)))


def _push_other(http: httpx.Client, kind: str, manifest: bytes) -> str:
    """Another platform's manifest, which differs; its digest."""
    other = json.dumps(json.loads(manifest), indent=1).encode()
    _put(http, f"manifests/{digest(other)}", other, kind)
    return digest(other)


def _descriptor(content: bytes) -> dict[str, Any]:
    return {"digest": digest(content), "size": len(content)}


def _push_blob(http: httpx.Client, blob: bytes) -> None:
    place = http.post("blobs/uploads/").raise_for_status().headers["Location"]
    joint = "&" if "?" in place else "?"
    headers = {"Content-Type": "application/octet-stream"}
    http.put(f"{place}{joint}digest={digest(blob)}", content=blob, headers=headers).raise_for_status()


def _put(http: httpx.Client, path: str, content: bytes, kind: str) -> None:
    http.put(path, content=content, headers={"Content-Type": kind}).raise_for_status()
