"""The pages of docs/extend/ and docs/learn/: what a reader saves, types and sees, in the order of the page.

A block of a page is one of these:
- a file, if the sentence before it says so: "Save it as `my_reward.py`:", or if its first line is `# my_reward.py`;
- `sh`: typed in the reader's directory, each block in a shell of its own; every command must succeed;
- `python` that is no file: run as a script of its own in that directory;
- `text` behind one of these two: what it prints, among other lines; `...` stands for anything within a line;
- without a language, or with `no-run` behind it (```` ```yaml no-run ````): only read. Another language must be one of
  these two or a file;
- with `nightly` behind it: what takes minutes, which is typed in nightly tests only, as is what it prints.
"""

import re
from pathlib import Path
from typing import NamedTuple

from tests.extend.conftest import ROOT, Stranger

FOLDERS = ("extend", "learn")
PAGES = [page for folder in FOLDERS for page in sorted((ROOT / "docs" / folder).glob("*.md"))]
_BLOCK = re.compile(r"^```(?P<info>[^\n]*)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE = r"[\w./-]+\.\w+"
_SAVED = re.compile(rf"\b[Ss]ave\b[^.:]*?`(?P<file>{_FILE})`(?:(?!\.\s).)*$", re.DOTALL)
_NAMED = re.compile(rf"# (?P<file>{_FILE})\n")


class Block(NamedTuple):
    """One block of a page."""

    line: int
    language: str
    runs: bool
    file: str | None
    body: str
    nightly: bool = False


def blocks(text: str) -> list[Block]:
    """Every block of a page, in its order."""
    found: list[Block] = []
    for match in _BLOCK.finditer(text):
        language, _, rest = match["info"].partition(" ")
        paragraph = text[: match.start()].rstrip().rpartition("\n\n")[2]
        file = _SAVED.search(paragraph) or _NAMED.match(match["body"])
        line = text.count("\n", 0, match.start()) + 1
        nightly = rest == "nightly" or (language == "text" and bool(found) and found[-1].nightly)
        found.append(Block(line, language, rest != "no-run", file and file["file"], match["body"], nightly))
    return found


def follow(page: Path, stranger: Stranger, directory: Path, *, nightly: bool = False) -> None:
    """Do what a page says, in an empty directory, with `nightly` also what takes minutes; an `AssertionError` names the
    line of a block that is not true."""
    said = ""
    for block in blocks(page.read_text(encoding="utf-8")):
        where = f"{page.name}:{block.line}"
        if not block.runs or (block.nightly and not nightly):
            continue
        if block.file is not None:
            (directory / block.file).parent.mkdir(parents=True, exist_ok=True)
            (directory / block.file).write_text(block.body, encoding="utf-8")
        elif block.language in ("sh", "python"):
            script = block.body
            if block.language == "python":
                example = directory / f"example_{block.line}.py"
                example.write_text(block.body, encoding="utf-8")
                script = f"python {example.name}"
            done = stranger.tries(script, directory)
            said = done.stdout
            assert done.returncode == 0, f"{where} fails:\n{said}"
        elif block.language == "text":
            unsaid = [line for line in block.body.splitlines() if not is_said(line, said)]
            assert not unsaid, f"{where}: not printed: {unsaid}; printed:\n{said}"
        else:
            assert not block.language, (
                f"{where}: {block.language} is no file: say where to save it, or ```{block.language} no-run"
            )


def is_said(line: str, said: str) -> bool:
    """Whether a line was printed, alone or within one; `...` stands for anything, and a space for one or more."""
    words = [r"\s+".join(map(re.escape, part.split())) for part in line.split("...")]
    return not line.strip() or re.search(r"[^\n]*".join(words), said) is not None
