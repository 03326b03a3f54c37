"""A file that pins images: reference to the digest of the manifest that a registry served for it.

One line per image, `docker.io/owner/name:tag sha256:...`, sorted; `#` begins a comment. An image that is not
in it is added after its pull; one that is in it is pulled by that digest only.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path

from swe_aem.errors import UserError, why_unreadable
from swe_aem.sandbox.images.reference import Reference

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_HEAD = "# Images by the digest that was pulled. `swe-aem images pull --pins` reads it, and adds what is missing.\n"


def read_pins(path: Path) -> dict[str, str]:
    """Full reference to digest; empty if there is no such file. Raises `UserError` that names file and line."""
    if not path.exists():
        return {}
    pins: dict[str, str] = {}
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({why_unreadable(error)})") from None
    for number, line in enumerate(lines, start=1):
        content = line.partition("#")[0].split()
        if not content:
            continue
        if len(content) != 2 or not _DIGEST.fullmatch(content[1]):
            raise UserError(f"{path}, line {number}: not `REFERENCE sha256:...`; correct or delete the line")
        name = str(Reference.parse(content[0]))
        if pins.setdefault(name, content[1]) != content[1]:
            raise UserError(f"{path}, line {number}: a second digest for {content[0]}; delete one of the two lines")
    return pins


def write_pins(path: Path, pins: Mapping[str, str]) -> None:
    """Replace the file as a whole; raises `UserError` if it cannot be written."""
    text = _HEAD + "".join(f"{name} {digest}\n" for name, digest in sorted(pins.items()))
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.write_text(text, encoding="utf-8")
        os.replace(draft, path)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error})") from None
