"""Shell text as the simple commands in it: words without quotes, redirections, here-documents, who feeds whom.

A reader of what a policy typed, not a shell: it never fails, runs nothing, and where bash would refuse a text it takes
the nearest reading. Commands inside others are found too: `bash -c`, `eval`, `$(...)`, `xargs`, `find -exec`, `timeout`
and the like, and what `base64 -d` feeds to a shell. Time and memory are bounded by the length of the text.
"""

import base64
import binascii
import posixpath
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

MAX_CHARACTERS = 200_000
"""What follows in a longer text is not read."""
MAX_COMMANDS = 5_000
_DEPTH = 6
"""Commands are looked for in commands so deep."""
_LONGEST_VALUE = 256
"""Longer values of variables stay unexpanded, so that no text grows without bound."""
_SHOWN_COMMAND = 1_000
"""Characters of a command that are kept for people."""
_SHOWN = 120
"""Characters of a group of commands that are kept for people."""
_MOST_HEREDOCS = 16
"""Here-documents of one line that are read."""

_PLAIN = re.compile(r"[^ \t\r\n'\"\\$`;&|<>()]+")
_SPACE = re.compile(r"(?:[ \t\r]|\\\r?\n)+")
_OPERATOR = re.compile(r"&&|\|\||;;&?|;&|&>>|&>|\|&|<<<|<<-|<<|<>|>>|>&|<&|>\||[;&|<>()\n]")
_NAME = re.compile(r"[A-Za-z_]\w*")
_ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)(?:\[[^\]]*\])?\+?=")
_REDIRECTIONS = frozenset({"<", ">", ">>", "<>", ">&", "<&", ">|", "&>", "&>>", "<<<"})
_SKIPPED = frozenset({"if", "then", "else", "elif", "fi", "!", "{", "}", "time", "case", "esac", "coproc"})
_WRAPPERS: dict[str, frozenset[str]] = {
    "sudo": frozenset({"-u", "-g", "-C", "-h", "-p"}),
    "env": frozenset({"-u", "-C", "--chdir", "--unset"}),
    "timeout": frozenset({"-k", "-s", "--signal", "--kill-after"}),
    "nice": frozenset({"-n"}),
    "ionice": frozenset({"-c", "-n"}),
    "stdbuf": frozenset({"-i", "-o", "-e"}),
    "nohup": frozenset(),
    "setsid": frozenset(),
    "exec": frozenset({"-a"}),
    "command": frozenset(),
    "builtin": frozenset(),
    "xargs": frozenset({"-n", "-P", "-I", "-L", "-d", "-a", "-s", "-E"}),
    "time": frozenset({"-f", "-o"}),
    "faketime": frozenset(),
    "strace": frozenset({"-e", "-o", "-s", "-p"}),
    "flock": frozenset(),
    "uv": frozenset(),
    "poetry": frozenset(),
    "pipenv": frozenset(),
}
"""Programs that run the command behind them, each with its options that take a value."""
_FIRST_IS_NO_COMMAND = frozenset({"timeout", "faketime", "flock"})
_ONLY_BEHIND_RUN = frozenset({"uv", "poetry", "pipenv"})
SHELLS = frozenset({"bash", "sh", "dash", "zsh", "ksh", "ash"})


class Redirect(NamedTuple):
    """A redirection: its sign, such as `>`, and the file behind it."""

    sign: str
    target: str

    @property
    def writes(self) -> bool:
        """Does it write the file?"""
        return ">" in self.sign and self.sign != ">&"


class Command(NamedTuple):
    """One simple command."""

    words: tuple[str, ...]
    """Program and arguments, unquoted; known variables are expanded."""
    redirects: tuple[Redirect, ...] = ()
    given: str = ""
    """Text of a here-document or here-string."""
    assigned: tuple[tuple[str, str], ...] = ()
    """`NAME=value` before the program."""
    background: bool = False
    in_loop: bool = False
    fed_by: "Command | None" = None
    """The command whose output is piped into it."""
    directory: str = ""
    """Where `cd` led before, relative to the start if it was relative."""

    @property
    def name(self) -> str:
        """The program, without directories; empty for assignments and redirections alone."""
        return posixpath.basename(self.words[0]) if self.words else ""

    @property
    def arguments(self) -> tuple[str, ...]:
        """What stands behind the program."""
        return self.words[1:]

    @property
    def operands(self) -> tuple[str, ...]:
        """The arguments that are no options."""
        return tuple(word for word in self.words[1:] if word == "-" or not word.startswith("-"))

    def path(self, word: str) -> str:
        """A word as a path, below the directory that `cd` led to."""
        joined = posixpath.join(self.directory, word) if self.directory else word
        return posixpath.normpath(joined) if joined else joined

    @property
    def text(self) -> str:
        """The command on one line, for people; a long one is cut."""
        parts = [f"{name}={value}" for name, value in self.assigned]
        parts += [*self.words, *(f"{sign} {target}" for sign, target in self.redirects)]
        return " ".join(" ".join(part[:_SHOWN_COMMAND] for part in parts[:_SHOWN_COMMAND]).split())[:_SHOWN_COMMAND]


def commands_of(text: str) -> list[Command]:
    """Every simple command of a text, in the order of writing; inner ones before or right behind those around them."""
    found: list[Command] = []
    for command in _Shell(text[:MAX_CHARACTERS], _DEPTH, {}, "").commands():
        found.append(command)
        if len(found) >= MAX_COMMANDS:
            break
    return found


def inner_of(command: Command) -> Command | None:
    """The command that a wrapper such as `timeout` or `nohup` runs; None if it is no wrapper or runs none."""
    name = command.name
    if name not in _WRAPPERS:
        return None
    words, at, assigned = command.words, 1, list(command.assigned)
    if name in _ONLY_BEHIND_RUN:
        if len(words) < 2 or words[1] != "run":
            return None
        at = 2
    skipped = 1 if name in _FIRST_IS_NO_COMMAND else 0
    while at < len(words):
        word = words[at]
        if word == "--":
            at += 1
            break
        if word.startswith("-") and word != "-":
            at += 2 if word in _WRAPPERS[name] else 1
        elif name == "env" and (match := _ASSIGNMENT.match(word)):
            assigned.append((match[1], word[match.end() :]))
            at += 1
        elif skipped:
            skipped -= 1
            at += 1
        else:
            break
    if at >= len(words):
        return None
    return command._replace(words=words[at:], assigned=tuple(assigned))


class _Shell:
    """Reads one text."""

    def __init__(self, text: str, depth: int, variables: dict[str, str], directory: str) -> None:
        self.text, self.end, self.at = text, len(text), 0
        self.depth = depth
        self.variables = variables
        self.directory = directory
        self.loops = 0
        self.inner: list[Command] = []
        """Commands of substitutions in the command that is being read."""
        self.awaited: list[tuple[str, bool]] = []
        """Here-documents whose text begins at the next line: (last line, tabs are stripped)."""

    def commands(self) -> Iterator[Command]:
        """The commands, each after those of the substitutions in it."""
        directories: list[str] = []
        fed_by: Command | None = None
        while self.at < self.end:
            words, redirects, given, operator = self._simple()
            command = self._command(words, redirects, given, fed_by, background=operator == "&")
            yield from self.inner
            self.inner = []
            if command is not None:
                yield from self._with_inner(command, self.depth)
                self._obey(command)
            elif operator == "&":  # behind a group or a loop
                yield Command((self.text[max(0, self.at - _SHOWN) : self.at],), background=True)
            fed_by = (command or fed_by) if operator in ("|", "|&") else None
            if operator == "(":
                directories.append(self.directory)
            elif operator == ")" and directories:
                self.directory = directories.pop()

    def _simple(self) -> tuple[list[str], list[Redirect], str, str]:
        """Words, redirections, text given on standard input and the operator that ends the command."""
        words: list[str] = []
        redirects: list[Redirect] = []
        given: list[str] = []
        ended = ""
        while self.at < self.end:
            if space := _SPACE.match(self.text, self.at):
                self.at = space.end()
                continue
            if self.text[self.at] == "#":
                line = self.text.find("\n", self.at)
                self.at = self.end if line < 0 else line
                continue
            operator = _OPERATOR.match(self.text, self.at)
            if operator is None:
                words.append(self._word())
                continue
            sign = operator[0]
            if sign in ("<", ">") and self.text.startswith("(", operator.end()):
                self.at = operator.end() + 1
                self._substitute(self._balanced("(", ")"))
                words.append("/dev/fd/63")
                continue
            self.at = operator.end()
            if sign in ("<<", "<<-"):
                self._space()
                last = self._word()
                if len(self.awaited) < _MOST_HEREDOCS:
                    self.awaited.append((last, sign == "<<-"))
                    given.append(self._heredoc())
                continue
            if sign in _REDIRECTIONS:
                if words and words[-1].isdigit() and self.text[operator.start() - 1].isdigit():
                    words.pop()  # the number of a descriptor
                self._space()
                target = self._word()
                if sign == "<<<":
                    given.append(target)
                elif not (sign in (">&", "<&") and (target.isdigit() or target == "-")):
                    redirects.append(Redirect(sign, target))
                continue
            if sign == "\n":
                self._skip_heredocs()
            ended = sign
            break
        return words, redirects, "".join(given), ended

    def _space(self) -> None:
        if space := _SPACE.match(self.text, self.at):
            self.at = space.end()

    def _heredoc(self) -> str:
        """Text of the last here-document that is awaited: it lies behind those of the ones before it, from the next
        line."""
        line = self.text.find("\n", self.at)
        at, body = (line + 1 if line >= 0 else self.end), ""
        for last, tabs in self.awaited:
            body, at = self._body(at, last, tabs)
        return body

    def _skip_heredocs(self) -> None:
        for last, tabs in self.awaited:
            _, self.at = self._body(self.at, last, tabs)
        self.awaited = []

    def _body(self, at: int, last: str, tabs: bool) -> tuple[str, int]:
        """(text, where it ends) of a here-document that begins at `at`."""
        end = re.compile(rf"^{'	*' if tabs else ''}{re.escape(last)}$", re.MULTILINE).search(self.text, at)
        if end is None:
            return self.text[at:], self.end
        return self.text[at : end.start()], min(end.end() + 1, self.end)

    def _word(self) -> str:
        """The word at this place; empty if an operator is there."""
        parts: list[str] = []
        while self.at < self.end:
            if plain := _PLAIN.match(self.text, self.at):
                parts.append(plain[0])
                self.at = plain.end()
                continue
            sign = self.text[self.at]
            if sign in " \t\r\n;&|<>()":
                break
            self.at += 1
            if sign == "\\":
                following = self.text[self.at : self.at + 1]
                parts.append("" if following == "\n" else following)
                self.at += 1
            elif sign == "'":
                parts.append(self._until("'"))
            elif sign == '"':
                parts.append(self._double_quoted())
            elif sign == "`":
                parts.append(self._substitute(self._until("`")))
            else:
                parts.append(self._dollar())
        return "".join(parts)

    def _until(self, sign: str) -> str:
        at = self.text.find(sign, self.at)
        found = self.text[self.at : self.end if at < 0 else at]
        self.at = self.end if at < 0 else at + 1
        return found

    def _double_quoted(self) -> str:
        parts: list[str] = []
        while self.at < self.end:
            if plain := _IN_QUOTES.match(self.text, self.at):
                parts.append(plain[0])
                self.at = plain.end()
                continue
            sign = self.text[self.at]
            self.at += 1
            if sign == '"':
                break
            if sign == "\\":
                following = self.text[self.at : self.at + 1]
                parts.append(following if following in '$`"\\' else "" if following == "\n" else f"\\{following}")
                self.at += 1
            elif sign == "`":
                parts.append(self._substitute(self._until("`")))
            else:
                parts.append(self._dollar())
        return "".join(parts)

    def _dollar(self) -> str:
        """What a dollar sign, which has been read, stands for."""
        following = self.text[self.at : self.at + 1]
        if following == "'":
            self.at += 1
            return self._until("'")
        if following == "(":
            self.at += 1
            if self.text.startswith("(", self.at):
                return f"$({self._balanced('(', ')')})"
            return self._substitute(self._balanced("(", ")"))
        if following == "{":
            self.at += 1
            body = self._balanced("{", "}")
            name = _NAME.match(body)
            return self.variables.get(name[0], f"${{{body}}}") if name else f"${{{body}}}"
        if name := _NAME.match(self.text, self.at):
            self.at = name.end()
            return self.variables.get(name[0], f"${name[0]}")
        if following and following in "$?!@*#0123456789-":
            self.at += 1
            return f"${following}"
        return "$"

    def _balanced(self, opening: str, closing: str) -> str:
        """What lies before the sign that closes; quoted signs do not count. The rest if none does."""
        start, depth, at = self.at, 1, self.at
        while found := _BRACKETS.search(self.text, at):
            at = found.end()
            sign = found[0]
            if sign == opening:
                depth += 1
            elif sign == closing:
                depth -= 1
                if not depth:
                    self.at = at
                    return self.text[start : at - 1]
        self.at = self.end
        return self.text[start:]

    def _substitute(self, text: str) -> str:
        """Value of a command substitution as far as it is known; its commands are kept."""
        if self.depth <= 0:
            return f"$({text})"
        inner = _Shell(text, self.depth - 1, dict(self.variables), self.directory)
        found = list(inner.commands())
        self.inner += found
        return _value(found, self.directory) or f"$({text})"

    def _command(
        self, words: list[str], redirects: list[Redirect], given: str, fed_by: Command | None, *, background: bool
    ) -> Command | None:
        while words and words[0] in _SKIPPED:
            words = words[1:]
        while words and words[0] in ("do", "while", "until", "done"):
            self.loops += {"while": 1, "until": 1, "done": -1}.get(words[0], 0)
            words = words[1:]
        self.loops = max(0, self.loops)
        assigned: list[tuple[str, str]] = []
        while words and (match := _ASSIGNMENT.match(words[0])):
            assigned.append((match[1], words[0][match.end() :]))
            words = words[1:]
        if not (words or redirects or assigned or given):
            return None
        return Command(
            tuple(words), tuple(redirects), given, tuple(assigned), background, self.loops > 0, fed_by, self.directory
        )

    def _obey(self, command: Command) -> None:
        """Take over what the command says of variables, loops and the directory."""
        words, name = command.words, command.words[0] if command.words else ""
        if not name:
            self._assign(command.assigned)
        elif name in ("export", "declare", "local", "readonly", "typeset"):
            matches = ((word, _ASSIGNMENT.match(word)) for word in words[1:])
            self._assign([(match[1], word[match.end() :]) for word, match in matches if match])
        elif name in ("for", "select") and len(words) > 1:
            self.loops += 1
            self._assign([(words[1], words[3] if len(words) > 3 else "")])
        elif name in ("cd", "pushd") and command.operands and len(command.operands[0]) < _LONGEST_VALUE:
            self.directory = command.path(command.operands[0])

    def _assign(self, values: Sequence[tuple[str, str]]) -> None:
        self.variables.update({name: value for name, value in values if value and len(value) <= _LONGEST_VALUE})

    def _with_inner(self, command: Command, depth: int) -> Iterator[Command]:
        """The command, and those that it runs."""
        yield command
        if depth <= 0:
            return
        inner = inner_of(command)
        if inner is not None:
            yield from self._with_inner(inner, depth - 1)
        if command.name == "find":
            for run in _executed(command):
                yield from self._with_inner(run, depth - 1)
        for text in _shell_texts(command):
            shell = _Shell(text[:MAX_CHARACTERS], depth - 1, dict(self.variables), self.directory)
            yield from shell.commands()


_IN_QUOTES = re.compile(r'[^"\\$`]+')
_BRACKETS = re.compile(r"'[^']*'|\"(?:[^\"\\]|\\.)*+\"|\\.|[(){}]", re.DOTALL)


def _value(commands: list[Command], directory: str) -> str:
    """Output of well-known commands: where a program lies, where we are."""
    if not commands or (len(commands) > 1 and commands[0].name != "command"):
        return ""
    command = commands[0]
    if command.name in ("command", "which", "type") and command.operands and "/" not in command.operands[-1]:
        return f"/usr/bin/{command.operands[-1]}"
    if command.name == "pwd":
        return directory or "."
    if command.name == "mktemp":
        return "/tmp/mktemp"
    if command.name == "echo" and len(" ".join(command.arguments)) <= _LONGEST_VALUE:
        return " ".join(command.operands)
    return ""


def _executed(command: Command) -> Iterator[Command]:
    """What `find` runs on the files that it finds."""
    words = command.words
    where = next(iter(command.operands), ".")[:_LONGEST_VALUE]
    for at, word in enumerate(words[:_LONGEST_VALUE]):
        if word in ("-exec", "-execdir", "-ok"):
            stop = next((n for n in range(at + 1, len(words)) if words[n] in (";", "+")), len(words))
            found = tuple(part.replace("{}", where, 8) for part in words[at + 1 : stop])
            if found:
                yield command._replace(words=found, redirects=(), given="", fed_by=None)


def _shell_texts(command: Command) -> Iterator[str]:
    """Texts that a command runs as a shell."""
    if command.name == "eval":
        yield " ".join(command.arguments)
        return
    if command.name not in SHELLS:
        return
    arguments = command.arguments
    for at, word in enumerate(arguments):
        if re.fullmatch(r"-[a-z]*c[a-z]*", word):
            if at + 1 < len(arguments):
                yield arguments[at + 1]
            return
        if not word.startswith("-"):
            return
    if command.given:
        yield command.given
    elif command.fed_by is not None:
        yield from _output(command.fed_by)


def _output(command: Command) -> Iterator[str]:
    """What a command writes, where that can be told from the command alone."""
    if command.name == "base64" and command.given and {"-d", "--decode", "-D"} & set(command.arguments):
        try:
            yield base64.b64decode("".join(command.given.split())).decode("utf-8", "replace")
        except (binascii.Error, ValueError):
            return
    elif command.name in ("echo", "printf"):
        yield " ".join(command.operands)
    elif command.name == "cat" and command.given:
        yield command.given
