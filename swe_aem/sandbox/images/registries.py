"""Settings for registries: mirrors to ask first, and credentials.

Mirrors come from `--mirror REGISTRY=PREFIX`, then `$SWE_AEM_MIRRORS` (the same, separated by commas), then a file
(`$SWE_AEM_REGISTRIES`, else `~/.config/swe-aem/registries.yaml`):

    mirrors:
      docker.io: [localhost:5000, mirror.example.org/hub]

Credentials are docker's own: `config.json` and its credential helpers (`docker login`), below `$DOCKER_CONFIG`; or the
content of such a file in `$DOCKER_AUTH_CONFIG`, which takes precedence.
"""

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from docker import auth
from docker.errors import DockerException

from swe_aem.core.base import Frozen
from swe_aem.core.settings import check, read_mapping
from swe_aem.errors import UserError
from swe_aem.sandbox.images.reference import DEFAULT_REGISTRY, Reference

_LOOPBACK = ("localhost", "127.", "[::1]")


class Registries(Frozen):
    """Mirrors by registry, in the order in which they are asked; the registry itself comes last."""

    mirrors: dict[str, tuple[str, ...]] = {}

    def sources(self, reference: Reference) -> list[Reference]:
        """Where to ask for an image. One that is named by digest is asked for at its own registry only: the engine
        cannot give a mirror's image that name."""
        mirrors = () if reference.digest else self.mirrors.get(reference.registry, ())
        return [*(reference.at(prefix) for prefix in mirrors), reference]


def api_url(reference: Reference) -> str:
    """Where a registry answers about a repository, without a slash at the end. Plain HTTP only on loopback."""
    host = "registry-1.docker.io" if reference.registry == DEFAULT_REGISTRY else reference.registry
    return f"{'http' if host.startswith(_LOOPBACK) else 'https'}://{host}/v2/{reference.repository}"


def load_registries(flags: Iterable[str] = ()) -> Registries:
    """Mirrors from everywhere, flags first; raises `UserError` if they cannot be read."""
    merged: dict[str, list[str]] = {}
    from_env = [item for item in os.environ.get("SWE_AEM_MIRRORS", "").split(",") if item.strip()]
    for item in [*flags, *from_env]:
        registry, equals, prefix = item.strip().partition("=")
        if not (registry and equals and prefix):
            raise UserError(f"mirror {item!r}: write REGISTRY=PREFIX, e.g. docker.io=localhost:5000")
        merged.setdefault(registry, []).append(_checked(prefix))
    for registry, prefixes in _file().items():
        merged.setdefault(registry, []).extend(map(_checked, prefixes))
    return Registries(mirrors={registry: tuple(dict.fromkeys(prefixes)) for registry, prefixes in merged.items()})


def load_credentials() -> auth.AuthConfig:
    """docker's configuration of credentials. Read only when needed: a credential helper may prompt or refresh."""
    content = os.environ.get("DOCKER_AUTH_CONFIG")
    try:
        return auth.load_config(config_dict=dict(json.loads(content)) if content else None)
    except (ValueError, TypeError, DockerException) as error:
        where = "$DOCKER_AUTH_CONFIG" if content else "docker's config.json"
        raise UserError(f"{where} cannot be read as docker's credentials ({error}); try `docker login`") from None


def credentials_for(config: auth.AuthConfig, registry: str) -> Mapping[str, str] | None:
    """User and password for a registry, or None. May run a credential helper; raises `UserError` if that fails."""
    try:
        found = config.resolve_authconfig(registry)
    except DockerException as error:
        raise UserError(f"docker's credential helper failed for {registry}: {error}") from None
    return {key: str(value) for key, value in found.items() if value is not None} if found else None


def _file() -> Mapping[str, tuple[str, ...]]:
    named = os.environ.get("SWE_AEM_REGISTRIES")
    base = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    path = Path(named).expanduser() if named else base / "swe-aem" / "registries.yaml"
    if not named and not path.exists():
        return {}
    return check(Registries, read_mapping(path), where=str(path)).mirrors


def _checked(prefix: str) -> str:
    """A mirror's prefix without scheme (the engine decides on TLS); raises `UserError`."""
    bare = prefix.strip().removeprefix("https://").removeprefix("http://").rstrip("/")
    Reference.parse(f"{bare}/name")
    first = bare.partition("/")[0]
    if not ("." in first or ":" in first or first == "localhost"):
        raise UserError(f"mirror {prefix!r}: begin with a host, e.g. localhost:5000 or mirror.example.org/hub")
    return bare
