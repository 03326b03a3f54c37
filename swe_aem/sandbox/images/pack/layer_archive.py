"""Reading a layer: a tar archive, compressed by gzip or zstd or not at all. Its bytes may be hostile."""

import gzip
import hashlib
import io
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Self, cast

from swe_aem.errors import InfrastructureError
from swe_aem.sandbox.images.pack.manifest import malformed

_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_BLOCK_BYTES = 1 << 20
_MAX_EXTENSION_BYTES = 1 << 20
"""Largest header extension (long names, attributes), which is read into memory at once."""
_EXTENSIONS = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME)
_EXTENSIONS += (tarfile.GNUTYPE_LONGLINK,)
_UNREADABLE = (EOFError, gzip.BadGzipFile, zlib.error, tarfile.TarError)
_UNREADABLE += (ValueError, OverflowError, RecursionError)  # tarfile takes numbers and chains of headers as they come


class Layer(NamedTuple):
    """A layer's archive on this disk."""

    path: Path
    name: str
    """How errors call it."""
    diff_id: str | None = None
    """Digest that the archive must have without compression; None if nobody knows it."""
    whiteouts: bool = True
    """Do names that begin with `.wh.` remove what lies below? Not in an engine's export, whose layers are merged."""


class Progress:
    """How much has been read, for another thread to see, which may also stop the reading."""

    def __init__(self) -> None:
        self.read_bytes = 0
        """Bytes of layers without compression."""
        self.stopped = False
        """Whoever reads on raises `InfrastructureError`."""

    def add(self, count: int) -> None:
        """Note that so many bytes were read."""
        if self.stopped:
            raise InfrastructureError("the reading of a layer was stopped")
        self.read_bytes += count


class _Header(tarfile.TarInfo):
    """A header whose extensions are of limited size."""

    @classmethod
    def frombuf(cls, buf: Any, encoding: str, errors: str) -> Self:
        found = super().frombuf(buf, encoding, errors)
        if found.type in _EXTENSIONS and found.size > _MAX_EXTENSION_BYTES:
            raise malformed(f"a layer has a header of {found.size} bytes")
        return found


class _Hashed(io.RawIOBase):
    """A stream that counts and digests what is read from it."""

    def __init__(self, inner: BinaryIO, progress: Progress) -> None:
        self._inner = inner
        self._progress = progress
        self._hash = hashlib.sha256()

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        chunk = self._inner.read(size)
        self._hash.update(chunk)
        self._progress.add(len(chunk))
        return chunk

    @property
    def digest(self) -> str:
        return f"sha256:{self._hash.hexdigest()}"


@contextmanager
def open_layer(
    layer: Layer, progress: Progress, *, check: bool
) -> Iterator[Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]]:
    """The members of a layer in their order, each with the archive to read its content from before the next one.

    With `check`, the digest of the archive is compared once all have been read. Raises `PullError` if the layer cannot
    be read, or is not what its digest says.
    """
    import zstandard

    try:
        with layer.path.open("rb") as raw, _decompressed(raw) as plain:
            stream = _Hashed(plain, progress)
            yield _members(stream)
            if check and layer.diff_id is not None:
                while stream.read(_BLOCK_BYTES):
                    pass
                if stream.digest != layer.diff_id:
                    raise malformed(f"layer {layer.name} does not have the digest that the image's configuration says")
    except (*_UNREADABLE, zstandard.ZstdError) as error:
        raise malformed(f"layer {layer.name} is no archive that can be read: {error}") from None


def _members(stream: _Hashed) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
    fileobj = cast(BinaryIO, stream)
    settings = {"encoding": "utf-8", "errors": "surrogateescape", "tarinfo": _Header, "bufsize": _BLOCK_BYTES}
    with tarfile.open(fileobj=fileobj, mode="r|", **settings) as archive:
        while (member := archive.next()) is not None:
            yield archive, member
            archive.members = []  # type: ignore[attr-defined]  # it keeps every header otherwise


@contextmanager
def _decompressed(raw: BinaryIO) -> Iterator[BinaryIO]:
    import zstandard

    magic = raw.read(4)
    raw.seek(0)
    if magic.startswith(_GZIP):
        with gzip.open(raw) as plain:
            yield cast(BinaryIO, plain)
    elif magic == _ZSTD:
        with zstandard.ZstdDecompressor().stream_reader(raw, read_across_frames=True) as plain:
            yield cast(BinaryIO, plain)
    else:
        yield raw
