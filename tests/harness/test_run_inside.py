"""`Conversation.run_inside`: a program's input and environment, and what is said where it fails or cannot be run."""

import base64
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from swe_aem.harness.spec import INSIDE

sys.path.append(str(INSIDE))
from swe_aem_worker import AGENT_HOME, Conversation, Sandbox  # pyright: ignore[reportMissingImports]

FIX = "the program does not run in this image"


@pytest.fixture
def conversation(tmp_path: Path) -> Conversation:
    """One whose sandbox is a directory of this host."""

    def ask(method: str, arguments: dict[str, Any]) -> Any:
        here = {AGENT_HOME: str(tmp_path)}
        if method == "write_file":
            path = Path(arguments["path"].replace(*next(iter(here.items()))))
            return path.write_bytes(base64.b64decode(arguments["data"]))
        assert method == "run"
        command = arguments["command"].replace(*next(iter(here.items())))
        done = subprocess.run(["/bin/bash", "-c", command], env=arguments["env"], capture_output=True, check=False)
        output = done.stdout + done.stderr
        return {
            "exit_code": done.returncode,
            "output": base64.b64encode(output).decode(),
            "output_bytes": len(output),
            "output_path": "",
            "timed_out": False,
        }

    known = {"id": "c1", "statement": "It fails.", "workdir": "/repo", "base_commit": "c", "model": "m", "options": {}}
    limits = {"max_turns": 1, "max_context_tokens": 1, "max_response_tokens": 1}
    places = {"base_url": "http://127.0.0.1:8377/v1", "forward": "/usr/bin/env", "packages": "/packages"}
    return Conversation(**known, **limits, **places, sandbox=Sandbox(ask))


@pytest.fixture
def compiled(tmp_path: Path) -> Callable[..., Path]:
    """`compiled(*options)`: a program that prints its input, made by gcc."""

    def make(*options: str) -> Path:
        source, program = tmp_path / "x.c", tmp_path / "x"
        source.write_text("#include <stdio.h>\nint main(void) { int c; while ((c = getchar()) >= 0) putchar(c); }\n")
        subprocess.run(["gcc", str(source), "-o", str(program), *options], check=True)
        return program

    return make


def test_a_program_gets_its_input_and_environment(conversation: Conversation) -> None:
    said = "two lines\nand 'quotes' $HOME\n"
    done = conversation.run_inside(
        "/bin/sh", "-c", 'cat; echo "$NAME $1"', "x", "an argument", env={"NAME": "n"}, said=said
    )
    assert done.text == f"{said}n an argument\n"
    assert conversation.instruction.startswith("Fix this issue in /repo.")


def test_a_program_that_fails_has_its_last_words_said(conversation: Conversation) -> None:
    with pytest.raises(RuntimeError, match=r"/bin/sh ended with exit code 3: first\nno key$") as failed:
        conversation.run_inside("/bin/sh", "-c", "echo first; echo no key >&2; exit 3", env={}, said="")
    assert FIX not in str(failed.value)


def test_a_program_for_another_c_library_says_what_to_do(
    conversation: Conversation, compiled: Callable[..., Path]
) -> None:
    program = compiled("-Wl,--dynamic-linker=/lib/ld-musl-other.so.1")
    with pytest.raises(RuntimeError, match=FIX):
        conversation.run_inside(str(program), env={}, said="")


def test_a_program_for_a_newer_c_library_says_what_to_do(
    conversation: Conversation, compiled: Callable[..., Path]
) -> None:
    program = compiled()
    assert conversation.run_inside(str(program), env={}, said="x").text == "x"
    whole = program.read_bytes()
    assert b"GLIBC_2.34\0" in whole
    program.write_bytes(whole.replace(b"GLIBC_2.34\0", b"GLIBC_9.34\0"))
    with pytest.raises(RuntimeError, match=rf"GLIBC_9\.34. not found(.|\n)*{FIX}(.|\n)*harness\.pins"):
        conversation.run_inside(str(program), env={}, said="")
