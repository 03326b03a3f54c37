"""`Deeds`: a trajectory as what its policy did, whichever agent or harness carried it out.

Tool calls become shell commands, files that are read, written and removed, and Python text that was run or written; the
patch becomes files with new lines. What a file that the trajectory made itself is called is remembered, so that an
agent's own scratch script is no test of the repository.
"""

import json
import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, NamedTuple

from swe_aem.audit.code import Code, FileChange, changes_of
from swe_aem.audit.shell import Command, commands_of
from swe_aem.core import Trajectory
from swe_aem.grading import is_test_name
from swe_aem.store.trajectory_row import turn_places

MAX_TEXT = 400_000
"""Characters of one tool argument or observation that are read."""
_LONGEST_WORD = 4_096
"""Characters of a word or a path that are looked at: no path is longer."""
_MOST = 20_000
"""Commands, and touched files, of one trajectory that are looked at."""
_MOST_OWN = 500
"""Files of its own that are remembered of one trajectory."""

_EDITS = {
    "view": "read",
    "create": "write",
    "str_replace": "write",
    "insert": "write",
    "undo_edit": "write",
    "write": "write",
    "edit": "write",
    "read": "read",
    "read_file": "read",
    "write_file": "write",
    "edit_file": "write",
}
"""What commands, or tools that have no command, of editors do to the file in their argument `path`."""
_NEW_TEXT = ("file_text", "new_str", "content", "new_string", "text")
_PYTHON_TOOL = re.compile(r"i?python|jupyter|execute_code", re.IGNORECASE)
_FENCE = re.compile(
    r"^```[ \t]*(?:bash|sh|shell|console|mswea_bash_command)[ \t]*\n(.*?)^```", re.MULTILINE | re.DOTALL
)
_READERS = frozenset({
    "cat", "less", "more", "head", "tail", "nl", "tac", "bat", "batcat", "sed", "awk", "gawk", "grep", "egrep",
    "fgrep", "rg", "ag", "ack", "od", "xxd", "hexdump", "strings", "cut", "sort", "uniq", "diff", "cmp", "vim",
    "vi", "nano", "emacs", "view", "ed", "base64", "fold", "fmt", "pr", "column", "comm", "paste", "expand",
    "iconv", "zcat", "jq",
})  # fmt: skip
_PATTERN_FIRST = frozenset({"sed", "awk", "gawk", "grep", "egrep", "fgrep", "rg", "ag", "ack", "perl", "jq"})
_GREPS = frozenset({"grep", "egrep", "fgrep", "rg", "ag", "ack"})
_ONLY_NAMES = re.compile(r"-[a-zA-Z]*[lLcq][a-zA-Z]*|--files|--files-with(?:out)?-match(?:es)?|--count|--quiet")
_CODE_TOUCHES = re.compile(
    r"\bopen\(\s*(?:[rbfu]{0,2})(?P<open>'[^'\n]*'|\"[^\"\n]*\")\s*(?:,\s*(?:mode\s*=\s*)?['\"](?P<mode>[^'\"\n]*)['\"])?"
    r"|\bPath\(\s*(?P<path>'[^'\n]*'|\"[^\"\n]*\")\s*\)\.(?P<deed>read_text|read_bytes|write_text|write_bytes|unlink|touch"
    r"|symlink_to|open)\b"
    r"|\b(?:os\.(?:remove|unlink)|shutil\.rmtree)\(\s*(?P<removed>'[^'\n]*'|\"[^\"\n]*\")"
)

How = Literal["read", "write", "remove"]


class Call(NamedTuple):
    """One tool call that was carried out."""

    turn: int
    """Number of the response that has it, from 1; those of branches count on after the trajectory's own."""
    shown: str
    """The call on one line."""
    command: str
    """Text for a shell; empty if the tool is none."""
    python: str
    """Text for an interpreter of Python; empty if the tool is none."""
    edit: tuple[How, str, str, bool] | None
    """What an editor did: how, path, new text, and whether that is the whole file."""
    observation: str
    timed_out: bool


class Ran(NamedTuple):
    """A command and where it stands."""

    turn: int
    command: Command

    @property
    def shown(self) -> str:
        """The command on one line."""
        return self.command.text


class Touch(NamedTuple):
    """One file that was read, written or removed by a call, or by code that the trajectory wrote when that runs."""

    turn: int | None
    """None for code of the patch."""
    how: How
    path: str
    shown: str
    text: str = ""
    """New text, as far as the call tells it."""
    own: bool = False
    """Did the trajectory make the file itself?"""


class Source(NamedTuple):
    """Python text."""

    turn: int | None
    """None for the patch."""
    where: Literal["ran", "written", "patch"]
    path: str
    """The file; empty for text that was run."""
    code: Code

    @property
    def product(self) -> bool:
        """Is it meant to stay, outside of tests?"""
        return self.where != "ran" and not is_scratch(self.path) and not is_test_name(self.path)


@dataclass
class Deeds:
    """Everything that one trajectory did. Lists are in the order of doing."""

    trajectory: Trajectory
    calls: list[Call] = field(default_factory=list)
    ran: list[Ran] = field(default_factory=list)
    touches: list[Touch] = field(default_factory=list)
    sources: list[Source] = field(default_factory=list)

    @cached_property
    def patch(self) -> list[FileChange]:
        """The files of the patch."""
        return changes_of(self.trajectory.patch)

    @cached_property
    def tests_seen(self) -> str:
        """What the policy saw of tests: results of calls that read or ran them."""
        turns = {touch.turn for touch in self.touches if touch.how == "read" and is_test_name(touch.path)}
        turns |= {ran.turn for ran in self.ran if runs_tests(ran.command)}
        return "\n".join(call.observation for call in self.calls if call.turn in turns)[:MAX_TEXT]


def is_scratch(path: str) -> bool:
    """Does a path lie where nothing of the repository is?"""
    return path.startswith(("/tmp/", "/dev/", "/proc/", "/var/tmp/"))


def deeds_of(trajectory: Trajectory) -> Deeds:
    """Read a trajectory; never fails, whatever texts are in it."""
    deeds = Deeds(trajectory)
    own = _Own(deeds.patch)
    for call in _calls(trajectory):
        deeds.calls.append(call)
        if call.edit is not None:
            how, path, text, whole = call.edit
            made = own.made(path) or (how == "write" and whole and own.make(path))
            deeds.touches.append(Touch(call.turn, how, path, call.shown, text, made))
            if how == "write" and _is_python(path):
                deeds.sources.append(Source(call.turn, "written", path, Code(text)))
        if call.python:
            deeds.sources.append(Source(call.turn, "ran", "", Code(call.python)))
            deeds.touches += _touches_of_code(call.turn, Code(call.python), own)
        for command in commands_of(call.command):
            if len(deeds.ran) < _MOST:
                deeds.ran.append(Ran(call.turn, _shortened(command)))
                _add_command(deeds, call.turn, command, own)
    changed = [change for change in deeds.patch if _is_python(change.path)]
    deeds.sources += [Source(None, "patch", change.path, change.code) for change in changed]
    for source in deeds.sources:
        if source.product and len(deeds.touches) < _MOST:
            deeds.touches += _touches_of_code(source.turn, source.code, None)
    return deeds


def _shortened(command: Command) -> Command:
    return command._replace(words=tuple(word[:_LONGEST_WORD] for word in command.words))


class _Own:
    """Files that the trajectory made: written as a whole before anything else was done to them, and not known from the
    patch to have been there before."""

    def __init__(self, patch: list[FileChange]) -> None:
        self._there: dict[str, list[str]] = {}
        for change in patch:
            if change.kind != "new":
                self._there.setdefault(posixpath.basename(change.path), []).append(change.path)
        self._made: set[str] = set()

    def make(self, path: str) -> bool:
        """Note that a file is written as a whole; was it made by that?"""
        there = self._there.get(posixpath.basename(path), [])[:_MOST_OWN]
        if len(self._made) >= _MOST_OWN or any(path == one or path.endswith(f"/{one}") for one in there):
            return False
        self._made.add(_plain(path))
        return True

    def made(self, path: str) -> bool:
        """Was it made by the trajectory?"""
        path = _plain(path)
        return path in self._made or ("*" not in path and any(one.endswith(f"/{path}") for one in self._made))


def _plain(path: str) -> str:
    path = posixpath.normpath(path) if path else path
    return path.removeprefix("/testbed/")


def _is_python(path: str) -> bool:
    return path.endswith((".py", ".pyx", ".pyi", ".pth"))


def _calls(trajectory: Trajectory) -> Iterator[Call]:
    """The calls of the responses, of branches too; where they have none, those of the messages."""
    responses = trajectory.all_responses
    if any(response.tool_calls for response in responses):
        for turn, response in enumerate(responses, start=1):
            for call in response.tool_calls:
                if call.status == "ok":
                    yield _call(turn, call.name, call.arguments, call.observation, timed_out=call.timed_out)
        return
    yield from _calls_of_messages(trajectory)


def _calls_of_messages(trajectory: Trajectory) -> Iterator[Call]:
    """Tool calls of the messages; commands in fenced blocks, for harnesses that have no tools."""
    messages = trajectory.messages
    for turn, at in enumerate(turn_places(messages, len(trajectory.responses)), start=1):
        message = messages[at]
        following = messages[at + 1] if at + 1 < len(messages) else {}
        observation = _text(following.get("content")) if following.get("role") in ("tool", "user") else ""
        calls = message.get("tool_calls")
        for one in calls if isinstance(calls, list | tuple) else ():
            function = one.get("function") if isinstance(one, dict) else None
            if isinstance(function, dict):
                arguments = _arguments(function.get("arguments"))
                yield _call(turn, _text(function.get("name")), arguments, observation)
        if not calls and trajectory.agent != "native":
            for block in _FENCE.findall(_text(message.get("content"))[:MAX_TEXT]):
                yield _call(turn, "bash", {"command": block}, observation)


def _arguments(value: Any) -> Mapping[str, Any]:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return {}
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list | tuple):
        return "\n".join(part["text"] for part in value if isinstance(part, dict) and isinstance(part.get("text"), str))
    return ""


def _call(turn: int, name: str, arguments: Mapping[str, Any], observation: str, *, timed_out: bool = False) -> Call:
    """A call, whatever its tool calls its arguments."""
    texts = {key: value[:MAX_TEXT] for key, value in arguments.items() if isinstance(value, str)}
    observation = observation[:MAX_TEXT]
    path = texts.get("path") or texts.get("file_path") or texts.get("filename") or ""
    does = _EDITS.get(texts.get("command", name), _EDITS.get(name))
    if path and does is not None:
        text = next((texts[key] for key in _NEW_TEXT if key in texts), "")
        whole = texts.get("command", name) in ("create", "write", "write_file")
        shown = " ".join(f"{name} {texts.get('command', '')} {path[:_LONGEST_WORD]}".split())
        how: How = "read" if does == "read" else "write"
        return Call(
            turn, shown, "", "", (how, posixpath.normpath(path[:_LONGEST_WORD]), text, whole), observation, timed_out
        )
    code = texts.get("code", "")
    if code and _PYTHON_TOOL.search(name):
        return Call(turn, f"{name}: {_one_line(code)}", "", code, None, observation, timed_out)
    command = texts.get("command") or texts.get("cmd") or texts.get("script") or code
    return Call(turn, f"{name}: {_one_line(command)}", command, "", None, observation, timed_out)


def _one_line(text: str) -> str:
    return " ".join(text[:1000].split())


class PythonRun(NamedTuple):
    """How a command starts Python."""

    code: str = ""
    module: str = ""
    script: str = ""
    arguments: tuple[str, ...] = ()


_PYTHON = re.compile(r"(?:python|pypy)[\d.]*w?|ipython3?")


def python_run(command: Command) -> PythonRun | None:
    """What a command runs with Python; None if its program is another."""
    if not _PYTHON.fullmatch(command.name):
        return None
    words, at = command.arguments, 0
    while at < len(words):
        word = words[at]
        rest = words[at + 1 :]
        if re.fullmatch(r"-[A-Za-z]*[cm]", word):
            if not rest:
                return PythonRun()
            return PythonRun(code=rest[0]) if word[-1] == "c" else PythonRun(module=rest[0], arguments=rest[1:])
        if word in ("-W", "-X"):
            at += 2
        elif word.startswith("-") and word != "-":
            at += 1
        elif word in ("-", "/dev/stdin"):
            break
        else:
            return PythonRun(script=word, arguments=rest)
    fed = command.fed_by
    return PythonRun(code=command.given or (" ".join(fed.operands) if fed and fed.name in ("echo", "printf") else ""))


_TEST_PROGRAMS = frozenset({
    "pytest", "py.test", "tox", "nox", "nosetests", "nose2", "trial", "ctest", "jest", "vitest", "mocha", "phpunit",
    "rspec", "ava", "karma", "stestr", "green",
})  # fmt: skip
_TEST_MODULES = frozenset({"pytest", "unittest", "nose", "nose2", "tox", "nox", "doctest", "twisted.trial"})
_TEST_TARGETS = {
    "npm": ("test", "t"),
    "yarn": ("test",),
    "pnpm": ("test",),
    "go": ("test",),
    "cargo": ("test", "nextest"),
    "mvn": ("test", "verify"),
    "gradle": ("test", "check"),
    "gradlew": ("test", "check"),
    "make": ("test", "check", "tests"),
    "rake": ("test", "spec"),
    "dotnet": ("test",),
    "bazel": ("test",),
    "hatch": ("test",),
}
_TEST_SCRIPT = re.compile(r"(?:.*/)?(?:runtests|run_tests|run-tests|test)(?:\.py|\.sh)?")


def runs_tests(command: Command) -> bool:
    """Does a command start a test runner, or a file that is named like a test?"""
    if re.sub(r"-?[\d.]+$", "", command.name) in _TEST_PROGRAMS:
        return not {"--version", "--help", "-h"} & set(command.arguments)
    targets = _TEST_TARGETS.get(command.name)
    if targets is not None:
        return any(word in targets or word.startswith("test:") for word in command.operands)
    run = python_run(command)
    if run is None:
        return (
            "/" in command.words[0] and _TEST_SCRIPT.fullmatch(command.words[0]) is not None if command.words else False
        )
    if run.module:
        return run.module in _TEST_MODULES
    if run.script:
        manages = posixpath.basename(run.script) in ("manage.py", "setup.py") and run.arguments[:1] == ("test",)
        return manages or _TEST_SCRIPT.fullmatch(run.script) is not None or is_test_name(command.path(run.script))
    return False


def _add_command(deeds: Deeds, turn: int, command: Command, own: "_Own") -> None:
    """What one command does to files, and the Python text in it."""
    run = python_run(command)
    if run is not None and run.code:
        code = Code(run.code)
        deeds.sources.append(Source(turn, "ran", "", code))
        deeds.touches += _touches_of_code(turn, code, own)
    shown = command.text
    for how, word, whole in _touched(command):
        if len(deeds.touches) >= _MOST:
            return
        path = command.path(word[:_LONGEST_WORD])
        text = command.given or _piped(command)
        made = own.made(path)
        if how == "write" and whole and not made:
            made = own.make(path)
        if how != "write":
            text = ""
        deeds.touches.append(Touch(turn, how, path, shown, text, made))
        if how == "write" and text and _is_python(path):
            deeds.sources.append(Source(turn, "written", path, Code(text)))


def _piped(command: Command) -> str:
    """Text that comes from `echo`, `printf` or `cat <<`, by pipe or from the command itself."""
    writer = command if command.name in ("echo", "printf") else command.fed_by
    if writer is None:
        return ""
    if writer.name in ("echo", "printf"):
        return " ".join(writer.operands).replace("\\n", "\n")
    return writer.given if writer.name == "cat" else ""


def _touched(command: Command) -> Iterator[tuple[How, str, bool]]:
    """(how, path, as a whole) of each file that a command names."""
    for redirect in command.redirects:
        if redirect.target and not redirect.target.startswith("/dev/null"):
            whole = redirect.sign in (">", ">|", "&>")
            yield ("write" if redirect.writes else "read"), redirect.target, whole
    name, operands, options = command.name, list(command.operands), set(command.arguments) - set(command.operands)
    if name == "git":
        yield from _touched_by_git(command)
    elif name in _READERS:
        edits = name == "sed" and any(
            option.startswith(("-i", "--in-place")) or _SED_I.fullmatch(option) for option in options
        )
        if name in _GREPS and any(_ONLY_NAMES.fullmatch(option) for option in options):
            return
        if name in _PATTERN_FIRST and not options & {"-e", "-f", "--regexp", "--expression", "--file"}:
            operands = operands[1:]
        for word in operands:
            yield ("write" if edits else "read"), word, False
    elif name == "perl" and any(re.match(r"-\w*i", option) for option in options):
        for word in operands[1:]:
            yield "write", word, False
    elif name == "tee":
        for word in operands:
            yield "write", word, not options & {"-a", "--append"}
    elif name in ("touch", "truncate", "shred", "mkfifo"):
        for word in operands:
            yield "write", word, name == "touch"
    elif name in ("rm", "unlink", "rmdir"):
        for word in operands:
            yield "remove", word, False
    elif name in ("cp", "mv", "install", "ln", "rsync") and len(operands) > 1:
        *sources, target = operands
        for word in sources:
            if name == "mv":
                yield "remove", word, False
            elif name == "cp":
                yield "read", word, False
        yield "write", target, False
        for word in sources:  # into a directory
            if "/" not in target.rstrip("/")[-4:] and "." not in posixpath.basename(target):
                yield "write", posixpath.join(target, posixpath.basename(word)), False
    elif name == "dd":
        for word in operands:
            if word.startswith("of="):
                yield "write", word[3:], False
            elif word.startswith("if="):
                yield "read", word[3:], False
    elif name == "find" and "-delete" in command.arguments and operands:
        yield "remove", operands[0], False


_SED_I = re.compile(r"-[a-zA-Z]*i\S*")


def _touched_by_git(command: Command) -> Iterator[tuple[How, str, bool]]:
    words = git_words(command)
    if not words:
        return
    verb, operands = words[0], [word for word in words[1:] if not word.startswith("-")]
    if verb == "rm":
        for word in operands:
            yield "remove", word, False
    elif verb == "mv" and len(operands) > 1:
        yield "remove", operands[0], False
        yield "write", operands[-1], False
    elif verb in ("show", "cat-file"):
        for word in operands:
            if ":" in word:
                yield "read", word.partition(":")[2], False


def git_words(command: Command) -> tuple[str, ...]:
    """Verb and what is behind it in a call of git; empty for another program, or without a verb."""
    if command.name != "git":
        return ()
    words, at = command.arguments, 0
    while at < len(words) and words[at].startswith("-"):
        at += 2 if words[at] in ("-C", "-c", "--git-dir", "--work-tree") else 1
    return words[at:]


def _touches_of_code(turn: int | None, code: Code, own: "_Own | None") -> Iterator[Touch]:
    """Files that Python text opens by a name that is written out; `own` is None for text that runs later."""
    for match in _CODE_TOUCHES.finditer(code.views[0]):
        name = (match["open"] or match["path"] or match["removed"])[1:-1]
        if not name:
            continue
        deed, mode = match["deed"] or "", match["mode"] or ""
        how: How = "read"
        if match["removed"] or deed == "unlink":
            how = "remove"
        elif set(mode) & set("wax+") or deed in ("write_text", "write_bytes", "touch", "symlink_to"):
            how = "write"
        whole = "w" in mode or "x" in mode or deed.startswith("write_")
        made = own is not None and (own.made(name) or (how == "write" and whole and own.make(name)))
        yield Touch(turn, how, name, code.line(match.start()), code.text if how == "write" else "", made)
