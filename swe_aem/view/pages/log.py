"""The kept log of an evaluation, a piece of bounded size at a time."""

import struct
import zipfile
import zlib
from pathlib import Path
from typing import NamedTuple

from swe_aem.errors import UserError
from swe_aem.store import log_path
from swe_aem.view.pages.text import SIZE, start_of
from swe_aem.view.site import Asked, NotThere, Shown, Site
from swe_aem.view.stored import crumbs, key_of, store_of
from swe_aem.view.story.clip import coloured

OUTPUT = "output.log"
"""The output of the evaluation in a kept log (`swe_aem.grading.kept_log`)."""
MOST_BYTES = 256 << 20
"""Bytes of a log that have pages: a page unpacks all that is before it, and a small file may hold terabytes."""
_UNREADABLE = (OSError, EOFError, zlib.error, zipfile.BadZipFile, struct.error, ValueError, OverflowError, RuntimeError)
"""What `zipfile` raises for damaged files; `NotImplementedError`, for strange ones, is a `RuntimeError`."""


class LogPiece(NamedTuple):
    """A part of a kept log."""

    text: str
    start: int
    """Byte of the log that it begins with."""
    total: int
    """Bytes of the log."""


def show(site: Site, asked: Asked) -> Shown:
    """A piece of the log, from the byte that `from` says."""
    run = site.run(asked.values["run"])
    key = key_of(asked.values["task"], asked.values["sample"])
    path = log_path(store_of(run), key)
    if not path.is_file():
        raise NotThere(f"no log of {key} was kept; the end of it is on the page of the trajectory")
    piece = read_piece(path, asked.query.get("from", ""))
    reached = min(piece.total, MOST_BYTES)
    end = min(piece.start + SIZE, reached)
    beyond = f"Pages end after {reached:,} of {piece.total:,} bytes. " if reached < piece.total else ""

    def at(number: int) -> str:
        return asked.link("log", query={"from": str(number)}, **asked.values)

    return Shown(
        template="text.html.jinja",
        title="Log of the evaluation",
        crumbs=crumbs(site, asked, run, key),
        values={
            "pieces": coloured(piece.text),
            "start": piece.start,
            "end": end,
            "total": piece.total,
            "unit": "bytes",
            "note": f"{beyond}unzip -p {path} {OUTPUT} shows all of it.",
            "kind": "observation-whole",
            "earlier": at(piece.start - SIZE) if piece.start else "",
            "later": at(piece.start + SIZE) if end < reached else "",
            "last": at((reached - 1) // SIZE * SIZE) if reached > SIZE else "",
        },
    )


def read_piece(path: Path, asked: str) -> LogPiece:
    """A piece of the output in a kept log; raises `UserError` for a file that cannot be read, `NotThere` if there is no
    output in it."""
    if path.is_symlink():  # a store from elsewhere must not show, or export, other files of this machine
        raise UserError(f"{path} is a link, and the log that a run keeps is none: it is not followed")
    try:
        with zipfile.ZipFile(path) as archive:
            info = archive.getinfo(OUTPUT)
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # others unpack without a bound
                raise UserError(f"{path} is packed otherwise than a run keeps its logs: unzip -p {path} {OUTPUT}")
            start = start_of(asked, min(info.file_size, MOST_BYTES))
            with archive.open(info) as file:
                file.seek(start)  # reads what is before it, a block at a time
                data = file.read(SIZE)
    except KeyError:
        raise NotThere(f"{path} holds no output of the evaluation") from None
    except _UNREADABLE as error:
        raise UserError(f"{path} cannot be read: {error}") from None
    return LogPiece(data.decode("utf-8", "replace"), start, info.file_size)
