"""Keys of APIs: read from the environment when a policy opens, and kept out of everything that is written or shown."""

import os
import re
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from swe_aem.errors import UserError
from swe_aem.runlog.secrets import SECRET_NAME, known_secret

_KEY_FIELD = re.compile(r"api[-_]?key|authorization|secret|password", re.IGNORECASE)


def read_key(variable: str | None) -> str | None:
    """The key in an environment variable; None if there is no such variable, or it is empty.

    Raises `UserError` for a value that cannot be sent, without showing it.
    """
    if not variable:
        return None
    known_secret(variable)
    key = os.environ.get(variable, "").strip()
    if not key.isascii() or not key.isprintable():
        raise UserError(f"the value of {variable} is no key: it has a line break or a character outside of ASCII")
    return key or None


def bearer(key: str | None) -> dict[str, str]:
    """The header that carries a key."""
    return {"Authorization": f"Bearer {key}"} if key else {}


def refuse_key_in_url(url: str) -> None:
    """Raise `ValueError` if a URL holds a key or a password: it is recorded with the run."""
    parts = urlsplit(url)
    named = [name for name, _ in parse_qsl(parts.query) if SECRET_NAME.search(name)]
    if parts.password is not None or parts.username is not None or named:
        raise ValueError(
            f"the URL of {parts.hostname} holds a key or a password, and is recorded with the run: put the key into an "
            "environment variable and name that with --api-key-env"
        )


def refuse_key_in_fields(fields: Any) -> None:
    """Raise `ValueError` if fields of a request, which are recorded with the run, hold a key, at any depth."""
    if isinstance(fields, dict):
        for name, value in fields.items():
            if _KEY_FIELD.search(str(name)):
                raise ValueError(
                    f"{name} holds a key, and is recorded with the run: put it into an environment variable and name "
                    "that with --api-key-env"
                )
            refuse_key_in_fields(value)
    elif isinstance(fields, list | tuple):
        for value in fields:
            refuse_key_in_fields(value)
