"""`HarnessSpec`: the head of a harness's file, which names its packages (PEP 723) and how it is used.

    # /// script
    # requires-python = ">=3.12"
    # dependencies = ["mini-swe-agent==2.4.6"]
    #
    # [tool.swe-aem]
    # shell = "bash"
    # finish = { bash = { command = "echo DONE" } }
    # ///

The file defines `converse(conversation)`, which plays one trajectory and returns how it ended.
"""

import hashlib
import re
import tomllib
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, Field

from swe_aem.core.base import Frozen
from swe_aem.core.settings import check
from swe_aem.errors import UserError
from swe_aem.suggest import did_you_mean

INSIDE = Path(__file__).parent / "inside"
"""Files that run in a harness's environment; this package does not import them."""

BUNDLED = {"mini-swe-agent": "mini_swe_agent.py", "openhands": "openhands_agent.py"}
"""File in `INSIDE` of each bundled harness, by name."""

_HEAD = re.compile(r"(?m)^# /// script$\n(?P<content>(?:^#(?: .*)?$\n)+)^# ///$")


class HarnessSpec(Frozen):
    """The head of a harness's file."""

    model_config = ConfigDict(populate_by_name=True)

    name: str
    file: Path
    requires_python: str = Field(default=">=3.11", alias="requires-python")
    dependencies: tuple[str, ...] = ()
    shell: str
    """The tool that runs a command line, given as its argument `command`; scripted policies act through it."""
    finish: dict[str, dict[str, Any]]
    """The tool that ends the work, and its arguments; scripted policies end with it."""
    inside: bool = False
    """Its agent runs in the sandbox, and reaches the gateway there, and nothing else, at `conversation.base_url`."""
    environment: dict[str, str] = {}
    """Environment variables of its processes."""
    options: dict[str, Any] = {}
    """The settings that it has, with their defaults."""

    @property
    def locked(self) -> tuple[str, ...]:
        """Every package with its version, from the `.lock` file beside the harness's file; empty if there is none."""
        file = self.file.with_suffix(".lock")
        lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
        return tuple(line for line in lines if line and not line.startswith("#"))

    def requirements(self, pins: tuple[str, ...] = ()) -> tuple[str, ...]:
        """The packages to install: the locked ones or, with `pins`, those of the head with pinned ones replaced."""
        if not pins:
            return self.locked or self.dependencies
        names = {package(pin) for pin in pins}
        return (*(line for line in self.dependencies if package(line) not in names), *pins)

    def digest(self, pins: tuple[str, ...] = ()) -> str:
        """Short hash of the Python version and packages of its environment."""
        content = "\n".join([self.requires_python, *self.requirements(pins)])
        return hashlib.sha256(content.encode()).hexdigest()[:12]


def package(requirement: str) -> str:
    """The normalised package name at the start of a requirement."""
    return re.sub(r"[-_.]+", "-", re.split(r"[\s<>=!~;\[@]", requirement.strip(), maxsplit=1)[0]).lower()


def is_harness(agent: str) -> bool:
    """Does `--agent` name a harness, bundled or by its file?"""
    return agent in BUNDLED or agent.endswith(".py")


@lru_cache(maxsize=32)
def read_harness_spec(agent: str) -> HarnessSpec:
    """The spec of a bundled harness or of a file. Raises `UserError` if there is none, or its head is incomplete."""
    file = INSIDE / BUNDLED[agent] if agent in BUNDLED else Path(agent)
    try:
        found = _HEAD.search(file.read_text(encoding="utf-8"))
    except OSError as error:
        known = ", ".join(BUNDLED)
        raise UserError(
            f"no harness {agent}{did_you_mean(agent, BUNDLED)}: {error.strerror}; give one of {known}, or a .py file"
        ) from None
    if found is None:
        raise UserError(f"{file} has no `# /// script` head; `swe-aem docs bring-your-own-agent` shows one")
    text = "".join(line[2:] if line.startswith("# ") else line[1:] for line in found["content"].splitlines(True))
    try:
        head = tomllib.loads(text)
        own = head.pop("tool", {}).get("swe-aem", {})
        name = agent if agent in BUNDLED else file.stem
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"the head of {file} is not TOML: {error}") from None
    values = {**head, **own, "name": name, "file": file.resolve()}
    return check(HarnessSpec, values, where=f"the head of {file}")
