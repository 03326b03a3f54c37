"""Bytes as people write and read them."""

import re

from swe_aem.errors import UserError

_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([kmgt]?)(i?)b?", re.IGNORECASE)


def parse_bytes(text: str) -> int:
    """`50GiB`, `50G` (both 1024-based) or `50GB` (1000-based) in bytes; raises `UserError`."""
    found = _SIZE.fullmatch(text.strip())
    if not found:
        raise UserError(f"{text!r} is not a size; write e.g. 50GiB, 500MB or a number of bytes")
    number, unit, binary = found.groups()
    base = 1024 if binary or not text.strip().lower().endswith("b") else 1000
    return int(float(number) * base ** " kmgt".index(unit.lower() or " "))


def size(count: int | float) -> str:
    """Bytes with a binary unit, e.g. 1.5 GiB."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"
