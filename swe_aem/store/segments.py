"""Checksummed lines in numbered files: the part of the store that knows bytes and nothing about trajectories.

A line is one JSON object whose last member is the SHA-256 of the object without it. Only the last line of the last
segment can be torn by a crash, because every line is synced before the next one is written; damage anywhere else is an
error.
"""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from swe_aem.errors import UserError
from swe_aem.store.files import sync_directory

_JOIN, _END = b', "sha256": "', b'"}\n'
_SEAL_BYTES = len(_JOIN) + 64 + len(_END)


class Line(NamedTuple):
    """A sound line and where it is."""

    path: Path
    offset: int
    data: bytes


def seal(body: bytes) -> bytes:
    """The line for a JSON object, checksum and newline included."""
    return body[:-1] + _JOIN + hashlib.sha256(body).hexdigest().encode() + _END


def sound(line: bytes) -> bool:
    """Does the line end as `seal` ends it, with the right checksum?"""
    seal_part = line[-_SEAL_BYTES:]
    if len(line) <= _SEAL_BYTES or not (seal_part.startswith(_JOIN) and seal_part.endswith(_END)):
        return False
    digest = hashlib.sha256(memoryview(line)[:-_SEAL_BYTES])
    digest.update(b"}")
    return digest.hexdigest().encode() == seal_part[len(_JOIN) : -len(_END)]


def segment_path(folder: Path, number: int) -> Path:
    """File of the n-th segment."""
    return folder / f"part-{number:05d}.jsonl"


def segment_number(path: Path) -> int:
    """n of the n-th segment's file."""
    return int(path.stem.removeprefix("part-"))


def segments(folder: Path) -> list[Path]:
    """All segments in order; empty if there are none."""
    return sorted(folder.glob("part-[0-9][0-9][0-9][0-9][0-9].jsonl"))


def sound_end(path: Path) -> int:
    """Bytes of the file up to the end of its last line if that line is sound, else up to where that line begins."""
    data = path.read_bytes()
    start = data.rfind(b"\n", 0, max(0, len(data) - 1)) + 1
    return len(data) if sound(data[start:]) else start


def read_lines(folder: Path) -> Iterator[Line]:
    """Every line of every segment; a damaged end of the last segment is left out, other damage is a `UserError`."""
    paths = segments(folder)
    for path in paths:
        end = sound_end(path) if path == paths[-1] else path.stat().st_size
        with path.open("rb") as file:
            number, offset = 0, 0
            while offset < end:
                data = file.readline()
                number += 1
                if not sound(data):
                    raise UserError(
                        f"{path}, line {number}: the record is damaged (its checksum does not fit); restore the file "
                        "from a copy, or delete that line to have its trajectory rolled out again"
                    )
                yield Line(path, offset, data)
                offset += len(data)


def quarantine_torn_end(folder: Path, quarantine: Path) -> Path | None:
    """Move a damaged end of the last segment to a file under `quarantine`; returns it, or None if all is sound."""
    paths = segments(folder)
    if not paths:
        return None
    path = paths[-1]
    end = sound_end(path)
    if end == path.stat().st_size:
        return None
    quarantine.mkdir(exist_ok=True)
    kept = _unused(quarantine, f"{path.stem}-{end}")
    with path.open("r+b") as file:
        file.seek(end)
        kept.write_bytes(file.read())
        file.truncate(end)
        os.fsync(file.fileno())
    return kept


def _unused(folder: Path, stem: str) -> Path:
    tries = (folder / f"{stem}-{number}.bin" for number in range(1 << 20))
    return next(path for path in tries if not path.exists())


class Appender:
    """Appends sealed lines to the last segment and starts a new one when it has grown to `segment_bytes`."""

    def __init__(self, folder: Path, segment_bytes: int) -> None:
        self._folder = folder
        self._segment_bytes = segment_bytes
        last = segments(folder)[-1:]
        self._number = segment_number(last[0]) if last else 0
        self._fd = self._open(self._number)

    def append(self, line: bytes) -> tuple[Path, int]:
        """Write and sync one line; returns its place. If writing fails, what was written of it is taken back."""
        start = os.fstat(self._fd).st_size
        if start and start + len(line) > self._segment_bytes:
            full, self._fd = self._fd, self._open(self._number + 1)
            self._number += 1
            os.close(full)
            start = 0
        try:
            rest = memoryview(line)
            while rest:
                rest = rest[os.write(self._fd, rest) :]
            os.fsync(self._fd)
        except OSError:
            os.ftruncate(self._fd, start)
            raise
        return segment_path(self._folder, self._number), start

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)

    def _open(self, number: int) -> int:
        fd = os.open(segment_path(self._folder, number), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            sync_directory(self._folder)  # the file's name must survive a crash too
        except OSError:
            os.close(fd)
            raise
        return fd
