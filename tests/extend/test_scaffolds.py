"""What `swe-aem init` writes: its tests pass, can fail, and once installed it is used by its name."""

import re
from pathlib import Path

import pytest

from swe_aem.scaffold import KINDS
from tests.extend.conftest import Stranger

NAMES = {kind: f"own-{kind}" for kind in KINDS} | {"task-sampler": "own_sampler"}
BROKEN = {
    "family": ('fix_commit=row["fix"]', 'fix_commit=row["fix"] + "~1"'),
    "reward": ("1.0 - self.turn_cost", "1.0 - 2 * self.turn_cost"),
    "task-sampler": ("inputs.random.choices(ids, chances", "inputs.random.choices(ids"),
}
"""A mistake in the module of each kind, as text to replace."""


@pytest.fixture(scope="module")
def begun(stranger: Stranger, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with a package of each kind, as the command writes them."""
    folder = tmp_path_factory.mktemp("begun")
    stranger.types("\n".join(f"swe-aem init {kind} {name}" for kind, name in NAMES.items()), folder)
    return folder


@pytest.fixture(scope="module")
def installed(stranger: Stranger, begun: Path) -> Path:
    """The same folder, after all of its packages were installed."""
    stranger.types(f"uv pip install -q {' '.join(f'-e ./{name}' for name in NAMES.values())}", begun)
    return begun


@pytest.mark.bubblewrap
def test_the_tests_pass_before_anything_is_installed(require_bubblewrap: None, stranger: Stranger, begun: Path) -> None:
    said = stranger.types("pytest -q", begun)
    assert re.search(r"\b\d+ passed", said), said
    assert "skipped" not in said, said


@pytest.mark.bubblewrap
def test_the_tests_can_fail(require_bubblewrap: None, stranger: Stranger, begun: Path, tmp_path: Path) -> None:
    for kind, name in NAMES.items():
        module = name.replace("-", "_")
        right, wrong = BROKEN[kind]
        text = (begun / name / f"{module}.py").read_text()
        assert text.count(right) == 1, f"{kind}: {right!r}"
        (tmp_path / f"{module}.py").write_text(text.replace(right, wrong))
        (tmp_path / f"test_{module}.py").write_text((begun / name / f"test_{module}.py").read_text())
    said = stranger.tries("pytest -q -rf", tmp_path).stdout
    failed = set(re.findall(r"^FAILED test_(\w+)\.py", said, flags=re.MULTILINE))
    assert failed == {name.replace("-", "_") for name in NAMES.values()}, said


def test_settings_find_what_is_installed(stranger: Stranger, installed: Path) -> None:
    code = f"""
from swe_aem.scaffold import KINDS
for kind, name in {NAMES!r}.items():
    found = KINDS[kind].extension_point().find(name)
    print(kind, found.value.__name__, found.identity)
"""
    said = stranger.types(f"python - <<'END'\n{code}\nEND", installed)
    for kind, name in NAMES.items():
        title = "".join(map(str.capitalize, re.split("[-_]", name)))
        assert re.search(rf"^{kind} {title} {name} 0\.1\.0, sha256:\w+$", said, flags=re.MULTILINE), said


@pytest.mark.bubblewrap
@pytest.mark.parametrize("kind", ["reward"])
def test_the_command_that_it_names_uses_it(
    kind: str, require_bubblewrap: None, stranger: Stranger, installed: Path
) -> None:
    command = (installed / NAMES[kind] / "README.md").read_text().splitlines()[-1].strip()
    assert command.startswith("swe-aem ")
    said = stranger.types(command, installed)
    assert "4 of 4 trajectories" in said
