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
import platform
import re
import tomllib
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, Field, field_validator, model_validator

from swe_aem.core.base import Frozen
from swe_aem.core.settings import check
from swe_aem.errors import UserError
from swe_aem.suggest import did_you_mean

INSIDE = Path(__file__).parent / "inside"
"""Files that run in a harness's environment; this package does not import them."""

BUNDLED = {
    "claude-code": "claude_code.py",
    "codex": "codex.py",
    "mini-swe-agent": "mini_swe_agent.py",
    "opencode": "opencode.py",
    "openhands": "openhands_agent.py",
}
"""File in `INSIDE` of each bundled harness, by name."""

_NPM_VERSION = re.compile(r"(npm:.+@)?\d+\.\d+\.\d+[^@\s]*")
_CPU = {"x86_64": "x64", "aarch64": "arm64"}
"""npm's words for processors."""
_HEAD = re.compile(r"(?m)^# /// script$\n(?P<content>(?:^#(?: .*)?$\n)+)^# ///$")


class HarnessSpec(Frozen):
    """The head of a harness's file."""

    model_config = ConfigDict(populate_by_name=True)

    name: str
    file: Path
    requires_python: str = Field(default=">=3.11", alias="requires-python")
    dependencies: tuple[str, ...] = ()
    shell: str
    """The tool that runs a command line; scripted policies act through it."""
    command: dict[str, Any] = {"command": "{command}"}
    """The arguments of that tool, with `{command}` where the command line stands."""
    finish: dict[str, dict[str, Any]]
    """The tool that ends the work, and its arguments; scripted policies end with it. Without one, a response that calls
    no tool ends it."""
    inside: bool = False
    """Its agent runs in the sandbox, and reaches the gateway there, and nothing else, at `conversation.base_url`."""
    npm: dict[str, str] = {}
    """Packages of the npm registry that the sandbox sees at `conversation.packages`, as in a package.json: by name a
    version, or `npm:PACKAGE@VERSION` for one under another name. `{cpu}` stands for this machine's processor in npm's
    words, x64 or arm64."""
    environment: dict[str, str] = {}
    """Environment variables of its processes."""
    options: dict[str, Any] = {}
    """The settings that it has, with their defaults."""

    @field_validator("npm")
    @classmethod
    def _has_versions(cls, npm: dict[str, str]) -> dict[str, str]:
        for name, version in npm.items():
            if not _NPM_VERSION.fullmatch(version):
                raise ValueError(f"{name} has {version!r}: give one version, e.g. 1.3.0 or npm:left-pad@1.3.0")
        return npm

    @model_validator(mode="after")
    def _packages_are_seen(self) -> "HarnessSpec":
        if self.npm and not self.inside:
            raise ValueError("packages of npm are for agents in the sandbox: add inside = true")
        return self

    @property
    def locked(self) -> tuple[str, ...]:
        """Every package with its version, from the `.lock` file beside the harness's file; empty if there is none."""
        file = self.file.with_suffix(".lock")
        lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
        return tuple(line for line in lines if line and not line.startswith("#"))

    def requirements(self, pins: tuple[str, ...] = ()) -> tuple[str, ...]:
        """The packages to install: the locked ones or, with `pins`, those of the head with pinned ones replaced."""
        pins = tuple(pin for pin in pins if package(pin) not in self.npm)
        if not pins:
            return self.locked or self.dependencies
        names = {package(pin) for pin in pins}
        return (*(line for line in self.dependencies if package(line) not in names), *pins)

    def npm_packages(self, pins: tuple[str, ...] = ()) -> tuple[str, ...]:
        """The packages of the npm registry to install, as `npm install` takes them; pins replace versions."""
        pinned: dict[str, str] = {}
        for pin in (pin for pin in pins if package(pin) in self.npm):
            name, _, version = pin.partition("==")
            if not version:
                raise UserError(f"{pin} pins no version: a package of the npm registry is pinned as {name}==VERSION")
            pinned[name] = version
        cpu = _CPU.get(platform.machine(), platform.machine())
        found = []
        for name, asked in self.npm.items():
            of, at, version = asked.rpartition("@")
            found.append(f"{name}@{of}{at}{pinned.get(name, version)}".replace("{cpu}", cpu))
        return tuple(found)

    def digest(self, pins: tuple[str, ...] = ()) -> str:
        """Short hash of the Python version and packages of its environment."""
        content = "\n".join([self.requires_python, *self.requirements(pins), *self.npm_packages(pins)])
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
