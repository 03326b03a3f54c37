"""Keys and passwords: kept out of everything that is written or shown."""

import os
import re

from swe_aem.runlog.text import visible

SECRET_NAME = re.compile(r"KEY|TOKEN|SECRET|PASSWORD", re.IGNORECASE)
"""Names of variables and of a URL's fields that hold one."""
_named: set[str] = set()
"""Variables that a key was read from, whatever they are called."""
_SHORTEST_SECRET = 8
"""A shorter value of a variable is no key, and would blacken words that have nothing to do with it."""
_WORDS = r"(?:key|token|secret|password|passwd)"
_VALUE = r"""(?:\\?"[^"\n]*"?|'[^'\n]*'?|[^\s"'&,;}]+)"""
_SHAPES = (
    (re.compile(r"(://)[^\s/'\"]+@"), r"\1***@"),
    (re.compile(r"(\b(?:Bearer|Basic)\s+)[\w.~+/=-]{8,}"), r"\1***"),
    (
        re.compile(
            rf"((?:[_-]{_WORDS}|\bapikey|\bauthorization|\bsecret|\bpasswo?r?d)[\\\"']{{0,2}}\s{{0,8}}[=:]\s{{0,8}}"
            rf"(?:(?:Bearer|Basic|Digest|Token)\s)?){_VALUE}",
            re.IGNORECASE,
        ),
        r"\1***",
    ),
    (re.compile(rf"(--[\w-]{{0,40}}{_WORDS}\s){_VALUE}", re.IGNORECASE), r"\1***"),
    (re.compile(rf"([?&][\w-]{{0,40}}{_WORDS}[\w-]{{0,40}}=)[^\s&'\"]+", re.IGNORECASE), r"\1***"),
    (re.compile(r"\b(?:sk-|hf_|gh[oprsu]_|github_pat_|glpat-|xox[abprs]-|gsk_|nvapi-|AIza|AKIA)[\w-]{16,}"), "***"),
)
"""What keys look like wherever they stand, and what is written in their place."""


def known_secret(variable: str) -> None:
    """A key is read from this environment variable, whatever it is called."""
    _named.add(variable)


def without_keys(text: str) -> str:
    """A text of somebody else's, such as a server's error, in which no key is left: no value of a variable that a key
    was read from, or whose name is that of a key."""
    names = [name for name in os.environ if name in _named or SECRET_NAME.search(name)]
    secrets = {os.environ.get(name, "").strip() for name in names}  # another thread may have removed one
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= _SHORTEST_SECRET:
            text = text.replace(secret, "***")
    return text


def masked(text: str, *, indent: str = "    ") -> str:
    """`visible`, `without_keys`, and without what looks like a key or a password wherever it stands, as on a command
    line."""
    text = visible(without_keys(text), indent=indent)  # what is cut or indented first hides a part of a key
    for shape, put in _SHAPES:
        text = shape.sub(put, text)
    return text
