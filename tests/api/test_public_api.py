"""The public names: what they are, how they are found, and that a change of them is told."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import swe_aem as sa
from tests.public_api import listing

ROOT = Path(__file__).parents[2]
CHANGELOG = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def name_of(line: str) -> str:
    """The public name that a line of the list is about."""
    found = re.match(r"[\w.]+", line)
    assert found is not None, line
    return found.group()


def test_a_change_of_the_public_api_is_named_in_the_changelog() -> None:
    listed = (ROOT / "tests" / "public_api.txt").read_text(encoding="utf-8").splitlines()
    unreleased = CHANGELOG.partition("## Unreleased\n")[2].partition("\n## ")[0]
    changed = sorted({name_of(line) for line in set(listed) ^ set(listing())})
    before = {name_of(line).partition(".")[0].partition("(")[0] for line in listed}
    new = {name for name in changed if name.partition(".")[0] not in before}
    told = set(re.findall(r"`([\w.]+)`", unreleased))
    told |= {name for name in new if name.partition(".")[0] in told}  # the parts of a new name
    unnamed = [name for name in changed if name not in told]
    assert not unnamed, "the public API has changed: say so under Unreleased in CHANGELOG.md, with these names"


def test_the_changelog_has_the_version() -> None:
    assert f"\n## {sa.__version__}\n" in CHANGELOG


def test_every_public_name_is_documented() -> None:
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    assert [name for name in sa.__all__ if not re.search(rf"\bsa\.{name}\b|`{name}`", page)] == []
    assert [name for name in sa.__all__ if not getattr(sa, name).__doc__] == []


@pytest.mark.parametrize("module", ["pydantic", "torch", "renderers", "datasets", "docker"])
def test_the_import_loads_nothing_heavy(module: str) -> None:
    code = f"import sys, swe_aem as sa; dir(sa); sa.errors.UserError; assert {module!r} not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_name_is_there_without_torch() -> None:
    code = (
        "import sys\nfor name in ('torch', 'transformers', 'trl', 'matplotlib'): sys.modules[name] = None\n"
        "import swe_aem as sa\nfor name in sa.__all__: getattr(sa, name)\nassert set(sa.__all__) <= set(dir(sa))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_unknown_name_is_an_error() -> None:
    with pytest.raises(AttributeError, match="module 'swe_aem' has no attribute 'rolout'"):
        sa.rolout  # type: ignore[attr-defined]  # noqa: B018


@pytest.mark.parametrize("order", ["import swe_aem.rollout, swe_aem.train, swe_aem.evaluate", "sa.rollout, sa.train"])
def test_packages_take_no_function_s_place(order: str) -> None:
    code = (
        f"import swe_aem as sa\n{order}\n"
        "from swe_aem.rollout import RolloutRun\nfrom swe_aem.evaluate import report\nimport swe_aem.train.config\n"
        "from swe_aem import rollout\n"
        "assert [one.__name__ for one in (sa.rollout, rollout, sa.train, sa.evaluate)] == "
        "['rollout', 'rollout', 'train', 'evaluate']\n"
        "assert all(map(callable, (sa.rollout, sa.train, sa.evaluate)))\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_tests_reach_no_package_by_a_name_that_is_a_function_s() -> None:
    """`setattr` looks for the parts of a dotted name in the function; the module itself can be handed over."""
    dotted = re.compile(r"setattr\(\s*[\"']swe_aem\.(?:rollout|train|evaluate)\.")
    files = [path for path in (ROOT / "tests").rglob("test_*.py") if dotted.search(path.read_text(encoding="utf-8"))]
    assert files == []
