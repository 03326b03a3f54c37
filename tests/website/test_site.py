"""The site: it is built strictly and without a network, fetches nothing, and its generated pages are complete."""

import html
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

import swe_aem
from swe_aem.rollout import RolloutConfig
from swe_aem.train.config import TrainConfig
from tests.cli.test_named_commands import commands
from tests.conftest import absent

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site(require_bubblewrap: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site. A warning ends the build; there is no network."""
    if find_spec("mkdocs") is None:
        absent("mkdocs is not installed: uv sync --all-extras --group docs")
    out = tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(out)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1"}
    apart = ["bwrap", "--dev-bind", "/", "/", "--unshare-net", "--"]
    done = subprocess.run([*apart, *build], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return out


def pages(site: Path) -> Iterator[tuple[Path, str]]:
    yield from ((path, path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html")))


def visible(page: Path) -> str:
    return html.unescape(re.sub(r"<[^>]+>", "", page.read_text(encoding="utf-8")))


@pytest.mark.slow
@pytest.mark.bubblewrap
def test_a_page_fetches_nothing_from_elsewhere(site: Path) -> None:
    fetched = re.compile(r"<(?:script|img|iframe|link)\b[^>]*\b(?:src|href)=\"(?:https?:)?//[^\"]+\"[^>]*>")
    elsewhere = [found for _, text in pages(site) for found in fetched.findall(text)]
    assert [one for one in elsewhere if 'rel="canonical"' not in one] == []
    styles = "".join(path.read_text(encoding="utf-8") for path in site.rglob("*.css"))
    assert re.findall(r"url\(['\"]?(?:https?:)?//[^)]*\)|@import[^;]*", styles) == []


@pytest.mark.slow
@pytest.mark.bubblewrap
def test_formulas_are_drawn_without_a_script(site: Path) -> None:
    left = [path.name for path, text in pages(site) if 'class="arithmatex"' in text or "language-math" in text]
    assert left == []


@pytest.mark.slow
@pytest.mark.bubblewrap
def test_every_command_and_option_has_its_place(site: Path) -> None:
    page = visible(site / "reference" / "commands.html")
    words = {f"swe-aem {name}" for name in commands() if name}
    flags = {flag for command in commands().values() for flag in command.flags if flag.startswith("--")}
    hidden = {"--help", "--install-completion", "--show-completion", "--version"}
    assert [one for one in sorted(words | flags - hidden) if one not in page] == []


@pytest.mark.slow
@pytest.mark.bubblewrap
def test_every_setting_has_its_place(site: Path) -> None:
    page = visible(site / "reference" / "settings.html")
    fields = {*TrainConfig.model_fields, *RolloutConfig.model_fields, "max_context_tokens", "min_range"}
    assert [name for name in sorted(fields) if f"\n{name}\n" not in page] == []
    assert "advantage: AEM" in page


@pytest.mark.slow
@pytest.mark.bubblewrap
def test_every_public_name_has_its_place(site: Path) -> None:
    page = (site / "reference" / "api.html").read_text(encoding="utf-8")
    assert [name for name in swe_aem.__all__ if f"sa.{name}\n" not in page and f"sa.{name}<" not in page] == []
