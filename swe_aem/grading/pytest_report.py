"""A second witness for pytest runs: a plugin of ours that signs its record when the session has come to its end.

What a log says can be printed by anything. A program that prints a whole session and leaves does not have the key that
the plugin keeps, and so cannot sign. It is used where the test command is one plain call of pytest, which is how the
evaluation scripts of Python tasks run it.
"""

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, field

from pydantic import TypeAdapter

from swe_aem.core import Sandbox
from swe_aem.grading.shell import script_text

_PLAIN_PYTEST = re.compile(
    r"(?:[A-Za-z_]\w*=\S* )*(?:(?:[\w./-]*/)?python[\d.]*(?: -W \w+)* -m )?pytest(?: [^;&|<>()`$\n]*)?"
)
_MAX_RECORD_BYTES = 32 << 20
_RESULTS = TypeAdapter(dict[str, str])


@dataclass(frozen=True)
class PytestReport:
    """What the plugin left behind."""

    __test__ = False

    finished: bool
    """Did the session come to its end, signed with our key?"""
    results: dict[str, str] = field(default_factory=dict)
    """`passed` or `failed` by node id; of skipped tests it says nothing."""


@dataclass(frozen=True)
class SignedPytestReport:
    """One plugin, for one run of one script."""

    name: str
    key: str
    directory: str
    record: str

    @classmethod
    def for_command(cls, test_command: str) -> "SignedPytestReport | None":
        """A witness for a test command; None if the command is not one plain call of pytest in one process."""
        command = test_command.strip()
        if not _PLAIN_PYTEST.fullmatch(command) or re.search(r" (?:-n|--numprocesses|--dist|--forked)\b", command):
            return None
        name, directory, record = (secrets.token_hex(16) for _ in range(3))
        return cls(f"p{name}", secrets.token_hex(16), f"/tmp/{directory}", f"/tmp/{record}")

    def setup(self) -> list[str]:
        """Script lines that put the plugin in place, for right before the test command."""
        plugin = script_text("pytest_report.py").replace("@KEY@", self.key).replace("@RECORD@", self.record)
        return [
            f"mkdir -p {self.directory} && cat >{self.directory}/{self.name}.py <<'EOF_{self.name}'",
            *plugin.rstrip("\n").split("\n"),
            f"EOF_{self.name}",
            f'export PYTHONPATH="{self.directory}${{PYTHONPATH:+:$PYTHONPATH}}"',
            f'export PYTEST_ADDOPTS="-p {self.name}${{PYTEST_ADDOPTS:+ $PYTEST_ADDOPTS}}"',
        ]

    async def read(self, sandbox: Sandbox) -> PytestReport:
        """What the plugin wrote; a record that is missing, unreadable or not signed is no pytest_report."""
        try:
            record = await sandbox.read_file(self.record, max_bytes=_MAX_RECORD_BYTES)
        except OSError:
            return PytestReport(finished=False)
        signature, _, text = record.partition(b"\n")
        if not hmac.compare_digest(signature, self._sign(text)):
            return PytestReport(finished=False)
        try:
            return PytestReport(finished=True, results=_RESULTS.validate_json(text))
        except ValueError:  # the key was found and something else was signed with it
            return PytestReport(finished=False)

    def _sign(self, text: bytes) -> bytes:
        key = self.key.encode()
        inner = hashlib.sha256(key + text).hexdigest().encode()
        return hashlib.sha256(key + inner).hexdigest().encode()
