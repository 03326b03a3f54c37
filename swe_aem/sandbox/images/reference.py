"""Image references: `[registry/]name[:tag][@digest]`, read as the docker engine reads them."""

import re
from functools import lru_cache

from swe_aem.core.base import Frozen
from swe_aem.errors import UserError

DEFAULT_REGISTRY = "docker.io"
_COMPONENT = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_HOST = r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:]+\])(?::[0-9]+)?"
_REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_REGISTRY = re.compile(_HOST)
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_ID = re.compile(r"(sha256:)?[0-9a-f]{64}")


class Reference(Frozen):
    """One image of one registry. `str()` is the full form, which is the same for every way of writing it."""

    registry: str
    repository: str
    tag: str | None = None
    digest: str | None = None

    @classmethod
    def parse(cls, text: str) -> "Reference":
        """Read a reference; raises `UserError` if the text is not one. Without tag and digest the tag is `latest`."""
        name, _, digest = text.partition("@")
        head, colon, tag = name.rpartition(":")
        if not colon or "/" in tag:  # the colon of a port
            head, tag = name, ""
        first, slash, rest = head.partition("/")
        if slash and ("." in first or ":" in first or first == "localhost"):
            registry, repository = first, rest
        else:
            registry, repository = DEFAULT_REGISTRY, head
        if registry == "index.docker.io":
            registry = DEFAULT_REGISTRY
        if registry == DEFAULT_REGISTRY and "/" not in repository:
            repository = f"library/{repository}"
        wrong = (
            not _REPOSITORY.fullmatch(repository)
            or not _REGISTRY.fullmatch(registry)
            or ("@" in text and not _DIGEST.fullmatch(digest))
            or (head != name and not _TAG.fullmatch(tag))
            or _ID.fullmatch(text)
        )
        if wrong:
            raise UserError(
                f"{text!r} is not an image reference; write [registry/]name[:tag][@sha256:...] in lower case"
            )
        return cls(
            registry=registry,
            repository=repository,
            tag=tag or (None if digest else "latest"),
            digest=digest or None,
        )

    def __str__(self) -> str:
        return f"{self.registry}/{self.repository}{self._suffix}"

    @property
    def name(self) -> str:
        """Registry and repository as the engine shows and takes them: docker.io and its `library` left out."""
        if self.registry != DEFAULT_REGISTRY:
            return f"{self.registry}/{self.repository}"
        return self.repository.removeprefix("library/")

    @property
    def familiar(self) -> str:
        """The shortest way to write it: how the engine shows it."""
        return self.name + self._suffix

    @property
    def _suffix(self) -> str:
        return (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")

    def at(self, prefix: str) -> "Reference":
        """The same image at a mirror; `prefix` is `host[:port][/path]`."""
        host, _, path = prefix.rstrip("/").partition("/")
        repository = f"{path}/{self.repository}" if path else self.repository
        return self.model_copy(update={"registry": host, "repository": repository})


@lru_cache(maxsize=8192)
def canonical(text: str) -> str:
    """The full form of a reference; text that is not a reference (e.g. an image id) stays as it is."""
    try:
        return str(Reference.parse(text))
    except UserError:
        return text
