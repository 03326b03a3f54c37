"""What `swe-aem init` writes: its tests pass, can fail, and once installed it is used by its name."""

import re
from pathlib import Path

import pytest

from swe_aem.scaffold import KINDS
from tests.extend.conftest import Stranger

pytestmark = pytest.mark.timeout(900)
NAMES = {kind: f"own-{kind}" for kind in KINDS} | {"task-sampler": "own_sampler"}
BROKEN = {
    "family": ('fix_commit=row["fix"]', 'fix_commit=row["fix"] + "~1"'),
    "reward": ("1.0 - self.turn_cost", "1.0 - 2 * self.turn_cost"),
    "advantage": ("self.negative * advantage", "advantage"),
    "agent": ('call.name == "done"', 'call.name == "run"'),
    "sandbox": ("self._variables | spec.env", "spec.env"),
    "task-sampler": ("inputs.random.choices(ids, chances", "inputs.random.choices(ids"),
}
"""A mistake in the module of each kind, as text to replace."""

QUICK = "-k 'not Conformance and not TestOwnSandbox or fresh_shell'"
"""Of the tests that a sandbox inherits, one is enough here; the nightly test runs them all."""


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
    said = stranger.types(f"pytest -q {QUICK}", begun)
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
    said = stranger.tries(f"pytest -q -rf {QUICK}", tmp_path).stdout
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
@pytest.mark.parametrize(
    "kind", ["sandbox", *(pytest.param(kind, marks=pytest.mark.nightly) for kind in ("reward", "agent"))]
)
def test_the_command_that_it_names_rolls_out_with_it(
    kind: str, require_bubblewrap: None, stranger: Stranger, installed: Path
) -> None:
    assert "4 of 4 trajectories" in stranger.types(command_of(installed, kind), installed)


@pytest.mark.parametrize("kind", ["advantage", "task-sampler"])
def test_the_command_that_it_names_would_train_with_it(kind: str, stranger: Stranger, installed: Path) -> None:
    stranger.types(f"{command_of(installed, kind)} --dry-run", installed)


@pytest.mark.nightly
@pytest.mark.bubblewrap
@pytest.mark.parametrize("kind", ["advantage", "task-sampler"])
def test_the_command_that_it_names_trains_with_it(
    kind: str, require_bubblewrap: None, stranger: Stranger, installed: Path
) -> None:
    small = "steps=1 oversampled_groups=3 groups_per_step=2 rollout.group_size=4 heldout=null"
    sets = " ".join(f"--set {one}" for one in small.split())
    assert "step 1/1" in stranger.types(f"{command_of(installed, kind)} {sets}", installed)


@pytest.mark.nightly
@pytest.mark.bubblewrap
def test_the_sandbox_conforms(require_bubblewrap: None, stranger: Stranger, begun: Path) -> None:
    said = stranger.types("pytest -q", begun / NAMES["sandbox"])
    assert re.search(r"\b[3-9]\d passed", said), said


def command_of(folder: Path, kind: str) -> str:
    """The command that a package's README names for its use."""
    command = (folder / NAMES[kind] / "README.md").read_text().splitlines()[-1].strip()
    assert command.startswith("swe-aem "), command
    return command
