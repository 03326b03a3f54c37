"""The packages stand in one order, and the command line imports nothing heavy before a verb runs."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import TOGETHER

PACKAGE = Path(__file__).parents[1] / "swe_aem"
PACKAGES = (
    "runlog",
    "core",
    "reward",
    "advantage",
    "sandbox",
    "doctor",
    "tasks",
    "policy",
    "serve",
    "agent",
    "models",
    "gateway",
    "harness",
    "grading",
    "store",
    "audit",
    "rollout",
    "fleet",
    "preflight",
    "evaluate",
    "predictions",
    "selection",
    "train",
    "view",
    "bench",
    "api",
    "testing",
    "scaffold",
    "cli",
)


def imported_packages(path: Path) -> set[str]:
    """Packages that a file imports, at its top or inside a function."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            parts = name.split(".")
            if parts[0] == "swe_aem" and len(parts) > 1 and parts[1] in PACKAGES:
                found.add(parts[1])
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_imports_only_packages_before_it(package: str) -> None:
    allowed = set(PACKAGES[: PACKAGES.index(package) + 1])
    for path in (PACKAGE / package).rglob("*.py"):
        assert imported_packages(path) <= allowed, path


def test_every_package_is_in_the_list() -> None:
    packages = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    assert packages == set(PACKAGES)


@pytest.mark.parametrize(
    "module", ["torch", "transformers", "renderers", "datasets", "docker", "swebench", "pydantic", "ray"]
)
def test_help_imports_nothing_heavy(module: str) -> None:
    code = f"import sys, swe_aem.cli; assert {module!r} not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_ray_is_imported_in_one_file() -> None:
    imports = re.compile(r"^\s*(?:from|import) ray\b", re.MULTILINE)
    found = [str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py") if imports.search(path.read_text())]
    assert found == ["fleet/ray_engine.py"]


def test_source_is_parsed_in_one_file() -> None:
    found = [str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py") if "ast.parse(" in path.read_text()]
    assert found == ["core/python_source.py"]


def test_estimators_import_torch_and_no_other_library_of_models() -> None:
    pytest.importorskip("torch", reason="needs the transformers extra")
    code = (
        "import sys, swe_aem.advantage.config, swe_aem.advantage.inputs\n"
        "assert 'torch' not in sys.modules\n"
        "from swe_aem.advantage import aem, baselines, empg, stare\n"
        "ours = {name.split('.')[1] for name in sys.modules if name.startswith('swe_aem.')}\n"
        "assert ours <= {'advantage', 'core', 'errors', 'extensions', 'suggest'}, ours\n"
        "assert not {'transformers', 'trl', 'accelerate'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_scripted_rollouts_need_no_torch() -> None:
    code = (
        "import sys; sys.modules['torch'] = sys.modules['transformers'] = None\n"
        "import swe_aem.rollout\n"
        "from swe_aem.agent import TurnRenderer\n"
        "from swe_aem.policy.tokenizer import load_tokenizer\n"
        "from swe_aem.policy.scripted import noop\n"
        "noop(TurnRenderer(load_tokenizer(None)))\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("face", ["grading", "tasks.load", "tasks.lock", "tasks.taskset"])
def test_other_packages_import_what_is_behind_a_face_through_it(face: str) -> None:
    package = face.partition(".")[0]
    module = re.escape(face) if "." in face else rf"{face}\."
    behind = re.compile(rf"^\s*(?:from|import) swe_aem\.{module}\b", re.MULTILINE)
    past = [
        str(path.relative_to(PACKAGE))
        for path in sorted(PACKAGE.rglob("*.py"))
        if path.relative_to(PACKAGE).parts[0] != package and behind.search(path.read_text(encoding="utf-8"))
    ]
    assert not past, f"import it from swe_aem.{package}"


@pytest.mark.parametrize("package", ["agent", "gateway", "grading", "harness", "policy"])
def test_only_what_opens_sandboxes_knows_what_they_are_made_of(package: str) -> None:
    """Another backend's sandboxes have no warden: the rest sees the protocol `Sandbox` alone."""
    known = re.compile(r"swe_aem\.sandbox\b|warden|/proc/1\b", re.IGNORECASE)
    found = [
        f"{path.relative_to(PACKAGE)}: {match.group()}"
        for path in sorted((PACKAGE / package).rglob("*.py"))
        for match in known.finditer(path.read_text(encoding="utf-8"))
    ]
    assert found == []


def test_files_that_share_a_worker_are_there() -> None:
    assert [file for files in TOGETHER.values() for file in files if not (PACKAGE.parent / file).is_file()] == []
