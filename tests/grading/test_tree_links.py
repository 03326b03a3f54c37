"""Names through links of a tree are those that the kernel finds."""

import os
import stat
from pathlib import Path

import pytest

from swe_aem.core import TreeEntry
from swe_aem.grading.tree_links import paths_through_links

LINKS = {
    "calc": "src/calc", "alias": "calc", "up": "src/calc/../..", "lib/inner": "../src/./calc/", "whole": "WORKDIR/src",
    "out": "/usr/lib", "above": "../../x", "beside": "WORKDIR-other/src", "dangling": "nothing", "ring": "gnir",
    "gnir": "ring", "itself": "itself/a", "file": "src/calc/core.py", "through_a_file": "src/calc/core.py/x",
}  # fmt: skip


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A work tree with the links."""
    root = tmp_path / "tree"
    (root / "src" / "calc" / "deep").mkdir(parents=True)
    (root / "lib").mkdir()
    for name in ("core.py", "deep/a.py"):
        (root / "src" / "calc" / name).touch()
    (tmp_path / "tree-other" / "src").mkdir(parents=True)
    (tmp_path / "tree-other" / "src" / "no.py").touch()
    for name, target in LINKS.items():
        (root / name).symlink_to(target.replace("WORKDIR", str(root)))
    return root


def listed(tree: Path) -> dict[str, TreeEntry]:
    """The entries as a sandbox lists them."""
    found = {}
    for path in tree.rglob("*"):
        state = path.lstat()
        target = os.fsencode(path.readlink()) if stat.S_ISLNK(state.st_mode) else b""
        found[str(path.relative_to(tree))] = TreeEntry(state.st_mode, 0, 0, 0, 0, target)
    return found


@pytest.mark.parametrize("link", LINKS)
def test_a_link_has_what_the_kernel_finds_below_it(tree: Path, link: str) -> None:
    place = tree / link
    inside = link not in ("out", "above", "beside")
    expected = {f"{link}/{name}" for name in os.listdir(place)} if inside and place.is_dir() else set()
    found = paths_through_links(listed(tree), str(tree), [f"{link}/core.py"])
    assert {path for path in found if path.count("/") == link.count("/") + 1} == expected


def test_links_are_followed_only_where_files_replace_them(tree: Path) -> None:
    entries = listed(tree)
    assert paths_through_links(entries, str(tree), ["src/calc/core.py", "README.md", "calc_more.py"]) == set()
    assert paths_through_links(entries, str(tree), ["calc.py"]) == {"calc/core.py", "calc/deep", "calc/deep/a.py"}
