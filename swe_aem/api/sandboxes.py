"""`Bubblewrap`, `Docker` and `Podman`: what sandboxes run in, with their settings."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import ValidationError

from swe_aem.core import Limits
from swe_aem.core.base import Frozen
from swe_aem.core.explain import explain
from swe_aem.errors import UserError
from swe_aem.sandbox import SANDBOXES
from swe_aem.sandbox.config import BubblewrapConfig, DockerConfig, PodmanConfig

SandboxSetting = Frozen | type | Mapping[str, Any] | str
"""`Bubblewrap(...)`, `Docker(...)`, `Podman(...)`, a sandbox of the caller's own (its class, or an instance of its
settings), or the value of the setting `sandbox`: a name, or a mapping of `type` and settings."""


class _Sandboxes(Limits):
    """The settings that backends share. Limits are those of one sandbox."""

    name: ClassVar[str]
    """The name in the setting `sandbox`."""
    own: ClassVar[type[Frozen]]
    """The settings that stand beside it."""

    capabilities: tuple[str, ...] = ()
    """Linux capabilities that sandboxes keep, e.g. `("CHOWN",)`; all others are dropped."""

    if not TYPE_CHECKING:  # the types are those of the fields

        def __init__(self, **settings: Any) -> None:
            try:
                super().__init__(**settings)
            except ValidationError as error:
                raise UserError(f"{type(self).__name__}: {explain(error, type(self))}") from None

    def settings(self) -> dict[str, Any]:
        """The same as settings of a rollout."""
        given = self.model_dump()
        limits = {name: given.pop(name) for name in Limits.model_fields}
        own = {name: given.pop(name) for name in self.own.model_fields}
        return {"sandbox": {"type": self.name, **own}, "limits": limits, **given}


class Bubblewrap(_Sandboxes, BubblewrapConfig):
    """Sandboxes of bubblewrap: no daemon, some 15 ms to start, commands run as the sandbox's own root.

    Raises `UserError` for a setting that does not exist or a value that does not fit.
    """

    name: ClassVar[str] = "bubblewrap"
    own: ClassVar[type[Frozen]] = BubblewrapConfig


class Docker(_Sandboxes, DockerConfig):
    """Containers of the docker engine that `DOCKER_HOST` names, by default this host's.

    Raises `UserError` for a setting that does not exist or a value that does not fit.
    """

    name: ClassVar[str] = "docker"
    own: ClassVar[type[Frozen]] = DockerConfig

    user: str | None = None
    """User name or uid that commands run as; None for the image's own."""


class Podman(_Sandboxes, PodmanConfig):
    """Containers of the podman service that `CONTAINER_HOST` names, by default this user's on this host.

    Raises `UserError` for a setting that does not exist or a value that does not fit.
    """

    name: ClassVar[str] = "podman"
    own: ClassVar[type[Frozen]] = PodmanConfig

    user: str | None = None
    """User name or uid that commands run as; None for the image's own."""


def sandbox_settings(sandbox: SandboxSetting) -> Mapping[str, Any]:
    """The settings of a rollout that say what its sandboxes run in. A plain name stands for the defaults."""
    return sandbox.settings() if isinstance(sandbox, _Sandboxes) else {"sandbox": SANDBOXES.setting_of(sandbox)}
