"""Git scripts that the host runs in a sandbox: one `sandbox.run` each, answered in one marked line."""

import secrets
import shlex
from dataclasses import dataclass
from functools import cache
from importlib import resources

from swe_aem.core import ExecResult, Sandbox
from swe_aem.errors import GraderError


@cache
def script_text(name: str) -> str:
    """A script of this package, by file name."""
    return resources.files("swe_aem.grading").joinpath("scripts", name).read_text(encoding="utf-8")


async def put_file(sandbox: Sandbox, path: str, content: bytes) -> None:
    """Write a file that grading needs; raises `GraderError` if the sandbox cannot take it, and `SandboxDead`."""
    try:
        await sandbox.write_file(path, content)
    except OSError as error:
        raise GraderError(f"the sandbox cannot take {path}: {error.strerror or error}") from error


def private_path(sandbox: Sandbox, suffix: str = "") -> str:
    """A path in the sandbox's private directory that nothing has yet."""
    return f"{sandbox.private_dir}/{secrets.token_hex(16)}{suffix}"


@dataclass(frozen=True)
class ScriptResult:
    """What a script did: its `ExecResult`, and the words behind the token on its last marked line, if it has one."""

    result: ExecResult
    words: tuple[str, ...]


async def run_git_script(
    sandbox: Sandbox, name: str, *, workdir: str, timeout_s: float, max_output_bytes: int = 20_000, **inputs: str | int
) -> ScriptResult:
    """Run `scripts/<name>` behind `git_env.sh` with `inputs` as shell variables; raises `SandboxDead`."""
    token = f"swe-aem-{secrets.token_hex(16)}"
    variables = {"TOKEN": token, "WORKDIR": workdir, "PRIVATE": private_path(sandbox), **inputs}
    assignments = "\n".join(f"{key}={shlex.quote(str(value))}" for key, value in variables.items())
    command = f"{assignments}\n{script_text('git_env.sh')}\n{script_text(name)}"
    result = await sandbox.run(command, timeout_s=timeout_s, cwd="/", max_output_bytes=max_output_bytes)
    words: tuple[str, ...] = ()
    for line in result.output.splitlines():
        if line.startswith(token + " "):
            words = tuple(line.split()[1:])
    return ScriptResult(result, words)
