"""The witness: the runner's own results, signed by a key that the code under test does not have.

Any program can print what looks like a log. The witness (`scripts/witness.py`) is in the process that runs the session
before a module of the work tree is. It notes what the runner reports of each test, and writes a signed record at the
end. Environment variables bring it there, so it reaches each session below the test command, whatever that looks like.
"""

import hashlib
import hmac
import re
import secrets
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from swe_aem.core.base import Frozen
from swe_aem.grading.import_record import in_front_of_paths
from swe_aem.grading.shell import script_text

MAX_RECORD_BYTES = 32 << 20
"""More bytes of records are not read: 100,000 tests have 10 MB."""

_PYTHON = re.compile(r"(?<![\w./-])(?:[\w./-]*/)?(?:python|pypy)[\d.]*[td]?(?=\s)")
_WORD = re.compile(r"""\s+((?:"[^"]*"|'[^']*'|\\.|[^\s"'\\;&|<>()])+)""")
_WITHOUT_SITE = frozenset("SEI")
"""Options with which Python loads no `sitecustomize`, or not from PYTHONPATH."""


class Record(Frozen):
    """What the witness of one session saw."""

    runner: Literal["pytest", "unittest"]
    ended_s: float
    """When the session ended, by the sandbox's monotonic clock."""
    results: tuple[tuple[str, str], ...]
    """The runner's name of a test, or its description, and a status: PASSED, FAILED, ERROR, SKIPPED, XFAIL, XPASS. A
    test can have several, as one that passes before its teardown fails. unittest's are in the order of events."""


_RECORD = TypeAdapter(Record)


@dataclass(frozen=True)
class Witness:
    """The witness of one run of one script: its key, and random names for its files."""

    key: str
    variable: str
    """The environment variable that brings the key to the session."""
    directory: str
    """What is put on PYTHONPATH. Nothing secret lies there."""
    records: str
    """The directory of the records, one file for each session."""
    token: str
    """A file that the witness removes when it takes the key."""
    token_text: str
    """What the file holds. It is in the shell's memory and nowhere else: a process that finds the file gone cannot put
    it back."""

    @classmethod
    def in_directory(cls, private_dir: str) -> "Witness":
        """A witness with its files below `private_dir`."""
        home = f"{private_dir}/{secrets.token_hex(16)}"
        return cls(
            key=secrets.token_hex(16),
            variable=f"SWE_AEM_{secrets.token_hex(8).upper()}",
            directory=f"{home}/path",
            records=f"{home}/records",
            token=f"{home}/token",
            token_text=secrets.token_hex(16),
        )

    def setup(self) -> list[str]:
        """Script lines that put the witness in place, for before the test command. No trace of them is printed."""
        names = (self.directory, self.variable, self.token, self.records)
        body = script_text("witness.py").rstrip("\n")
        calls = f"if __name__ == '__main__':\n    _as_program{names}\nelse:\n    _as_sitecustomize{names}\n"
        end = f"EOF_{self.variable}"
        return [
            "{",
            f"mkdir -p {self.directory} {self.records}",
            f"cat >{self.directory}/sitecustomize.py <<'{end}'",
            *body.split("\n"),
            *calls.rstrip("\n").split("\n"),
            end,
            f"printf '%s\\n' {self.token_text} >{self.token}",
            f"export {self.variable}={self.key}",
            f'export PYTHONPATH="{self.directory}${{PYTHONPATH:+:$PYTHONPATH}}"',
            "} 2>/dev/null",
        ]

    def command(self, line: str) -> str:
        """A line of the test command, with the witness on each PYTHONPATH that it sets, and where Python would not load
        it by itself."""
        line = in_front_of_paths(line, self.directory)
        for python in reversed(list(_PYTHON.finditer(line))):
            call = _runner_without_site(line, python.end())
            if call is not None:
                (start, end), option, module = call
                line = f"{line[:start]}{option}{self.directory}/sitecustomize.py {module}{line[end:]}"
        return line

    def was_idle(self, marker: str) -> list[str]:
        """Script lines that print `marker` if no session has taken the key. Builtins of the shell alone."""
        return [
            f"{{ IFS= read -r swe_aem_token <{self.token} || swe_aem_token=; }} 2>/dev/null",
            f'{{ [ "$swe_aem_token" != {self.token_text} ] || echo "{marker}"; }} 2>/dev/null',
        ]


def _runner_without_site(line: str, at: int) -> tuple[tuple[int, int], str, str] | None:
    """A runner that a Python, whose arguments begin at `at`, is to run as `-m` without the witness: where the words of
    that option stand, what of them is to stay, and the module. None if it runs something else, or has the witness.

    Reads the options as CPython does: letters may share a word, `W` and `X` take the rest of it or the next one, and
    `m` and `c` are the last.
    """
    letters_before: set[str] = set()
    while word := _WORD.match(line, at):
        start, at = word.start(1), word.end()
        text = _unquoted(word[1])
        if text == "--check-hash-based-pycs":
            following = _WORD.match(line, at)
            at = following.end() if following else at
            continue
        if not text.startswith("-") or text == "-" or text.startswith("--"):
            return None
        for n, letter in enumerate(text[1:], start=1):
            rest = text[n + 1 :]
            if letter not in "WXcm":
                letters_before.add(letter)
                continue
            following = None if rest else _WORD.match(line, at)
            at = following.end() if following else at
            if letter in "WX":
                break
            module = rest or (_unquoted(following[1]) if following else "")
            if letter == "c" or module not in ("pytest", "unittest") or not letters_before & _WITHOUT_SITE:
                return None
            return (start, at), f"{text[:n]} " if n > 1 else "", module
    return None


def _unquoted(word: str) -> str:
    """A word of a command as a program gets it, but for variables."""
    try:
        return "".join(shlex.split(word))
    except ValueError:
        return word


def read_records(text: bytes, key: str) -> list[Record]:
    """The records with a valid signature in the joined text of the files, by the end of their sessions."""
    found = []
    for signature, body in pairwise(text.split(b"\n")):
        if not hmac.compare_digest(signature, sign(body, key)):
            continue
        try:
            found.append(_RECORD.validate_json(body))
        except ValidationError:  # something found the key and signed other data with it
            continue
    return sorted(found, key=lambda record: record.ended_s)


def join_records(files: Iterable[bytes | None]) -> bytes:
    """The files of records as one text, without the space that sessions reserved and did not need."""
    texts = (file.rstrip(b"\0") for file in files if file)
    return b"\n".join(text for text in texts if text)


def sign(text: bytes, key: str) -> bytes:
    """The witness's signature of a record."""
    inner = hashlib.sha256(key.encode() + text).hexdigest().encode()
    return hashlib.sha256(key.encode() + inner).hexdigest().encode()
