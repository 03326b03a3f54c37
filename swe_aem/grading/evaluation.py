"""Runs an evaluation script between markers that cannot be guessed, and copies its log to this host.

The script stands in a file only until its shell has read it. While tests run, its markers are in that shell's memory
and nowhere else: the one that ends the test output appears in the log when the tests are over, so they cannot print it.
Before it appears everything that the tests left running is killed, and after it no program is run, only builtins of the
shell: nothing that the code under evaluation wrote can read a marker that counts.
"""

import secrets
import shlex
from dataclasses import dataclass
from pathlib import Path

from swe_aem.core import BASE_ENV, WALL_PER_LIMIT, Deadline, ExecResult, Sandbox
from swe_aem.errors import GraderError, HostFailed, Starved
from swe_aem.grading.log_file import LOG_TAIL_CHARS, LogFile
from swe_aem.grading.markers import CODE_MARKER, END_MARKER, START_MARKER, is_marker, marker_problem
from swe_aem.grading.shell import private_path, put_file
from swe_aem.grading.witness import MAX_RECORD_BYTES, Witness, join_records

GRADING_ENV = {
    "PIP_NO_BUILD_ISOLATION": "0",  # pip reads it inverted: this switches isolation off, for there is no network
    "PIP_NO_INDEX": "1",
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
}
"""What `pip install -e .` needs to work without a network. Nothing else is set: tests may look at their environment."""

AGENT_ENV = (*sorted(BASE_ENV.keys() - {"LANG", "PYTHONUNBUFFERED"}), "BASH_ENV")
"""Variables that sandboxes set for agents; unset here, because test suites may look at colours or pagers."""

MAX_LOG_BYTES = 64 << 20
"""Logs above this size are not read: the tests that a task names print kilobytes."""
_PART_BYTES = 1 << 20
_MAX_RECORDS = 10_000

_RUNNER = """IFS= read -r -d '' evaluation <"$1"; rm -f -- "$1"; printf '%s\\n' "$2"; eval "$evaluation" """


@dataclass(frozen=True)
class InstrumentedScript:
    """An evaluation script with random markers in place of swebench's."""

    text: str
    begin: str
    start: str
    end: str
    code: str
    idle: str
    """Printed after the tests if no session has taken the witness's key."""
    witness: Witness | None


@dataclass(frozen=True)
class Evaluation:
    """The result of running an evaluation script."""

    result: ExecResult
    log: LogFile | None
    """The output; None if it is too long to be read."""


def instrument(script: str, private_dir: str, settle_command: str, *, with_witness: bool = True) -> InstrumentedScript:
    """Replace swebench's markers in a script of `make_test_spec` by unguessable ones; raises `GraderError`.

    `private_dir` is a directory of the sandbox for files that are neither the task's nor the patch's. `settle_command`
    is the sandbox's own, and ends what the tests left running. `with_witness`
    puts the witness into the sessions of pytest and unittest that the test command starts.

    What the script does after the tests is left out, but for the line with their exit code: it tidies up a sandbox that
    is not used again, and programs that it runs (`git`, with the hooks of the repository) could be the patch's.
    """
    problem = marker_problem(script)
    if problem is not None:
        raise GraderError(problem)
    begin, start, end, code, idle = (f"swe-aem-{secrets.token_hex(16)}" for _ in range(5))
    witness = Witness.in_directory(private_dir) if with_witness else None
    lines: list[str] = []
    started = False
    for line in script.split("\n"):
        if is_marker(line, START_MARKER):
            lines += witness.setup() if witness else []
            line = line.replace(START_MARKER, start)
            started = True
        elif is_marker(line, END_MARKER):
            # the trace that `set -x` prints of it stays out of the log
            lines += [f"{{ {settle_command}; }} 2>/dev/null", line.replace(END_MARKER, end)]
            break
        elif started and witness:
            line = witness.command(line)
        lines.append(line)
    lines += [
        line.replace(CODE_MARKER, code) for line in _after_end(script) if line.startswith(f'echo "{CODE_MARKER}: ')
    ]
    lines += witness.was_idle(idle) if witness else []
    return InstrumentedScript("\n".join(lines), begin, start, end, code, idle, witness)


async def evaluate(
    sandbox: Sandbox,
    script: str,
    workdir: str,
    limit_s: float,
    deadline: Deadline,
    directory: Path,
    *,
    with_witness: bool = True,
) -> Evaluation:
    """Run a script of `make_test_spec` for at most `limit_s` seconds, those in which it is starved not counted, and
    copy its log, and the records of the witness, into `directory`.

    The sandbox has run a command before: a shell that does not begin now is the doing of the code under evaluation.
    Raises `GraderError` if `deadline` cut it short before the limit, `Starved` if it did not reach the limit in ten
    times its wall time, `HostFailed` if this host has no space for the log, `SandboxDead`.
    """
    prepared = instrument(script, sandbox.private_dir, sandbox.settle_command, with_witness=with_witness)
    path = private_path(sandbox)
    await put_file(sandbox, path, prepared.text.encode("utf-8", "surrogateescape"))
    left_s = deadline.remaining_s()
    timeout_s, wall_s = min(limit_s, left_s), min(WALL_PER_LIMIT * limit_s, left_s)
    command = f"unset {' '.join(AGENT_ENV)}; exec bash -c {shlex.quote(_RUNNER)} bash {path} {prepared.begin}"
    result = await sandbox.run(
        command,
        timeout_s=timeout_s,
        wall_s=wall_s,
        cwd=workdir,
        env=GRADING_ENV,
        max_output_bytes=2 * LOG_TAIL_CHARS,
    )
    if not result.started:
        raise GraderError(f"the sandbox cannot run the evaluation: {result.output.strip()}")
    if result.killed_for == "starved":
        raise Starved(
            f"the evaluation was starved of processors: {result.wall_s - result.starved_s:.0f} s of its limit of "
            f"{limit_s:.0f} s in {result.wall_s:.0f} s; run fewer at once (scheduling.grading) or free the host"
        )
    if result.timed_out and timeout_s < limit_s:
        raise GraderError(f"the deadline ended the evaluation after {timeout_s:.0f} s of {limit_s:.0f} s")
    return Evaluation(result, await _copy_log(sandbox, prepared, result.output_bytes, directory))


async def _copy_log(sandbox: Sandbox, script: InstrumentedScript, output_bytes: int, directory: Path) -> LogFile | None:
    """The output of the last command and the records of its sessions, copied into `directory`.

    Of an output that is too long to be read only both ends are, and only where there are records, which decide.
    """
    records = await _records(sandbox, script.witness) if script.witness is not None else b""
    half = MAX_LOG_BYTES // 2
    parts = [(0, MAX_LOG_BYTES)]
    if output_bytes > MAX_LOG_BYTES:
        if not records:
            return None
        parts = [(0, half), (output_bytes - half, output_bytes)]
    log, record = directory / "output.log", directory / "record"
    try:
        with log.open("wb") as file:
            for at, end in parts:
                while part := await _output_part(sandbox, at, end):
                    file.write(part)
                    at += len(part)
        if script.witness is not None:
            record.write_bytes(records)
    except OSError as error:
        raise HostFailed(f"the log of an evaluation cannot be kept in {directory}: {error.strerror}") from error
    key = script.witness.key if script.witness else None
    return LogFile(
        path=log, begin=script.begin, start=script.start, end=script.end, code=script.code, idle=script.idle,
        record=record if key else None, record_key=key,
    )  # fmt: skip


async def _output_part(sandbox: Sandbox, offset: int, end: int) -> bytes:
    try:
        return await sandbox.read_output(offset=offset, max_bytes=min(_PART_BYTES, end - offset))
    except OSError:  # what is there so far is read: it has no end marker
        return b""


async def _records(sandbox: Sandbox, witness: Witness) -> bytes:
    """What the witness of each session wrote, joined; empty if there is nothing that can be read."""
    try:
        names = sorted((await sandbox.list_tree(witness.records, max_entries=_MAX_RECORDS)).entries)
        files = await sandbox.read_tree(
            witness.records, names, max_bytes=MAX_RECORD_BYTES, max_total_bytes=MAX_RECORD_BYTES
        )
    except OSError:
        return b""
    return join_records(files)


def _after_end(script: str) -> list[str]:
    lines = script.split("\n")
    return lines[next(n for n, line in enumerate(lines) if is_marker(line, END_MARKER)) + 1 :]
