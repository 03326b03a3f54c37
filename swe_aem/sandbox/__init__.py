"""Backends that start isolated copies of a task's repository; see `docs/sandboxes.md`."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from swe_aem.errors import UserError
from swe_aem.sandbox import open_files

if TYPE_CHECKING:  # importing the types costs a fifth of a second, which `swe-aem sandbox --help` need not wait for
    from swe_aem.core import SandboxBackend

BackendName = Literal["bubblewrap", "docker"]


def _bubblewrap() -> "SandboxBackend":
    from swe_aem.sandbox.bubblewrap import BubblewrapBackend

    return BubblewrapBackend()


def _docker() -> "SandboxBackend":
    from swe_aem.sandbox.docker import DockerBackend

    return DockerBackend()


BACKENDS: "dict[str, Callable[[], SandboxBackend]]" = {"bubblewrap": _bubblewrap, "docker": _docker}
"""What opens each backend, by the names of `BackendName`. No backend needs what another one imports."""


def open_backend(name: str) -> "SandboxBackend":
    """The backend of that name; raises `UserError` for an unknown one.

    Raises this process's limit of open files as far as it may: each sandbox takes a few.
    """
    if name not in BACKENDS:
        raise UserError(f"unknown sandbox backend {name!r}; choose one of {', '.join(BACKENDS)}")
    open_files.raise_limit()
    return BACKENDS[name]()
