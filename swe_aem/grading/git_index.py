"""The names in git's index file, read without git: the file may be an agent's, and may hold anything.

Format: https://git-scm.com/docs/index-format (versions 2, 3 and 4; SHA-1 and SHA-256).
"""

import struct

MAX_INDEX_BYTES = 64 << 20
MAX_INDEX_ENTRIES = 1 << 20
_MAX_NAME_BYTES = 4096

_HEADER = struct.Struct(">4sII")
_STAT_BYTES = 40
_MODE_OFFSET = 24
_EXTENDED, _STAGE = 0x4000, 0x3000
_SHA1_BYTES, _SHA256_BYTES = 20, 32
_FILE_MODES = (0o100644, 0o100755, 0o120000)
_GITLINK, _SPARSE_DIRECTORY = 0o160000, 0o040000


class _Broken(ValueError):
    """The bytes are no index."""


def index_names(data: bytes) -> frozenset[str]:
    """Names of the files in an index; empty if `data` is not wholly a sound index, or above the limits.

    Left out are entries of an unfinished merge, submodules and the directories of a sparse index. Extensions are
    skipped and the checksum is not looked at.
    """
    if len(data) > MAX_INDEX_BYTES or len(data) < _HEADER.size:
        return frozenset()
    for hash_bytes in (_SHA1_BYTES, _SHA256_BYTES):  # the file does not say which of the two it has
        try:
            return frozenset(name.decode("utf-8", "surrogateescape") for name in _names(data, hash_bytes))
        except _Broken:
            continue
    return frozenset()


def _names(data: bytes, hash_bytes: int) -> list[bytes]:
    signature, version, count = _HEADER.unpack_from(data)
    if signature != b"DIRC" or version not in (2, 3, 4) or count > MAX_INDEX_ENTRIES:
        raise _Broken
    end = len(data) - hash_bytes
    names: list[bytes] = []
    total_bytes = 0  # in version 4 a name may repeat the one before it at the cost of two bytes
    at = _HEADER.size
    previous, previous_stage = b"", -1
    for _ in range(count):
        start = at
        at += _STAT_BYTES + hash_bytes + 2
        if at > end:
            raise _Broken
        (mode,) = struct.unpack_from(">I", data, start + _MODE_OFFSET)
        (flags,) = struct.unpack_from(">H", data, at - 2)
        if flags & _EXTENDED:
            if version == 2:
                raise _Broken
            at += 2
        kept = b""
        if version == 4:
            dropped, at = _offset(data, at, end)
            if dropped > len(previous):
                raise _Broken
            kept = previous[: len(previous) - dropped]
        stop = data.find(b"\0", at, min(at + _MAX_NAME_BYTES, end))
        if stop < 0:
            raise _Broken
        name = kept + data[at:stop]
        at = stop + 1 if version == 4 else start + (stop - start + 8) // 8 * 8
        stage = flags & _STAGE
        if not _is_sound(name, mode) or len(name) > _MAX_NAME_BYTES or (name, stage) <= (previous, previous_stage):
            raise _Broken
        total_bytes += len(name)
        if total_bytes > MAX_INDEX_BYTES:
            raise _Broken
        previous, previous_stage = name, stage
        if stage == 0 and mode in _FILE_MODES:
            names.append(name)
    if at > end:
        raise _Broken
    return names


def _is_sound(name: bytes, mode: int) -> bool:
    parts = name.removesuffix(b"/").split(b"/") if mode == _SPARSE_DIRECTORY else name.split(b"/")
    return mode in (*_FILE_MODES, _GITLINK, _SPARSE_DIRECTORY) and not any(part in (b"", b".", b"..") for part in parts)


def _offset(data: bytes, at: int, end: int) -> tuple[int, int]:
    """A number as version 4 writes it (the offset encoding of packs), and the position behind it."""
    value = 0
    for place in range(5):
        if at >= end:
            raise _Broken
        byte = data[at]
        at += 1
        value = ((value + 1) << 7 | byte & 0x7F) if place else byte & 0x7F
        if not byte & 0x80:
            return value, at
    raise _Broken
