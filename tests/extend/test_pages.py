"""docs/extend/ and docs/learn/: each page is followed to its end in an empty directory, with the wheel installed."""

from pathlib import Path

import pytest

from tests.extend.conftest import Stranger
from tests.extend.pages import FOLDERS, PAGES, Block, blocks, follow, is_said


@pytest.mark.slow
@pytest.mark.bubblewrap
@pytest.mark.timeout(900)
@pytest.mark.parametrize("page", PAGES, ids=lambda page: f"{page.parent.name}-{page.stem}")
def test_a_page_is_true(page: Path, require_bubblewrap: None, stranger: Stranger, tmp_path: Path) -> None:
    follow(page, stranger, tmp_path)


LONG = [page for page in PAGES if any(block.nightly for block in blocks(page.read_text(encoding="utf-8")))]


@pytest.mark.nightly
@pytest.mark.bubblewrap
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("page", LONG, ids=lambda page: f"{page.parent.name}-{page.stem}")
def test_what_takes_minutes_is_true(page: Path, require_bubblewrap: None, stranger: Stranger, tmp_path: Path) -> None:
    follow(page, stranger, tmp_path, nightly=True)


PAGE = """
# A page

Save it as `a/x.py`:

```python
print("from the file", 12)
```

    it is not run

```sh
python a/x.py
```

It prints `y.txt`:

```text
from   the file ...
```

```python
# z.py
1 / 0
```

```python
import pathlib; assert pathlib.Path("z.py").exists()
```

```sh no-run
false
```

```sh nightly
false
```
"""


def test_blocks_are_what_the_sentences_before_them_say() -> None:
    assert [(block.language, block.runs, block.file) for block in blocks(PAGE)] == [
        ("python", True, "a/x.py"),
        ("sh", True, None),
        ("text", True, None),
        ("python", True, "z.py"),
        ("python", True, None),
        ("sh", False, None),
        ("sh", True, None),
    ]
    assert [block.nightly for block in blocks(PAGE)] == [*[False] * 6, True]
    assert blocks(PAGE)[0] == Block(6, "python", True, "a/x.py", 'print("from the file", 12)\n')


def test_a_page_is_followed(stranger: Stranger, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    follow(page, stranger, tmp_path)


@pytest.mark.parametrize(
    ("true", "untrue", "said"),
    [
        ("from   the file ...", "from   the file 13", r"page.md:18: not printed: \['from   the file 13'\]"),
        ("python a/x.py", "python a/y.py", r"page.md:12 fails:\n.*No such file"),
        ("sh no-run", "yaml", "page.md:31: yaml is no file"),
        ('exists()\n```', 'exists() is None\n```', "page.md:27 fails:\n.*AssertionError"),
    ],
)  # fmt: skip
def test_what_is_untrue_is_found(true: str, untrue: str, said: str, stranger: Stranger, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    assert true in PAGE
    page.write_text(PAGE.replace(true, untrue))
    with pytest.raises(AssertionError, match=f"(?s){said}"):
        follow(page, stranger, tmp_path)


@pytest.mark.parametrize(
    ("line", "found"),
    [("a b", True), ("b  c", True), ("a ... c", True), ("c ... a", False), ("a...z", False), ("", True), ("d", False)],
)
def test_a_printed_line(line: str, found: bool) -> None:
    assert is_said(line, "x\na  b c\nz") is found


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_page_is_in_the_index(folder: str) -> None:
    pages = [page for page in PAGES if page.parent.name == folder]
    index = next(page for page in pages if page.stem == "index").read_text(encoding="utf-8")
    assert [page.name for page in pages if page.stem != "index" and f"]({page.name})" not in index] == []
