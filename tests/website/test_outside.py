"""Links between docs/ and the rest of the repository."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "website"))

from outside import with_links_of_the_site


@pytest.mark.parametrize(
    ("page", "text", "on_the_site"),
    [
        ("learn/first-run.md", "[a](../../README.md)", "[a](../index.md)"),
        ("serving.md", "[a](../benchmarks/README.md#b)", "[a](benchmarks.md#b)"),
        ("serving.md", "[a](memory.md#b) [c](#d)", "[a](memory.md#b) [c](#d)"),
        ("changelog.md", "[a](docs/extend/index.md)", "[a](extend/index.md)"),
        ("changelog.md", "![a](docs/images/b.png)", "![a](images/b.png)"),
        ("benchmarks.md", "[a](../docs/bench.md), [b](unit.py)", "[a](bench.md), b"),
        ("bench.md", "[a](https://b.c/d.md)", "[a](https://b.c/d.md)"),
    ],
)
def test_a_link_leads_to_the_page_of_the_site(page: str, text: str, on_the_site: str) -> None:
    assert with_links_of_the_site(text, page) == on_the_site
