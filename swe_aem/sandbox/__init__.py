"""Backends that start isolated copies of a task's repository; see `docs/sandboxes.md`."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from swe_aem.errors import UserError
from swe_aem.extensions import ExtensionPoint
from swe_aem.sandbox import open_files

if TYPE_CHECKING:  # importing the types costs a fifth of a second, which `swe-aem sandbox --help` need not wait for
    from swe_aem.core import SandboxBackend
    from swe_aem.sandbox.config import SandboxConfig

SANDBOXES: "ExtensionPoint[Any]" = ExtensionPoint(
    "sandbox",
    group="swe_aem.sandboxes",
    builtin={
        "bubblewrap": "swe_aem.sandbox.config:BubblewrapConfig",
        "docker": "swe_aem.sandbox.config:DockerConfig",
        "podman": "swe_aem.sandbox.config:PodmanConfig",
    },
)
"""What `sandbox: NAME` may name: a class of settings whose `backend()` makes the backend, or the backend's own class.

No backend needs what another one imports.
"""


def open_backend(setting: "str | Mapping[str, Any] | SandboxConfig") -> "SandboxBackend":
    """The backend of a setting, to be entered by `async with`.

    Raises `UserError` for an unknown name, for settings that do not fit, and where the host lacks what it needs. Raises
    this process's limit of open files as far as it may: each sandbox takes a few.
    """
    plain = setting if isinstance(setting, str | Mapping) else setting.model_dump(mode="json")
    made = SANDBOXES.make(plain)
    backend = made.backend() if hasattr(made, "backend") else made
    if not all(hasattr(backend, name) for name in ("open", "__aenter__", "__aexit__")):
        raise UserError(
            f"sandbox {SANDBOXES.name_of(plain)} is {type(backend).__name__}, which is no backend: name a class of "
            "settings whose backend() returns one, or a backend's own class"
        )
    open_files.raise_limit()
    return backend
