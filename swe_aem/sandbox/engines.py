"""Engines that speak docker's API, docker's own and podman's service: where each is found, how it is started."""

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from swe_aem.errors import UserError

EngineName = Literal["docker", "podman"]
_PODMAN_PREFIXES = ("localhost/", "docker.io/library/", "docker.io/")


@dataclass(frozen=True)
class EngineKind:
    """One kind of engine."""

    name: EngineName
    variable: str
    """The environment variable with its address, `unix://PATH` or `tcp://HOST:PORT`."""
    how_to_start: str
    """What starts it on this host, as the beginning of a sentence."""

    @property
    def address(self) -> str:
        """The address that the variable names, or this host's own socket."""
        return os.environ.get(self.variable) or f"unix://{self._socket()}"

    def _socket(self) -> str:
        if self.name == "docker":
            return "/var/run/docker.sock"
        if os.geteuid() == 0:
            return "/run/podman/podman.sock"
        return f"{os.environ.get('XDG_RUNTIME_DIR') or f'/run/user/{os.geteuid()}'}/podman/podman.sock"

    @property
    def identity(self) -> str:
        """What tells this engine from others in this user's cache."""
        named = os.environ.get(self.variable)
        if self.name == "docker":
            return named or socket.gethostname()
        return f"podman {named or f'{socket.gethostname()} {self.address}'}"

    def short_name(self, image: str) -> str:
        """An image's name as docker shows it, without docker.io. Podman keeps one that came from no registry below
        `localhost/`, and finds both kinds without that."""
        prefixes = _PODMAN_PREFIXES if self.name == "podman" else ()
        return next((image.removeprefix(prefix) for prefix in prefixes if image.startswith(prefix)), image)

    def client_settings(self) -> dict[str, Any]:
        """Arguments of the docker SDK's client. Certificates are those of DOCKER_CERT_PATH and DOCKER_TLS_VERIFY."""
        from docker.utils import kwargs_from_env

        return {**kwargs_from_env(environment={**os.environ, "DOCKER_HOST": self.address})}

    def check(self, version: Mapping[str, Any]) -> None:
        """Raises `UserError` if the engine that says this of its version is of the other kind: they need different
        settings, and what one ignores would be missed."""
        parts = [part.get("Name", "") for part in version.get("Components") or ()]
        found: EngineName = "podman" if any("podman" in part.lower() for part in parts) else "docker"
        if found != self.name:
            raise UserError(
                f"at {self.address} ({self.variable}) a {found} engine answers: use the sandbox {found} and name its "
                f"address in {ENGINES[found].variable}"
            )


DOCKER = EngineKind("docker", "DOCKER_HOST", "Start it (`systemctl start docker`)")
PODMAN = EngineKind(
    "podman",
    "CONTAINER_HOST",
    "Start it (`systemctl start podman.socket`, for a user's own `systemctl --user start podman.socket`, without "
    "systemd `podman system service --time 0 &`)",
)
ENGINES: dict[EngineName, EngineKind] = {kind.name: kind for kind in (DOCKER, PODMAN)}
