"""Keys and passwords: kept out of everything that is written or shown."""

import os
import re

SECRET_NAME = re.compile(r"KEY|TOKEN|SECRET|PASSWORD", re.IGNORECASE)
"""Names of variables and of a URL's fields that hold one."""
_named: set[str] = set()
"""Variables that a key was read from, whatever they are called."""
_SHORTEST_SECRET = 8
"""A shorter value of a variable is no key, and would blacken words that have nothing to do with it."""
_SHAPES = (
    (re.compile(r"(://)[^\s/@'\"]+@"), r"\1***@"),
    (re.compile(r"(\b(?:Bearer|Basic)\s+)[\w.~+/=-]{8,}"), r"\1***"),
    (
        re.compile(
            r"((?:api[-_]?key|access[-_]?token|auth[-_]?token|authorization|secret|password|passwd)[\"']?\s*[=:]\s*[\"']?)"
            r"(?!Bearer\b|Basic\b)[^\s\"'&,;}]+",
            re.IGNORECASE,
        ),
        r"\1***",
    ),
    (re.compile(r"([?&][\w-]*(?:key|token|secret|password)[\w-]*=)[^\s&'\"]+", re.IGNORECASE), r"\1***"),
    (re.compile(r"\b(?:sk-|hf_|ghp_|github_pat_|xox[bp]-)[\w-]{16,}"), "***"),
)
"""What keys look like wherever they stand, and what is written in their place."""


def known_secret(variable: str) -> None:
    """A key is read from this environment variable, whatever it is called."""
    _named.add(variable)


def without_keys(text: str) -> str:
    """A text of somebody else's, such as a server's error, in which no key is left: no value of a variable that a key
    was read from, or whose name is that of a key."""
    secrets = {value.strip() for name, value in os.environ.items() if name in _named or SECRET_NAME.search(name)}
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= _SHORTEST_SECRET:
            text = text.replace(secret, "***")
    return text


def masked(text: str) -> str:
    """`without_keys`, and what looks like a key or a password wherever it stands, as on a command line."""
    text = without_keys(text)
    for shape, put in _SHAPES:
        text = shape.sub(put, text)
    return text
