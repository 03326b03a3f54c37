"""docs/algorithms/ and docs/concepts/: their examples run and print what stands below them, and their commands name
settings that exist."""

import contextlib
import io
import re
import shlex
from itertools import pairwise
from pathlib import Path

import pytest

from swe_aem.advantage.config import ADVANTAGES
from swe_aem.train.config import read_config
from tests.extend.pages import blocks, is_said

ROOT = Path(__file__).parents[2]
PAGES = sorted([*(ROOT / "docs" / "algorithms").glob("*.md"), *(ROOT / "docs" / "concepts").glob("*.md")])


@pytest.mark.torch
@pytest.mark.parametrize("page", PAGES, ids=lambda page: f"{page.parent.name}-{page.stem}")
def test_the_examples_of_a_page(page: Path) -> None:
    names: dict[str, object] = {}
    said = ""
    for block in blocks(page.read_text(encoding="utf-8")):
        if not block.runs:
            continue
        if block.language == "python":
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                exec(compile(block.body, f"{page.name}:{block.line}", "exec"), names)
            said = printed.getvalue()
        elif block.language == "text":
            assert [line for line in block.body.splitlines() if not is_said(line, said)] == [], said


def training_commands(page: Path) -> list[list[str]]:
    """The words of each `swe-aem train` of a page's blocks."""
    shell = "".join(block.body for block in blocks(page.read_text(encoding="utf-8")) if block.language == "sh")
    lines = shell.replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True) for line in lines if line.startswith("swe-aem train ")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: f"{page.parent.name}-{page.stem}")
def test_the_commands_of_a_page_are_accepted(page: Path) -> None:
    for _, _, config, *words in training_commands(page):
        given = [word for name, word in pairwise(words) if name == "--set"]
        read_config(ROOT / config, given)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: f"{page.parent.name}-{page.stem}")
def test_every_setting_of_a_page_is_accepted(page: Path) -> None:
    """Settings in tables, such as `advantage.shuffle=true`, with the estimator that the page is about."""
    text = page.read_text(encoding="utf-8")
    about = [f"advantage.estimator={page.stem}"] if page.stem in ADVANTAGES.names else []
    for name, value in re.findall(r"`([a-z_]+(?:\.[a-z_]+)*)=([^`\s]+)`", text):
        read_config(ROOT / "configs" / "quickstart.yaml", [*(about if "." in name else ()), f"{name}={value}"])


def test_every_estimator_has_a_page() -> None:
    of_its_own = {page.stem for page in PAGES}
    in_a_table = set(
        re.findall(r"^\| `(\w+)` \|", (ROOT / "docs" / "algorithms" / "grpo.md").read_text(), re.MULTILINE)
    )
    assert set(ADVANTAGES.names) - of_its_own - in_a_table == set()
