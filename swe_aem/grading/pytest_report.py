"""A second source for the results of pytest: a plugin that signs its record at the end of the session.

Any program can print what looks like a log. One that prints a whole session and exits does not have the plugin's key,
and so cannot sign a record. The plugin is used where the test command is one plain call of pytest, which is how the
evaluation scripts of Python tasks run it.
"""

import hashlib
import hmac
import re
import secrets
import shlex
from dataclasses import dataclass, field

from pydantic import TypeAdapter

from swe_aem.grading.shell import script_text

_VALUE = r"""(?:[^\s'"\\`;&|<>()]|'[^'\n]*'|"[^"\\`\n]*")*"""
_SETTING = re.compile(rf"([A-Za-z_]\w*)=({_VALUE}) ")
_PLAIN_PYTEST = re.compile(
    rf"((?:[A-Za-z_]\w*={_VALUE} )*)(?:(?:[\w./-]*/)?python[\d.]*(?: -W \w+)* -m )?pytest(?: [^;&|<>()`$\n]*)?"
)
"""Its group is what the command sets in its environment."""
MAX_RECORD_BYTES = 32 << 20
"""Larger records are not read: one of 100,000 tests has 10 MB."""
_RESULTS = TypeAdapter(dict[str, str])


@dataclass(frozen=True)
class PytestReport:
    """The plugin's record of one pytest session."""

    __test__ = False

    finished: bool
    """Did the session come to its end, with a valid signature?"""
    results: dict[str, str] = field(default_factory=dict)
    """`passed` or `failed` by node id; skipped tests are not in it."""


@dataclass(frozen=True)
class SignedPytestReport:
    """The plugin for one run of one script: its random names, paths and key."""

    name: str
    key: str
    directory: str
    record: str
    test_command: str

    @classmethod
    def for_command(cls, test_command: str, private_dir: str) -> "SignedPytestReport | None":
        """The plugin for a test command, with its files below `private_dir`.

        None if the command is not one plain call of pytest in one process.
        """
        command = test_command.strip()
        if not _PLAIN_PYTEST.fullmatch(command) or re.search(r" (?:-n|--numprocesses|--dist|--forked)\b", command):
            return None
        name, directory, record = (secrets.token_hex(16) for _ in range(3))
        key = secrets.token_hex(16)
        return cls(f"p{name}", key, f"{private_dir}/{directory}", f"{private_dir}/{record}", command)

    def setup(self) -> list[str]:
        """Script lines that put the plugin in place, for before the test command."""
        plugin = script_text("pytest_report.py").replace("@KEY@", self.key).replace("@RECORD@", self.record)
        return [
            f"mkdir -p {self.directory} && cat >{self.directory}/{self.name}.py <<'EOF_{self.name}'",
            *plugin.rstrip("\n").split("\n"),
            f"EOF_{self.name}",
            *(
                f'export {variable}="{ours}${{{variable}:+{separator}${variable}}}"'
                for variable, (ours, separator) in self._variables.items()
                if variable not in (setting[1] for setting in _SETTING.finditer(self._settings))
            ),
        ]

    def command(self) -> str:
        """The test command, with the plugin in the variables that it sets itself."""
        return _SETTING.sub(self._with_plugin, self._settings) + self.test_command.removeprefix(self._settings)

    @property
    def _settings(self) -> str:
        plain = _PLAIN_PYTEST.fullmatch(self.test_command)
        return plain[1] if plain else ""

    @property
    def _variables(self) -> dict[str, tuple[str, str]]:
        """Variables that load the plugin, with the value, and what separates it from another value."""
        return {"PYTHONPATH": (self.directory, ":"), "PYTEST_ADDOPTS": (f"-p {self.name}", " ")}

    def _with_plugin(self, setting: re.Match[str]) -> str:
        variable, value = setting.groups()
        ours = shlex.quote("".join(self._variables[variable])) if variable in self._variables else ""
        return f"{variable}={ours}{value} "


def read_record(record: bytes, key: str) -> PytestReport:
    """What the plugin with that key recorded; a record that is empty or not signed counts as an unfinished session."""
    signature, _, text = record.partition(b"\n")
    if not hmac.compare_digest(signature, sign(text, key)):
        return PytestReport(finished=False)
    try:
        return PytestReport(finished=True, results=_RESULTS.validate_json(text))
    except ValueError:  # something found the key and signed other data with it
        return PytestReport(finished=False)


def sign(text: bytes, key: str) -> bytes:
    """The plugin's signature of a record."""
    inner = hashlib.sha256(key.encode() + text).hexdigest().encode()
    return hashlib.sha256(key.encode() + inner).hexdigest().encode()
