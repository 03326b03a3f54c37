"""Compiled code, told by its first bytes or by its name: it can differ from its source, and nobody can read it."""

import struct

from swe_aem.grading.configuration_files import matches

COMPILED_NAMES = (
    "__pycache__/*", "*.pyc", "*.pyo", "*.pyd", "*.so", "*.so.*", "*.dll", "*.dylib", "*.exe", "*.o", "*.obj", "*.a",
    "*.lib", "*.class", "*.jar", "*.war", "*.node", "*.wasm", "*.egg", "*.whl", "*.phar", "*.rlib", "*.rmeta", "*.gem",
)  # fmt: skip

_MAGIC = (
    b"\x7fELF",
    b"\xfe\xed\xfa\xce", b"\xfe\xed\xfa\xcf", b"\xce\xfa\xed\xfe", b"\xcf\xfa\xed\xfe",  # Mach-O
    b"\xca\xfe\xba\xbe",  # Java, and Mach-O for several architectures
    b"\0asm", b"!<arch>\n", b"BC\xc0\xde", b"dex\n", b"YARB", b"\x1bLua",
)  # fmt: skip
_PE_OFFSET = 60


def is_compiled(path: str, content: bytes) -> bool:
    """Is this a program, a library, bytecode, or an archive of those? Told by either the name or the content."""
    return matches(path, COMPILED_NAMES) or content.startswith(_MAGIC) or _is_pe(content) or _is_pyc(content)


def _is_pe(content: bytes) -> bool:
    if not content.startswith(b"MZ") or len(content) < _PE_OFFSET + 4:
        return False
    (at,) = struct.unpack_from("<I", content, _PE_OFFSET)
    return content[at : at + 4] == b"PE\0\0"


def _is_pyc(content: bytes) -> bool:
    """Python's bytecode: two bytes of the version, then a line end, then flags; text has no NUL among those."""
    return content[2:4] == b"\r\n" and b"\0" in content[4:8]
