"""Two trajectories side by side: the turns that they share, then each one's own, their patches and their tests."""

from typing import Any, NamedTuple

from swe_aem.core import TestStatus, Trajectory
from swe_aem.grading import PASSING
from swe_aem.view.pages.trajectory import CALLS, FILE, FILES, LINES, PAGE_BYTES, turn_values
from swe_aem.view.site import Asked, Crumb, NotThere, Shown, Site
from swe_aem.view.stored import key_of, load
from swe_aem.view.story import Budget, Turn, patch_files, stream_of, why
from swe_aem.view.story.clip import changed

TURNS = 20
"""Turns of each side that are shown after they part."""


class Side(NamedTuple):
    """One of the two."""

    prefix: str
    """What names on the page begin with."""
    values: dict[str, str]
    """Its run, task and sample."""
    one: Trajectory
    turns: tuple[Turn, ...]


def show(site: Site, asked: Asked) -> Shown:
    """The two trajectories that the query's `a` and `b` name, each `RUN/TASK/SAMPLE`."""
    sides = [_side(site, asked.query.get(name, ""), name) for name in ("a", "b")]
    budget = Budget(PAGE_BYTES)
    a, b = (side.turns for side in sides)
    same = next((n for n, (x, y) in enumerate(zip(a, b, strict=False)) if _said(x) != _said(y)), min(len(a), len(b)))

    def text_link(place: str) -> str:
        side = sides[0] if place.startswith("a-") else sides[1]
        return asked.link("text", query={"place": place[2:]}, **side.values)

    rows = range(same, min(same + TURNS, max(len(a), len(b))))
    return Shown(
        template="compare.html.jinja",
        title=f"{sides[0].one.id} and {sides[1].one.id}",
        crumbs=tuple(Crumb(side.values["run"], asked.link("trajectories", run=side.values["run"])) for side in sides),
        values={
            "text_link": text_link,
            "sides": [
                {
                    "id": side.one.id,
                    "href": asked.link("trajectory", query={}, **side.values),
                    "one": side.one,
                    "why": " ".join(clause.text for clause in why(side.one)),
                    "turns": len(side.turns),
                    "patch": _patch(budget, side.one),
                }
                for side in sides
            ],
            "same": same,
            "shared": [turn_values(budget, _named(turn, "a-")) for turn in a[max(0, same - 3) : same]],
            "rows": [[_at(budget, side, n) for side in sides] for n in rows],
            "more": max(0, max(len(a), len(b)) - same - TURNS),
            "tests": _tests(sides[0].one, sides[1].one),
        },
    )


def _side(site: Site, named: str, name: str) -> Side:
    run_name, _, rest = named.partition("/")
    task, _, sample = rest.rpartition("/")
    if not task:
        raise NotThere(f"?{name}= names a trajectory as RUN/TASK/SAMPLE, for example ?{name}=gold/task-1/0")
    one = load(site, site.run(run_name), key_of(task, sample))
    return Side(f"{name}-", {"run": run_name, "task": task, "sample": sample}, one, stream_of(one).turns)


def _said(turn: Turn) -> tuple[object, ...]:
    """What a policy did in a turn; what came back may differ in times and addresses."""
    calls = tuple((call.name, call.subject, call.code, call.change, call.arguments) for call in turn.calls)
    return turn.reasoning.strip(), turn.text.strip(), calls


def _named(turn: Turn, prefix: str) -> Turn:
    """The turn with names that are its own on a page with two trajectories."""
    calls = tuple(call._replace(place=prefix + call.place) for call in turn.calls[:CALLS])
    return turn._replace(place=prefix + turn.place, calls=calls)


def _at(budget: Budget, side: Side, index: int) -> dict[str, Any] | None:
    return turn_values(budget, _named(side.turns[index], side.prefix)) if index < len(side.turns) else None


def _patch(budget: Budget, one: Trajectory) -> list[dict[str, Any]]:
    files = patch_files(one.patch, one.verdict.stripped_files if one.verdict else ())[:FILES]
    return [{"file": file, "text": budget.clip(file.text, FILE // 2, changed)} for file in files]


def _tests(a: Trajectory, b: Trajectory) -> list[tuple[str, TestStatus, TestStatus, bool, bool]]:
    """(test, status in a, in b, passes in a, in b) of tests that do not end alike, the first ones of many."""
    if a.verdict is None or b.verdict is None:
        return []
    first = {**a.verdict.pass_to_pass, **a.verdict.fail_to_pass}
    second = {**b.verdict.pass_to_pass, **b.verdict.fail_to_pass}
    return [
        (name[:400], status, other, status in PASSING, other in PASSING)
        for name, status in first.items()
        if (other := second.get(name)) is not None and other != status
    ][: 2 * LINES]
