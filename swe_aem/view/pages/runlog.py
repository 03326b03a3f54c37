"""The log of a run, `run.log`: its last part, and older ones a piece of bounded size at a time."""

from pathlib import Path

from swe_aem.errors import UserError
from swe_aem.runlog import FILE, is_log
from swe_aem.view.found import Run
from swe_aem.view.pages.log import LogPiece
from swe_aem.view.pages.text import SIZE
from swe_aem.view.site import Asked, Crumb, NotThere, Shown, Site
from swe_aem.view.story.clip import coloured


def show(site: Site, asked: Asked) -> Shown:
    """A piece of the log that the query's `file` names, else of `run.log`: from the byte that `from` says, else its
    end."""
    run = site.run(asked.values["run"])
    names = logs_of(run)
    name = asked.query.get("file") or FILE
    if name not in names:
        raise NotThere(f"{run.name} has no {name}")
    piece = read_piece(run.directory / name, asked.query.get("from"))
    end = min(piece.start + SIZE, piece.total)

    def at(number: int) -> str:
        return asked.link("runlog", query={"file": name, "from": str(number)}, run=run.name)

    def whole(of: str) -> str:
        return asked.link("runlog", query={} if of == FILE else {"file": of}, run=run.name)

    return Shown(
        template="runlog.html.jinja",
        title=f"{name} of {run.name}",
        crumbs=(Crumb(run.name, asked.link("run", run=run.name)),),
        values={
            "files": [(one, whole(one), one == name) for one in names] if len(names) > 1 else [],
            "pieces": coloured(piece.text),
            "start": piece.start,
            "end": end,
            "total": piece.total,
            "unit": "bytes",
            "note": f"{run.directory / name} is all of it.",
            "kind": "observation-whole",
            "earlier": at(max(0, piece.start - SIZE)) if piece.start else "",
            "later": at(piece.start + SIZE) if end < piece.total else "",
            "last": whole(name),
        },
        live="from" not in asked.query,
    )


def logs_of(run: Run) -> list[str]:
    """The names of a run's logs, `run.log` first; empty where there is none."""
    try:
        names = [
            path.name
            for path in run.directory.iterdir()
            if is_log(path.name) and path.is_file() and not path.is_symlink()
        ]
    except OSError:
        return []
    return sorted(names, key=lambda name: (name != FILE, name))


def read_piece(path: Path, asked: str | None) -> LogPiece:
    """A piece of a log: from the byte that was asked for, or the end of it, from the first line that begins in it."""
    try:
        with path.open("rb") as file:
            total = file.seek(0, 2)
            start = max(0, total - SIZE) if asked is None else _byte(asked, total)
            file.seek(start)
            data = file.read(SIZE)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error}") from None
    if asked is None and start and (cut := data.find(b"\n") + 1):
        start, data = start + cut, data[cut:]
    return LogPiece(data.decode("utf-8", "replace"), start, total)


def _byte(asked: str, total: int) -> int:
    number = int(asked) if asked.isascii() and asked.isdigit() and len(asked) < 16 else 0
    return min(number, max(total - 1, 0))
