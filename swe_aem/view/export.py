"""Pages that open without a server: a folder of all, or one file with one page.

`export_folder` writes every page that links lead to from the list of runs, as far as it can be a file: lists in their
usual order, and a bounded number of trajectories. `export_page` writes the page of one run, with all that it needs.
"""

import base64
import hashlib
import re
import shutil
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from urllib.parse import quote

from swe_aem.errors import UserError
from swe_aem.store import replace
from swe_aem.view.found import Kind, Run
from swe_aem.view.server import PLOTLY, static_file
from swe_aem.view.site import STATIC, Address, Asked, NotThere, Page, Shown, Site

MARK = "swe-aem-export.txt"
"""A folder with this file is an export, and may be written again."""
_GENERATOR = '<meta name="generator" content="swe-aem'
_NOWHERE = "about:nowhere"
_LEFT_OUT = "about:left-out"
_SERVER = "about:needs-a-server"
_NEEDS = "needs the running viewer: swe-aem view DIR"
_REASONS = {
    _SERVER: (_NEEDS, f'<span class="unlinked">Dotted text</span> {_NEEDS}.'),
    _LEFT_OUT: (
        "has no page in this export",
        "Trajectories without a link have no page in this export: --export-trajectories says how many have one.",
    ),
}
"""Why what is a link on a server is none in a folder: in a title, and once on the page, for a phone shows no titles."""
_LONGEST = 120
"""Characters of a file name; the middle of a longer one becomes a hash."""
_OF_TRAJECTORY = ("trajectory", "text", "tokens", "log")
_PLACES = ("by", "from", "place", "response", "stream")
"""What the query of such a page says of the place in it; the rest is the list that one came from."""
_ON_DEMAND = ("audit",)
"""What the query of such a page asks for beyond what an export has of it."""
_NEEDS_A_SERVER = ("compare", "compare-runs")
_POLICY = (
    "default-src 'none'; style-src {styles}; script-src {scripts}; img-src data: blob:; base-uri 'none'; "
    "form-action 'none'"
)


class Exported(NamedTuple):
    """What an export wrote."""

    path: Path
    """The first page."""
    pages: int
    left_out: dict[str, int]
    """Trajectories without pages, by the name of their run."""


class FolderLinks:
    """Addresses as files of a folder, relative to the page that they stand on."""

    exported = True
    alone = False
    policy = _POLICY.format(styles="'self' file: 'unsafe-inline'", scripts="'self' file:")

    def __init__(self, pages: Mapping[str, Page], trajectories: int) -> None:
        """At most `trajectories` of each run have pages."""
        self._pages, self._most = pages, trajectories
        self._kept: dict[str, set[tuple[str, str]]] = {}
        self._left_out: dict[str, set[tuple[str, str]]] = {}
        self._offered: dict[str, Address] = {}
        self.wanted: deque[Address] = deque([Address("runs")])
        self._seen = {self.file(Address("runs"))}

    @property
    def left_out(self) -> dict[str, int]:
        """Trajectories without pages, by the name of their run."""
        return {run: len(keys) for run, keys in self._left_out.items()}

    def to(self, address: Address, at: Address) -> str:
        """The relative path of an address; where it has no file, a key of `_REASONS`."""
        if (plain := self._plain(address)) is None:
            return _LEFT_OUT if address.page in _OF_TRAJECTORY else _SERVER
        if any(address.query.get(name) for name in _ON_DEMAND):
            return _SERVER
        href = self._relative(self.file(plain), at)
        self._offered[href] = plain
        return href

    def follow(self, html: str) -> None:
        """Take up the pages that a page leads to: a page may make links that it does not show."""
        for href in dict.fromkeys(re.findall(r'href="([^"#]*)', html)):
            address = self._offered.get(href)
            if address is not None and (file := self.file(address)) not in self._seen:
                self._seen.add(file)
                self.wanted.append(address)
        self._offered.clear()

    def static(self, name: str, at: Address) -> str:
        """The relative path of a file of `static`."""
        return self._relative(PurePosixPath("static", name), at)

    def file(self, address: Address) -> PurePosixPath:
        """The file of a page, below the folder."""
        path = self._pages[address.page].filled(address.values, _file_name).strip("/") or "index"
        place = "".join(f"--{name}-{_file_name(value)}" for name, value in sorted(address.query.items()))
        # What runs are called cannot be in the way of other files.
        return PurePosixPath("pages" if address.values else "", f"{path}{place}.html")

    def _plain(self, address: Address) -> Address | None:
        """The address as it is exported, None if it is not."""
        if address.page in _NEEDS_A_SERVER or address.page not in self._pages:
            return None
        if address.page in _OF_TRAJECTORY:
            places = {name: value for name, value in address.query.items() if name in _PLACES}
            return Address(address.page, address.values, places) if self._is_kept(address.values) else None
        query = {name: value for name, value in address.query.items() if name == "page"}
        if len(query) != len(address.query) or not query.get("page", "1").isdigit():
            return None
        return Address(address.page, address.values, query if query.get("page", "1") != "1" else {})

    def _is_kept(self, values: Mapping[str, str]) -> bool:
        run, key = values["run"], (values["task"], values["sample"])
        kept = self._kept.setdefault(run, set())
        if key not in kept and len(kept) >= self._most:
            self._left_out.setdefault(run, set()).add(key)
            return False
        kept.add(key)
        return True

    def _relative(self, file: PurePosixPath, at: Address) -> str:
        up = "../" * (len(self.file(at).parts) - 1)
        return quote(f"{up}{file}")


class OnePageLinks:
    """Addresses of a page that stands alone: they lead nowhere, and files become part of it."""

    exported = True
    alone = True
    policy = "inline:policy"

    def to(self, address: Address, at: Address) -> str:
        """Nowhere."""
        return _NOWHERE

    def static(self, name: str, at: Address) -> str:
        """A mark, which the file's content replaces."""
        return f"inline:{name}"


def export_folder(
    site: Site, folder: Path, *, trajectories: int, tell: Callable[[str], None] = lambda _: None
) -> Exported:
    """Write every page into `folder`, which is created. `trajectories` of each store have pages of their own. What an
    earlier export of the same folder wrote, whole or not, is written again. Raises `UserError` for a folder that holds
    something else."""
    _claim(folder)
    for name in (*sorted(path.name for path in STATIC.iterdir()), PLOTLY):
        file = static_file(name)
        assert file is not None
        target = folder / "static" / name
        target.parent.mkdir(exist_ok=True)
        shutil.copyfile(file, target)
    _index(site, site.runs())
    links = FolderLinks(site.pages, trajectories)
    pages = 0
    while links.wanted:
        address = links.wanted.popleft()
        html = _page(site, Asked(address, links))
        links.follow(html)
        target = folder / links.file(address)
        target.parent.mkdir(parents=True, exist_ok=True)
        replace(target, html)
        pages += 1
        if pages % 500 == 0:
            tell(f"{pages} pages are written, {len(links.wanted)} are known to come")
    said = [f"{count} trajectories of {run} have no page here" for run, count in links.left_out.items()]
    replace(folder / MARK, "\n".join([f"An export of swe-aem: {pages} pages, begin at index.html.", *said, ""]))
    return Exported(folder / "index.html", pages, links.left_out)


def export_page(site: Site, path: Path) -> Exported:
    """Write the page of the only run as one file. Raises `UserError` where there are several, or a file that is no
    export."""
    runs = [run for run in site.runs() if run.part_of is None]
    if len(runs) != 1:
        found = f"{len(runs)} runs ({', '.join(run.name for run in runs[:5])})" if runs else "no run"
        raise UserError(f"one page shows one run, and here are {found}: name one, or a folder for --export")
    if path.is_file() and _GENERATOR not in path.read_text(encoding="utf-8", errors="replace")[:4096]:
        raise UserError(f"{path} is there and is no export of swe-aem: give another name")
    return write_page(site, runs[0], path)


def write_page(site: Site, run: Run, path: Path) -> Exported:
    """Write the page of a run as one file that loads nothing, whatever was there before."""
    name = "run" if run.kind is Kind.TRAINING or "evaluation" not in site.pages else "evaluation"
    return _write(_page(site, Asked(Address(name, {"run": run.name}), OnePageLinks())), path)


def write_shown(shown: Shown, path: Path) -> Exported:
    """Write what a page shows as one file that loads nothing, without a site of runs."""
    return _write(_without_links(Site((), ()).written(shown, Asked(Address(""), OnePageLinks()))), path)


def _write(html: str, path: Path) -> Exported:
    html = _inlined(html)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace(path, html)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; name another place") from None
    return Exported(path, 1, {})


def _claim(folder: Path) -> None:
    """Make the folder, and mark it before anything else is in it."""
    try:
        if folder.is_file() or (folder.is_dir() and any(folder.iterdir()) and not (folder / MARK).is_file()):
            raise UserError(
                f"{folder} holds something that is no export of swe-aem: name a folder that is new or empty"
            )
        folder.mkdir(parents=True, exist_ok=True)
        replace(folder / MARK, "An export of swe-aem that is not finished: call the same again.\n")
    except OSError as error:
        raise UserError(f"{folder}: {error.strerror}; name another place") from None


def _index(site: Site, runs: Sequence[Run]) -> None:
    for run in runs:
        if run.kind is not Kind.GRADES:
            site.index(run).build()


def _page(site: Site, asked: Asked) -> str:
    """A page; one that cannot be shown says why, as on a server."""
    try:
        html = site.html(asked)
    except (NotThere, UserError) as error:
        shown = Shown(template="problem.html.jinja", title="This cannot be shown", values={"text": str(error)})
        html = site.written(shown, asked)
    return _without_links(html)


def _without_links(html: str) -> str:
    """Links that lead nowhere as plain text, with the reason where it is not plain, and no forms: they need a server.
    Text that pages show holds no tags, for it is escaped."""
    html = _unlinked(html, _NOWHERE, r"\1")
    for href, (title, note) in _REASONS.items():
        found = _unlinked(html, href, rf'<span class="unlinked" title="{title}">\1</span>')
        html = found if found == html else found.replace("</h1>", f'</h1>\n<p class="faint">{note}</p>', 1)
    form = f'<p class="faint">To choose what is shown {_NEEDS}.</p>'
    return re.sub(r"<form\b.*?</form>", form, html, flags=re.DOTALL)


def _unlinked(html: str, href: str, put: str) -> str:
    """The page with what stands in links to `href` put as it is said."""
    return re.sub(rf'<a\b[^>]*\bhref="{href}[^"]*"[^>]*>(.*?)</a>', put, html, flags=re.DOTALL)


def _inlined(html: str) -> str:
    """The page with its style sheet and scripts in it; no other script may run."""
    styles = (STATIC / "style.css").read_text(encoding="utf-8")
    html = html.replace('<link rel="stylesheet" href="inline:style.css">', f"<style>\n{styles}</style>")
    names = re.findall(r'<script src="inline:([\w.-]+)" defer></script>\n', html)
    html = re.sub(r'<script src="inline:[\w.-]+" defer></script>\n', "", html)
    scripts = [_script(name) for name in names]
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in scripts
    )
    policy = _POLICY.format(styles="'unsafe-inline'", scripts=hashes or "'none'")
    html = html.replace(f'content="{OnePageLinks.policy}"', f'content="{policy}"', 1)
    body, end = html.rsplit("</body>", 1)
    return body + "".join(f"<script>{text}</script>\n" for text in scripts) + "</body>" + end


def _script(name: str) -> str:
    file = static_file(name)
    assert file is not None
    return file.read_text(encoding="utf-8").replace("</script", "<\\/script").replace("<!--", "<\\!--")


def _file_name(value: str) -> str:
    """A value as a name that every file system takes: no slash, no leading dot, not too long."""
    text = quote(value, safe=" +,=@~", errors="surrogatepass")
    text = text.replace(".", "%2E", 1) if text.startswith(".") else text
    if len(text) <= _LONGEST:
        return text
    return f"{text[: _LONGEST - 17]}~{hashlib.sha256(text.encode()).hexdigest()[:16]}"
