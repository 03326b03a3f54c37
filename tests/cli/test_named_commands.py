"""Every command and flag that errors, help, docstrings and docs name is one that the command line has."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer

from swe_aem.cli import VERBS, app

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "swe_aem").rglob("*.py"))
DOCS = [
    ROOT / "README.md",
    ROOT / "benchmarks" / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "tasks").glob("*/README.md")),
]
JOBS = sorted(path for path in (ROOT / "configs" / "cluster").iterdir() if path.suffix in {".sh", ".slurm", ".yaml"})

CALLED = re.compile(r"\bswe-aem ((?:[a-z][\w-]*)(?: [a-z][\w-]*)?)((?:(?!swe-aem| -- )[^`\n;#|])*)")
"""A call: the words of the command, and what follows them."""
CODE = re.compile(r"(?:[`$]|uv run|Example:|^ {4,})\s*$")
"""What stands before a call that is meant to be typed; elsewhere `swe-aem` may begin a sentence."""
FLAG = re.compile(r"(?<![\w/=\-'\"\[])--[a-z][a-z0-9-]*")
OTHERS = re.compile(
    r"\b(?:pytest|git|diff|patch|docker (?:run|build|pull|compose)|podman|pip|uv|vllm|systemd-run|bwrap|accelerate"
    r"|torchrun|python3?|unittest|srun|sbatch|SBATCH|scancel|build\.sh|benchmarks[/.]\w+|hf (?:download|upload)"
    r"|ray (?:start|drain-node|get-auth-token))\b"
)
"""Programs of other people: the flags behind one of these on the same line are its own."""
OF_OTHERS = {
    "--cap-drop": "docker run",
    "--cgroup-parent": "docker run",
    "--dangerously-bypass-approvals-and-sandbox": "codex exec",
    "--dangerously-skip-permissions": "claude",
    "--extra": "./start",
    "--enable-return-routed-experts": "vllm serve",
    "--gpu-memory-utilization": "vllm serve",
    "--logprobs-mode": "vllm serve",
    "--registry": "sandboxes/*/build.sh",
    "--resources": "ray start",
    "--return-tokens-as-token-ids": "vllm serve",
    "--ro-bind": "bwrap",
    "--weight-transfer-config": "vllm serve",
    "--worker-extension-cls": "vllm serve",
}
"""Flags of other programs that prose names on their own."""


class Command(NamedTuple):
    """One command of the command line."""

    subcommands: frozenset[str]
    flags: frozenset[str]


@cache
def commands() -> dict[str, Command]:
    """Every command by its words (`tasks check`)."""
    found: dict[str, Command] = {}

    def walk(words: tuple[str, ...], command: Any) -> None:
        flags = {name for option in command.params for name in (*option.opts, *option.secondary_opts)}
        names = command.list_commands(None) if hasattr(command, "list_commands") else []
        found[" ".join(words)] = Command(frozenset(names), frozenset(flags | {"--help"}))
        for name in names:
            walk((*words, name), command.get_command(None, name))

    walk((), typer.main.get_command(app))
    return found


def problems(text: str, *, alone: bool = True) -> Iterator[str]:
    """What a text names that the command line does not have; `alone`: flags that stand behind no command, too."""
    every_flag = {flag for command in commands().values() for flag in command.flags} | OF_OTHERS.keys()
    for line in text.splitlines():
        seen: set[int] = set()
        for call in CALLED.finditer(line):
            seen |= set(range(call.start(), call.end()))
            passed_on = line.find(" -- ", call.start())
            seen |= set(range(passed_on, len(line))) if passed_on >= 0 else set()
            yield from problems_of_call(call, typed=CODE.search(line[: call.start()]) is not None)
        for found in FLAG.finditer(line) if alone else ():
            if not OTHERS.search(line[: found.start()]) and found.start() not in seen and found[0] not in every_flag:
                yield f"no command has {found[0]}"


def problems_of_call(call: re.Match[str], *, typed: bool) -> Iterator[str]:
    first, _, second = call[1].partition(" ")
    if first not in VERBS:
        if typed:
            yield f"swe-aem {first}: no such command"
        return
    subcommands = commands()[first].subcommands
    if typed and subcommands and second and second not in subcommands:
        yield f"swe-aem {first} {second}: no such command"
        return
    words = f"{first} {second}" if second in subcommands else first
    for flag in FLAG.finditer(call[2]):
        if flag[0] not in commands()[words].flags and not OTHERS.search(call[2][: flag.start()]):
            yield f"swe-aem {words} has no {flag[0]}"


def prose(path: Path) -> Iterator[tuple[int, str]]:
    """Line and text of what people read in a source file: docstrings, errors, help, and what is printed."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.lineno, node.value.value
        elif isinstance(node, ast.Raise) and node.exc is not None:
            yield from texts(node.exc)
        elif isinstance(node, ast.Call) and called_name(node) in SPEAKING:
            yield from texts(node)


SPEAKING = {
    "Option",
    "Argument",
    "Typer",
    "echo",
    "tell",
    "ok",
    "warn",
    "fail",
    "print",
    "warning",
    "info",
    "UserError",
}


def called_name(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def texts(node: ast.AST) -> Iterator[tuple[int, str]]:
    """The strings of an expression; what a formatted string fills in becomes a placeholder."""
    inside = {id(part) for whole in ast.walk(node) if isinstance(whole, ast.JoinedStr) for part in ast.walk(whole)}
    for part in ast.walk(node):
        if isinstance(part, ast.JoinedStr):
            pieces = [str(piece.value) if isinstance(piece, ast.Constant) else "X" for piece in part.values]
            yield part.lineno, "".join(pieces)
        elif isinstance(part, ast.Constant) and isinstance(part.value, str) and id(part) not in inside:
            yield part.lineno, part.value


def test_sources_name_commands_and_flags_that_exist() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}: {problem}"
        for path in SOURCES
        if "inside" not in path.parts
        for line, text in prose(path)
        for problem in problems(text)
    ]
    assert not found, "\n".join(dict.fromkeys(found))


def joined(page: str) -> str:
    """A page with continued lines as one, and each line of a code block marked as typed."""
    lines, code = [], False
    for line in re.sub(r"\\\n\s*", " ", page).splitlines():
        if line.startswith("```"):
            code = not code
        lines.append(f"$ {line}" if code else line)
    return "\n".join(lines)


@pytest.mark.parametrize("path", DOCS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_docs_name_commands_and_flags_that_exist(path: Path) -> None:
    found = list(problems(joined(path.read_text(encoding="utf-8")), alone=path.parent.name != "benchmarks"))
    assert not found, "\n".join(dict.fromkeys(found))


@pytest.mark.parametrize("path", JOBS, ids=lambda path: path.name)
def test_job_files_name_commands_and_flags_that_exist(path: Path) -> None:
    text = re.sub("(?m)^# ?", "", path.read_text(encoding="utf-8"))
    assert list(problems(joined(text), alone=False)) == []


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("run `swe-aem images pull a` or `swe-aem tasks check --lock x`", None),
        ("use --sandbox docker or --rootfs DIR", "no command has --rootfs"),
        ("`swe-aem imagine`", "swe-aem imagine: no such command"),
        ("swe-aem imagines that", None),
        ("swe-aem serve DIR -- --max-num-seqs 4", None),
        ("`swe-aem images fetch x`", "swe-aem images fetch: no such command"),
        ("swe-aem images pull --pepper x", "swe-aem images pull has no --pepper"),
    ],
)
def test_the_check_sees_what_does_not_exist(text: str, problem: str | None) -> None:
    assert list(problems(text)) == ([problem] if problem else [])
