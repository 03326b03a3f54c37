"""The sandbox room: backends that start isolated copies of a task's repository; see `docs/sandboxes.md`."""

from swe_aem.core import SandboxBackend
from swe_aem.errors import UserError

BACKENDS = ("bubblewrap", "docker")


def open_backend(name: str) -> SandboxBackend:
    """The backend of that name; raises `UserError` for an unknown one.

    Imports are local so that one backend's dependencies are not needed for the other.
    """
    if name == "bubblewrap":
        from swe_aem.sandbox.bubblewrap import BubblewrapBackend

        return BubblewrapBackend()
    if name == "docker":
        from swe_aem.sandbox.docker import DockerBackend

        return DockerBackend()
    raise UserError(f"unknown sandbox backend {name!r}; choose one of {', '.join(BACKENDS)}")
