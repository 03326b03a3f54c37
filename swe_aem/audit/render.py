"""Audits as plain text."""

from collections.abc import Iterator, Sequence

from swe_aem.audit.counts import AuditReport, Labelled, StepRange
from swe_aem.audit.labels import LABELS
from swe_aem.table import table


def report_lines(report: AuditReport, *, other: AuditReport | None = None) -> Iterator[str]:
    """A store's labels, beside those of a second store if there is one."""
    yield f"{report.directory}: {_sentence(report)}"
    if other is not None:
        yield f"{other.directory}: {_sentence(other)}"
    rows = []
    for row in report.labels:
        beside = other.share(row.label) if other else 0.0
        if not row.trajectories and not beside:
            continue
        cells = [row.label, row.trajectories, f"{row.share:.1%}"]
        if other is not None:
            cells += [f"{beside:.1%}", f"{100 * (beside - row.share):+.1f}"]
        rows.append((*cells, _percent(row.resolved_with), _percent(row.resolved_without)))
    if not rows:
        yield "  no trajectory has a label"
        return
    second = ("in STORE2", "change") if other is not None else ()
    head = ("label", "trajectories", "share", *second, "resolved with", "without")
    yield from table(rows, head=head, align="<>", indent=2)


def step_lines(columns: Sequence[StepRange]) -> Iterator[str]:
    """Shares over training steps, and their change from the first column to the last; none without steps."""
    if not columns:
        return
    heads = [f"{one.first}" if one.first == one.last else f"{one.first}-{one.last}" for one in columns]
    rows: list[tuple[str, ...]] = [
        ("trajectories", *(str(one.trajectories) for one in columns), ""),
        ("resolved", *(_percent(one.resolved) for one in columns), _change(columns[0].resolved, columns[-1].resolved)),
    ]
    for label in LABELS:
        shares = [one.shares[label.name] for one in columns]
        if any(shares):
            rows.append((label.name, *map(_percent, shares), _change(shares[0], shares[-1])))
    yield "share by training step"
    yield from table(rows, head=("step", *heads, "change"), align="<>", indent=2)


def evidence_lines(one: Labelled, label: str) -> Iterator[str]:
    """One trajectory's evidence for a label."""
    reward = "no reward" if one.reward is None else f"reward {one.reward:g}"
    step = f", step {one.step}" if one.step is not None else ""
    yield f"{one.task_id}.{one.sample}: {one.outcome}, {reward}{step}"
    for evidence in one.labels[label]:
        where = evidence.place if evidence.turn is None else f"turn {evidence.turn}"
        if evidence.turn is not None and evidence.place != "call":
            where = f"{where}, {evidence.place}"
        yield f"  {where}: {evidence.text}"


def _sentence(report: AuditReport) -> str:
    rate = report.resolved / report.counted if report.counted else None
    left_out = report.trajectories - report.counted
    without = f"; {left_out} without a verdict are in no rate" if left_out else ""
    return (
        f"{report.trajectories} trajectories, {report.resolved} of {report.counted} resolved ({_percent(rate).strip()})"
        f"{without}; {report.unlabelled} with no label"
    )


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"


def _change(first: float | None, last: float | None) -> str:
    return "-" if first is None or last is None else f"{100 * (last - first):+.1f}"
