"""Settings of sandboxes: the setting `sandbox` of a run, and what each backend of this package can be told."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from swe_aem.core.base import Frozen
from swe_aem.core.explain import in_section, shown
from swe_aem.errors import UserError
from swe_aem.sandbox import SANDBOXES
from swe_aem.sandbox.isolation import Launcher

if TYPE_CHECKING:
    from swe_aem.core import SandboxBackend


class BubblewrapConfig(Frozen):
    """Settings of sandboxes made by bubblewrap."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    launcher: Launcher | None = None
    """What isolates them: bubblewrap or util-linux. If not given: the first that is installed."""

    def backend(self) -> "SandboxBackend":
        """The backend; raises `UserError` if the launcher is not installed."""
        from swe_aem.sandbox.bubblewrap import BubblewrapBackend

        return BubblewrapBackend(launcher=self.launcher)


class DockerConfig(Frozen):
    """Settings of containers of a docker engine."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    runtime: str | None = None
    """Runtime of the engine that containers run under, e.g. runsc for gVisor. If not given: the engine's default."""

    def backend(self) -> "SandboxBackend":
        """The backend; the engine is first asked when something is needed of it."""
        from swe_aem.sandbox.docker import DockerBackend

        return DockerBackend(runtime=self.runtime)


class PodmanConfig(Frozen):
    """Settings of containers of podman. There are none: its service is configured where it runs."""

    def backend(self) -> "SandboxBackend":
        """The backend; the service is first asked when something is needed of it."""
        from swe_aem.sandbox.podman import PodmanBackend

        return PodmanBackend()


class SandboxConfig(BaseModel):
    """What commands run in: the name of a sandbox, and beside it settings of its own. A plain name is short for one
    without settings.

    Settings of the package's own backends are checked here, those of others when a run begins, for that imports them.
    Settings that have their default are left out.
    """

    model_config = ConfigDict(frozen=True, extra="allow", use_attribute_docstrings=True)

    NAME_KEY: ClassVar[str] = SANDBOXES.key
    """The field that a plain name stands for."""

    type: str = "bubblewrap"
    """bubblewrap (no daemon), docker, podman, the name of an extension, package.module:object or file.py:object."""

    @model_validator(mode="before")
    @classmethod
    def _written_out(cls, value: Any) -> Any:
        if isinstance(value, SandboxConfig):
            return value
        if not isinstance(value, str | Mapping):
            raise ValueError(f"give a name, or a mapping of {SANDBOXES.key} and settings, not {shown(value)}")
        own = {SANDBOXES.key: value} if isinstance(value, str) else dict(value)
        name = own.pop(SANDBOXES.key, cls.model_fields[SANDBOXES.key].default)
        if not isinstance(name, str):
            return value
        try:
            SANDBOXES.check(name)
        except UserError as error:
            raise ValueError(str(error)) from None
        if SANDBOXES.is_builtin(name):
            model = SANDBOXES.find(name).value
            try:
                own = model.model_validate(own).model_dump(mode="json", exclude_defaults=True)
            except ValidationError as error:
                raise in_section(error, model) from None
        return {SANDBOXES.key: name, **own}

    def __str__(self) -> str:
        return self.type
