"""Findings as commands print them: a table, or one JSON object per line."""

import json
from collections.abc import Iterator, Sequence

from swe_aem.core.finding import Finding, Level
from swe_aem.table import table

_MARKS = {Level.OK: "ok", Level.WARN: "WARN", Level.FAIL: "FAIL"}


def finding_lines(findings: Sequence[Finding], *, as_json: bool) -> Iterator[str]:
    """The lines of a report: level, check and what was found, and the fix below what is not ok."""
    if as_json:
        for finding in findings:
            yield json.dumps(finding.model_dump(mode="json"))
        return
    rows = []
    for finding in findings:
        rows.append((_MARKS[finding.level], finding.check, finding.found))
        if finding.fix:
            rows.append(("", "", f"-> {finding.fix}"))
    yield from table(rows)


def verdict(findings: Sequence[Finding]) -> str:
    """`ready`, or how many failed; and how many warnings there are."""
    failed = sum(finding.level is Level.FAIL for finding in findings)
    warned = sum(finding.level is Level.WARN for finding in findings)
    return (f"{failed} to fix" if failed else "ready") + (f", {warned} warnings" if warned else "")


def exit_code(findings: Sequence[Finding]) -> int:
    """1 if anything failed, else 0."""
    return int(any(finding.level is Level.FAIL for finding in findings))
