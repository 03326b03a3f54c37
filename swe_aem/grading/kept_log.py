"""`KeptLog`: the log of an evaluation with everything else that its verdict was concluded from, as one small zip file.

    evaluation.json    how the evaluation ended, markers and keys of the log, what was left out of the patch
    output.log         the output: `unzip -p FILE.zip output.log`
    ...                the records that test runners signed

`read_kept_log` reaches a verdict from it by today's parser and rules, without a sandbox. A log is bounded by its
compressed size. One that is too large is cut behind its beginning, says so, and is for people only: its verdict cannot
be reached again.
"""

import hashlib
import io
import json
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from swe_aem.core import TaskRecord, Verdict
from swe_aem.core.base import Frozen
from swe_aem.core.scratch import scratch_directory
from swe_aem.errors import GraderError
from swe_aem.grading.conclusion import EvaluationEnd, conclude
from swe_aem.grading.log_file import LogFile
from swe_aem.grading.markers import marked_lines
from swe_aem.grading.parser import SwebenchParser

FORMAT = 1
_HEADER = "evaluation.json"
_BLOCK_BYTES = 64 << 10
_TAIL_BYTES = 64 << 10
"""So much of the end of a log that is cut is kept beyond the bound."""


class KeptLog(Frozen):
    """Content of `evaluation.json`."""

    format: int = FORMAT
    task_id: str
    ran: str
    """Digest of what was run: `ran_digest`."""
    command: str
    """The test command, for a person."""
    log: dict[str, Any] | None
    """The `LogFile`, each path as `{"file": NAME}`; None where the output was too long to be read."""
    end: EvaluationEnd
    evidence: tuple[str, ...] | None
    """Evidence of cheating that was concluded then; None where the reading of the log failed."""
    left_out_bytes: int = 0
    """Bytes of the log and its records that were over the bound."""


class NotReadable(GraderError):
    """A kept log from which no verdict can be reached; says why in one clause."""


def ran_digest(record: TaskRecord) -> str:
    """Short hash of what an evaluation of a task runs: the repository, its tests, their script and files. The parser
    and the tests that have to pass are no part of it: they say how its log is read."""
    key = record.key
    files = {path: hashlib.sha256(content).hexdigest() for path, content in key.files.items()}
    content = (record.task.id, record.task.base_commit, key.test_patch, key.eval_script, sorted(files.items()))
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def pack_log(
    record: TaskRecord,
    script: str,
    log: LogFile | None,
    end: EvaluationEnd,
    evidence: tuple[str, ...] | None,
    max_bytes: int,
) -> bytes:
    """A zip file of a log that takes at most about `max_bytes`, its end not counted. Blocking: seconds for 64 MiB.

    `script` is the evaluation script with swebench's markers. Raises `OSError` if the log cannot be read.
    """
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        left_out = 0
        paths: list[Path] = []
        fields = _mapped(log.model_dump(), lambda path: paths.append(path) or {"file": path.name}) if log else None
        for path in sorted(paths, key=lambda path: log is not None and path == log.path):  # the output comes last
            left_out += _add(archive, packed, path, max_bytes)
        header = KeptLog(
            task_id=record.task.id,
            ran=ran_digest(record),
            command="\n".join(marked_lines(script)[:-1]).strip(),
            log=fields,
            end=end,
            evidence=evidence,
            left_out_bytes=left_out,
        )
        archive.writestr(zipfile.ZipInfo(_HEADER), header.model_dump_json(indent=2), zipfile.ZIP_DEFLATED)
    return packed.getvalue()


def with_end(packed: bytes, end: EvaluationEnd, evidence: tuple[str, ...]) -> bytes:
    """A kept log with what was found out about its evaluation afterwards. Blocking, as `pack_log`."""
    changed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(packed)) as before, zipfile.ZipFile(changed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in before.namelist():
            content = before.read(name)
            if name == _HEADER:
                header = KeptLog.model_validate_json(content)
                header = header.model_copy(update={"end": end, "evidence": evidence})
                content = header.model_dump_json(indent=2).encode()
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return changed.getvalue()


async def read_kept_log(path: Path, record: TaskRecord, parser: SwebenchParser, before: Verdict | None) -> Verdict:
    """The verdict that today's parser and rules reach from a kept log.

    Evidence of `before`, the verdict so far, that was not concluded from what is kept here stays. Raises `NotReadable`
    if the log cannot say, and what `SwebenchParser.read` raises.
    """
    with scratch_directory("log") as directory:
        kept, log = _unpack(path, directory)
        if kept.left_out_bytes:
            raise NotReadable(f"its log was cut: {kept.left_out_bytes} bytes are left out")
        if kept.ran != ran_digest(record):
            raise NotReadable("the task's tests or their script are others now")
        reading = None
        if log is not None:
            reading = await parser.read(record.key, log, with_results=not kept.end.timed_out)
        verdict = conclude(record.key, kept.end, reading)
    if before is None:
        return verdict
    known = {*(kept.evidence or ()), *verdict.integrity}
    elsewhere = tuple(line for line in before.integrity if line not in known)
    measured = {name: getattr(before, name) for name in _MEASURED}
    integrity = (*verdict.integrity, *elsewhere)
    cause = before.cause if before.twin_s else verdict.cause  # of evaluations after the one that is kept here
    resolved = verdict.resolved and not integrity and not cause
    return verdict.model_copy(update={**measured, "integrity": integrity, "cause": cause, "resolved": resolved})


_MEASURED = ("wall_s", "twinned", "twin_s")
"""What a verdict has beside what the log of its evaluation says: it stays as it was measured."""


def _unpack(path: Path, directory: Path) -> tuple[KeptLog, LogFile | None]:
    """Content of a kept log, its files in `directory`."""
    try:
        with zipfile.ZipFile(path) as archive:
            kept = KeptLog.model_validate_json(archive.read(_HEADER))
            names = [name for name in archive.namelist() if name != _HEADER and "/" not in name]
            for name in names:
                archive.extract(name, directory)
    except FileNotFoundError:
        raise NotReadable("it has no kept log") from None
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile, KeyError, ValidationError) as error:
        why = str(error) or "it ends too early"
        raise NotReadable(f"{path.name} cannot be read: {why.splitlines()[0]}") from None
    if kept.format != FORMAT:
        raise NotReadable(f"its log has format {kept.format}, and this swe-aem reads {FORMAT}")
    if kept.log is None:
        return kept, None
    try:
        return kept, LogFile.model_validate(_with_paths(kept.log, directory))
    except ValidationError:
        raise NotReadable("its log was kept by another version of swe-aem") from None


def _add(archive: zipfile.ZipFile, packed: io.BytesIO, path: Path, max_bytes: int) -> int:
    """Add a file until the archive has `max_bytes`; returns how much of it was left out, its end not counted."""
    size = path.stat().st_size
    with path.open("rb") as file, archive.open(path.name, "w") as member:
        while block := file.read(_BLOCK_BYTES):
            if packed.tell() >= max_bytes:
                at = file.tell() - len(block)
                end = max(at, size - _TAIL_BYTES)
                file.seek(end)
                member.write(f"\n[... {end - at} bytes of {size} were left out here ...]\n".encode())
                member.write(file.read(_TAIL_BYTES))
                return end - at
            member.write(block)
    return 0


def _mapped(value: Any, of_path: Callable[[Path], Any]) -> Any:
    """Plain data with each path in it replaced."""
    if isinstance(value, Path):
        return of_path(value)
    if isinstance(value, dict):
        return {key: _mapped(one, of_path) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_mapped(one, of_path) for one in value]
    return value


def _with_paths(value: Any, directory: Path) -> Any:
    """Plain data with each `{"file": NAME}` in it as a path in `directory`."""
    if isinstance(value, dict):
        if set(value) == {"file"}:
            return directory / Path(value["file"]).name
        return {key: _with_paths(one, directory) for key, one in value.items()}
    return [_with_paths(one, directory) for one in value] if isinstance(value, list) else value
