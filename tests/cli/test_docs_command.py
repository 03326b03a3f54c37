"""`swe-aem docs`: every page can be read where only the package is installed, and is what help and errors name."""

import re
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from swe_aem.cli import app
from swe_aem.cli.docs import docs, pages
from swe_aem.errors import UserError
from tests.cli.test_named_commands import SOURCES, prose

ROOT = Path(__file__).parents[2]


def test_all_pages_are_listed_with_their_titles() -> None:
    said = CliRunner().invoke(app, ["docs"]).output
    assert re.search(r"^bench +Benchmark a policy$", said, re.MULTILINE)
    assert re.search(r"^learn/first-run +First run$", said, re.MULTILINE)
    assert len(said.splitlines()) == 1 + len(list((ROOT / "docs").rglob("*.md")))


@pytest.mark.parametrize("name", ["extend/reward", "docs/extend/reward.md"])
def test_a_page_is_printed_as_it_was_written(name: str) -> None:
    said = CliRunner().invoke(app, ["docs", name]).output
    assert said == (ROOT / "docs" / "extend" / "reward.md").read_text(encoding="utf-8")


def test_the_place_of_a_page_is_printed() -> None:
    assert CliRunner().invoke(app, ["docs", "bench", "--path"]).output.strip() == str(ROOT / "docs" / "bench.md")


def test_an_unknown_page_is_refused_with_what_it_may_stand_for() -> None:
    with pytest.raises(UserError, match=re.escape("there is no page trainin (did you mean training?); `swe-aem docs`")):
        docs("trainin", path=False)


def test_help_and_errors_name_pages_that_exist() -> None:
    texts = {f"{path.relative_to(ROOT)}:{line}": text for path in SOURCES for line, text in prose(path)}
    named = {where: re.findall(r"swe-aem docs\s+([a-z][a-z/-]*[a-z])", text) for where, text in texts.items()}
    assert {where: names for where, names in named.items() if set(names) - pages().keys()} == {}
    assert sum(map(len, named.values())) > 10


def test_help_names_no_file_that_an_installed_package_lacks() -> None:
    def texts(command: object) -> list[str]:
        own = [str(getattr(command, name, None)) for name in ("help", "epilog")]
        own += [str(getattr(param, "help", None)) for param in getattr(command, "params", ())]
        names = command.list_commands(None) if hasattr(command, "list_commands") else []  # type: ignore[attr-defined]
        return own + [text for name in names for text in texts(command.get_command(None, name))]  # type: ignore[attr-defined]

    found = [text for text in texts(typer.main.get_command(app)) if re.search(r"\bdocs/[\w/-]+\.md\b", text)]
    assert found == []
