"""The rooms stand in one order, and the command line imports nothing heavy before a verb runs."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "swe_aem"
ROOMS = (
    "nouns",
    "sandbox",
    "tasks",
    "policy",
    "serve",
    "agent",
    "gateway",
    "harness",
    "grading",
    "rollout",
    "advantage",
    "preflight",
    "evaluate",
    "train",
    "view",
    "doctor",
    "cli",
)


def imported_rooms(path: Path) -> set[str]:
    """Rooms that a file imports, at its top or inside a function."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            parts = name.split(".")
            if parts[0] == "swe_aem" and len(parts) > 1 and parts[1] in ROOMS:
                found.add(parts[1])
    return found


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_stands_only_on_rooms_above_it(room: str) -> None:
    allowed = set(ROOMS[: ROOMS.index(room) + 1])
    for path in (PACKAGE / room).rglob("*.py"):
        assert imported_rooms(path) <= allowed, path


def test_every_room_is_in_the_list() -> None:
    rooms = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    assert rooms == set(ROOMS)


@pytest.mark.parametrize("module", ["torch", "transformers", "renderers", "datasets", "docker", "swebench", "pydantic"])
def test_help_imports_nothing_heavy(module: str) -> None:
    code = f"import sys, swe_aem.cli; assert {module!r} not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_aem_imports_torch_alone() -> None:
    pytest.importorskip("torch", reason="needs the transformers extra")
    code = (
        "import sys, swe_aem.advantage.aem, swe_aem.advantage.group\n"
        "ours = {name for name in sys.modules if name.startswith('swe_aem')}\n"
        "expected = {'swe_aem', 'swe_aem.advantage', 'swe_aem.advantage.aem', 'swe_aem.advantage.group'}\n"
        "assert ours == expected, ours\n"
        "assert not {'transformers', 'trl', 'pydantic'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_scripted_rollouts_need_no_torch() -> None:
    code = (
        "import sys; sys.modules['torch'] = sys.modules['transformers'] = None\n"
        "import swe_aem.rollout.run, swe_aem.rollout.wiring\n"
        "from swe_aem.agent import TurnRenderer\n"
        "from swe_aem.policy.tokenizer import load_tokenizer\n"
        "from swe_aem.policy.scripted import noop\n"
        "noop(TurnRenderer(load_tokenizer(None)))\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
