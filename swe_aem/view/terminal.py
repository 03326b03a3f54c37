"""A trajectory as lines of text for a terminal or a pager: the same story as its page.

Nothing in a line controls the terminal: escapes are dropped, and control characters are shown as pictures. Colours are
only added where they are asked for.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from swe_aem.audit import labelled
from swe_aem.core import Trajectory
from swe_aem.store import FailedAttempt
from swe_aem.table import table
from swe_aem.view.html import readable
from swe_aem.view.index import IndexedTrajectory
from swe_aem.view.story import Call, Turn, patch_files, stream_of, tested, why
from swe_aem.view.story.clip import changed, clip, plain

_CODES = {"add": "32", "del": "31", "hunk": "36", "meta": "2", "head": "1", "bad": "31", "faint": "2"}
_TESTS = 20
"""Passing tests of one kind that are named; all failing ones are, within `Look.most`."""


class Look(NamedTuple):
    """How text is written."""

    colour: bool = False
    most: int | None = 4_000
    """Characters of one text, its middle left out beyond; None for all of it."""

    def cut(self, text: str) -> str:
        """`text`, shortened and harmless."""
        return readable(plain(text if self.most is None else clip(text, self.most).text))

    def styled(self, text: str, kind: str) -> str:
        """Harmless text in a colour."""
        return f"\x1b[{_CODES[kind]}m{text}\x1b[0m" if self.colour and text and kind in _CODES else text

    def block(self, text: str, indent: int = 4) -> Iterator[str]:
        """The lines of a text, indented."""
        yield from (" " * indent + line for line in self.cut(text).rstrip("\n").split("\n"))

    def diff(self, text: str, indent: int = 4) -> Iterator[str]:
        """The lines of a diff, indented and in colour."""
        for piece in changed(text if self.most is None else clip(text, 5 * self.most).text):
            for line in readable(plain(piece.text)).rstrip("\n").split("\n"):
                yield " " * indent + self.styled(line, piece.kind)


def list_lines(rows: Sequence[IndexedTrajectory]) -> Iterator[str]:
    """A table of trajectories."""
    cells = [
        (
            readable(one.id)[:120],
            one.outcome.value,
            "-" if one.reward is None else f"{one.reward:.3g}",
            one.turns,
            one.tokens,
            "-" if one.step is None else one.step,
            readable(" ".join((one.error or ", ".join(one.labels)).split()))[:80],
        )
        for one in rows
    ]
    yield from table(cells, head=("id", "outcome", "reward", "turns", "tokens", "step", "notes"), align="<<>>>><")


def story_lines(one: Trajectory, look: Look, failures: Sequence[FailedAttempt] = ()) -> Iterator[str]:
    """The story of a trajectory: why it ended as it did, its turns, its patch, its verdict."""
    yield look.styled(look.cut(one.id), "head")
    outcome = one.outcome.value if one.outcome else "not graded"
    yield f"{outcome}: {look.cut(' '.join(clause.text for clause in why(one)))}"
    stop = one.stop.value if one.stop else "not recorded"
    turns = f"{len(one.responses)} turns, {one.tokens:,} tokens"
    yield look.cut(f"{one.agent}, {one.model}; {turns}; stopped: {stop}; attempt {one.attempt + 1}")
    seconds = ", ".join(f"{name} {value:.1f}" for name, value in one.timings_s.items())
    if seconds:
        yield look.cut(f"seconds: {seconds}")
    if one.error:
        yield from _section("What failed", look, look.block(one.error))
    for failed in failures:
        yield look.styled(look.cut(f"attempt {failed.attempt} failed in {failed.phase}: {failed.said}"), "bad")
        yield from look.block(failed.traceback)
    for name, evidence in labelled(one).labels.items():
        shown = "; ".join(f"turn {piece.turn}: {piece.text}" if piece.turn else piece.text for piece in evidence[:3])
        yield look.cut(f"label {name}: {shown}")
    for branch in (None, *range(len(one.branches))):
        for turn in stream_of(one, branch).turns:
            yield from _turn(turn, look)
    yield from _patch(one, look)
    yield from _verdict(one, look)


def _section(title: str, look: Look, lines: Iterator[str]) -> Iterator[str]:
    yield ""
    yield look.styled(title, "head")
    yield from lines


def _turn(turn: Turn, look: Look) -> Iterator[str]:
    response = turn.response
    facts = f"  {response.used.completion_tokens} tokens, {response.sample_s:.1f} s" if response else ""
    yield ""
    branch = f"branch {turn.place[1 : turn.place.index('.')]}, " if turn.place.startswith("b") else ""
    yield look.styled(f"{branch}turn {turn.number}", "head") + look.styled(facts, "faint")
    if turn.reasoning:
        yield from (look.styled(line, "faint") for line in look.block(turn.reasoning))
    if turn.text:
        yield from look.block(turn.text, 2)
    for call in turn.calls:
        yield from _call(call, look)
    for role, text in turn.answers:
        yield look.cut(f"  {role}:")
        yield from look.block(text)


def _call(call: Call, look: Look) -> Iterator[str]:
    yield "  " + look.styled(look.cut(f"> {call.name} {call.subject}".rstrip()), "head")
    if call.code:
        yield from look.block(call.code)
    if call.change:
        yield from look.diff(call.change)
    for name, text in call.arguments:
        yield look.cut(f"    {name}:")
        yield from look.block(text, 6)
    ended = [
        *(["malformed"] if call.malformed else []),
        *(["timed out"] if call.timed_out else []),
        *([f"exit code {call.exit_code}"] if call.exit_code is not None else []),
        *([f"{call.wall_s:.1f} s"] if call.wall_s is not None else []),
    ]
    bad = call.malformed or call.timed_out or bool(call.exit_code)
    yield "  " + look.styled(f"< {', '.join(ended)}", "bad" if bad else "faint")
    if call.observation:
        yield from look.block(call.observation)


def _patch(one: Trajectory, look: Look) -> Iterator[str]:
    files = patch_files(one.patch, one.verdict.stripped_files if one.verdict else ())
    if files:
        yield from _section("Patch", look, iter(()))
    for file in files:
        left_out = f"  left out by grading: {file.stripped}" if file.stripped else ""
        yield look.cut(f"  {file.path or 'not a diff of a file'}  +{file.added} -{file.removed}{left_out}")
        if file.text:
            yield from look.diff(file.text)


def _verdict(one: Trajectory, look: Look) -> Iterator[str]:
    verdict = one.verdict
    if verdict is None:
        return
    yield from _section("Verdict", look, iter(()))
    for line in (*verdict.integrity, *([verdict.cause] if verdict.cause else [])):
        yield "  " + look.styled(look.cut(f"evidence: {line}"), "bad")
    for line in verdict.odd_once:
        yield look.cut(f"  odd once: {line}")
    for group in tested(verdict):
        says = "pass" if group.passing else "do not pass"
        yield f"  {len(group.names)} {group.kind} {says}"
        most = _TESTS if group.passing else 10 * _TESTS
        shown = group.first(None if look.most is None else most)
        for name, status in shown:
            yield "    " + look.styled(look.cut(f"{status} {name}"), "faint" if group.passing else "bad")
        if len(shown) < len(group.names):
            yield f"    and {len(group.names) - len(shown)} more"
    if verdict.log_tail:
        yield "  end of the log:"
        yield from look.block(verdict.log_tail)
