"""What the docs name exists: files of the repository, tests, modules, settings, links.

Commands and their options are those of `tests/cli/test_named_commands.py`.
"""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    ROOT / "benchmarks" / "README.md",
    *sorted((ROOT / "tasks").glob("*/README.md")),
]
FOLDERS = "swe_aem|tests|docs|configs|benchmarks|sandboxes|serving|tasks"
EXAMPLES = {
    "tasks/micro/tasks.lock",
    "sandboxes/NAME/build.sh",
    "test_brief.py",
    "test_x.py",
    "tests/test_shelf.py",
    "test_shelf.py",
}
"""Names of files that a command or a reader makes, and placeholders."""

PATH = re.compile(rf"(?<![\w/.<>*-])(?:{FOLDERS})/[\w./*-]*\w/?(?![\w<{{])")
TEST = re.compile(r"(test_\w+\.py)?::(test_\w+\*?)")
DOTTED = re.compile(r"(?<![\w/])swe_aem(?:\.[A-Za-z_]\w*)+")
SETTING = re.compile(r"--set[ =]'?([\w.]+)=")
LINK = re.compile(r"\]\(([^)\s]+)\)")


def slug(heading: str) -> str:
    """Anchor that GitHub makes of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def headings(page: Path) -> set[str]:
    """Anchors of a page."""
    return {slug(found) for found in re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)}


def is_defined(dotted: str) -> bool:
    """Whether `swe_aem.a.b` is a module, or a name that the module before it mentions."""
    path, names = ROOT, dotted.split(".")
    while names and (path / names[0]).is_dir():
        path /= names.pop(0)
    path = path / "__init__.py" if not names or not (path / f"{names[0]}.py").exists() else path / f"{names.pop(0)}.py"
    text = path.read_text(encoding="utf-8")
    return all(re.search(rf"\b{name}\b", text) for name in names[:1])


@pytest.mark.parametrize("path", sorted((ROOT / "docs").rglob("*.md")), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_page_says_what_it_is_for_and_what_comes_next(path: Path) -> None:
    text = " ".join(path.read_text(encoding="utf-8").split())
    assert re.search(r"After (this page|them|the last one) you|You (can|have) now|You have followed", text), (
        "what can a reader do after it?"
    )
    assert re.search(r"Next: .*\]\(", text), "Next: [a page](page.md)"


@pytest.fixture(params=PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def page(request: pytest.FixtureRequest) -> Path:
    return request.param


def test_every_path_exists(page: Path) -> None:
    named = set(PATH.findall(page.read_text(encoding="utf-8"))) - EXAMPLES
    assert not sorted(name for name in named if not list(ROOT.glob(name.rstrip("/"))))


def test_every_test_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    named_files = set(re.findall(r"\btest_\w+\.py", text)) - EXAMPLES
    sources = {path.name: "" for path in (ROOT / "tests").rglob("test_*.py")}
    for path in (ROOT / "tests").rglob("test_*.py"):
        sources[path.name] += path.read_text(encoding="utf-8")
    missing = sorted(named_files - set(sources))
    for file, name in TEST.findall(text):
        places = [file] if file else named_files
        if file not in EXAMPLES and not any(
            re.search(rf"def {name.rstrip('*')}", sources.get(place, "")) for place in places
        ):
            missing.append(f"{file}::{name}")
    assert not missing


def test_every_module_and_name_exists(page: Path) -> None:
    sources = (path.read_text(encoding="utf-8") for path in (ROOT / "swe_aem").rglob("*.py"))
    groups = {group for text in sources for group in re.findall(r'group="(swe_aem\.\w+)"', text)}  # of entry points
    named = set(DOTTED.findall(page.read_text(encoding="utf-8"))) - groups
    assert not sorted(name for name in named if not is_defined(name))


def test_every_setting_exists(page: Path) -> None:
    fields = {
        field
        for path in (ROOT / "swe_aem").rglob("*.py")
        for field in re.findall(r"^    (\w+):", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    }
    settings = [name.split(".") for name in SETTING.findall(page.read_text(encoding="utf-8"))]
    named = {
        parts[-1] for parts in settings if parts[0] not in ("grpo", "harness")
    }  # TRL's fields, a harness's options
    assert not sorted(named - fields - {"FIELD"})


def test_every_link_leads_somewhere(page: Path) -> None:
    broken = []
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        if "://" in link:
            continue
        file, _, anchor = link.partition("#")
        target = page.parent / file if file else page
        if not target.exists() or (anchor and anchor not in headings(target)):
            broken.append(link)
    assert not broken


def test_lines_fit_a_screen(page: Path) -> None:
    lines = page.read_text(encoding="utf-8").splitlines()
    long = [number for number, line in enumerate(lines, start=1) if len(line) > 125 and not line.startswith("|")]
    assert not long
