"""One trajectory: why it ended as it did, its turns, its patch, its verdict, and where its time went."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from swe_aem.audit import BY_NAME, Evidence, labelled
from swe_aem.core import OUTCOME_TABLE, Response, Trajectory, TrajectoryKey
from swe_aem.errors import UserError
from swe_aem.store import FailedAttempt, failures_of, log_path
from swe_aem.view.credit import Credit, credit_of
from swe_aem.view.found import Run
from swe_aem.view.index import IndexedTrajectory
from swe_aem.view.listed import listed
from swe_aem.view.site import Asked, Shown, Site
from swe_aem.view.stored import beside, branch_asked, crumbs, group_of, key_of, load, load_excerpt, store_of
from swe_aem.view.story import Budget, Clipped, TestGroup, Turn, patch_files, stream_of, tested, why
from swe_aem.view.story.clip import changed
from swe_aem.view.story.places import branch_of, place_of_response, turn_of

PAGE_BYTES = 1_000_000
"""Text of trajectories that a page holds."""
TURNS = 50
"""Turns on one page."""
CALLS = 40
"""Calls of one turn that are shown."""
TEXT = 6_000
"""Characters of one text."""
OBSERVATION = 4_000
FILE = 30_000
"""Characters of the diff of one file."""
FILES = 100
TESTS = {False: 200, True: 100}
"""Tests of one group, failing and passing, that are shown."""
LINES = 50
"""Lines of evidence."""
MEMBERS = 128
"""Members of a group that are shown."""
BRANCHES, BRANCH_TURNS = 20, 5
"""Branches whose turns are on the page, and how many of them."""
AUDITED_CALLS = 500
AUDITED = 500_000
"""Characters of a trajectory that is audited for its page; a larger one is audited when that is asked for."""
CREDIT = "advantages"
"""Name in a query that asks for α and advantage of each turn."""
PHASES = ("prepare", "queue", "start", "sampling", "tools", "agent", "patch", "grade_queue", "grade")


class ShownText(NamedTuple):
    """A text and its name within the trajectory, by which the whole of it can be had."""

    name: str
    clipped: Clipped
    place: str


class Bar(NamedTuple):
    """A phase in a bar of 1,000 units."""

    phase: str
    seconds: float
    start: float
    width: float


def show(site: Site, asked: Asked) -> Shown:
    """The page of a trajectory."""
    run = site.run(asked.values["run"])
    key = key_of(asked.values["task"], asked.values["sample"])
    found = load_excerpt(site, run, key, _page_from(asked.query.get("from", "")))
    one = found.trajectory
    wanted = listed(asked.query)
    around = beside(site, run, key, wanted)
    budget = Budget(PAGE_BYTES)
    labels = None
    if asked.query.get("audit"):
        labels = _labels(one if found.is_whole else load(site, run, key), asked)
    elif found.is_whole and _is_small(one):
        labels = _labels(one, asked)
    values: dict[str, Any] = {
        "one": one,
        "why": [(clause.text, _href(asked, clause.place)) for clause in why(one)],
        "facts": list(_facts(one)),
        "terms": list(one.reward_terms.items())[:LINES],
        "step": next((member.step for member in around.group if member.key == key), None),
        "members": [_member(asked, member, key) for member in around.group[:MEMBERS]],
        "previous": _link(asked, around.previous, wanted.at(1)),
        "next": _link(asked, around.next, wanted.at(1)),
        "also": [("tokens", asked.link("tokens", query={}, **asked.values), "t"), *_compared(asked, one, around.group)],
        "evidence": _evidence(one),
        "labels": list(labels or ()),
        "not_audited": "" if labels is not None else asked.link("trajectory", query={"audit": "1"}, **asked.values),
        "error": ShownText("", budget.clip(one.error, TEXT), "error") if one.error else None,
        "failures": _failures(store_of(run), key),
        "bars": list(_bars(one, found.tools_s)),
        "of_training": run.part_of is not None,
        "text_link": lambda place: asked.link("text", query={"place": place}, **asked.values),
        **_verdict(budget, one),
        **_patch(budget, one),
        **_turns(budget, asked, one, *_credit(site, asked, run, one)),
        "log_link": asked.link("log", query={}, **asked.values) if log_path(store_of(run), key).is_file() else "",
    }
    return Shown(template="trajectory.html.jinja", title=str(key), values=values, crumbs=crumbs(site, asked, run))


def _link(asked: Asked, key: TrajectoryKey | None, query: Mapping[str, str] | None = None) -> str:
    """The page of another trajectory of the run; empty for none."""
    if key is None:
        return ""
    return asked.link("trajectory", query=query, run=asked.values["run"], task=key.task_id, sample=str(key.sample))


def _member(asked: Asked, member: IndexedTrajectory, key: TrajectoryKey) -> dict[str, Any]:
    """A member of the group as the template takes it."""
    return {
        "sample": member.sample,
        "outcome": member.outcome,
        "reward": member.reward,
        "here": member.key == key,
        "href": _link(asked, member.key),
    }


def _compared(asked: Asked, one: Trajectory, group: Sequence[IndexedTrajectory]) -> Iterator[tuple[str, str, str]]:
    """A link to compare it with the best of its group, or with the worst if it is one of the best itself; where their
    rewards tell no difference, with the one after it."""
    others = [member for member in group if member.key != one.key]
    rated = [member for member in others if member.reward is not None]
    if not others:
        return
    if len({member.reward for member in rated} | {one.reward} - {None}) > 1:
        best, worst = (pick(rated, key=lambda member: member.reward or 0.0) for pick in (max, min))
        is_best = one.reward is not None and one.reward >= (best.reward or 0.0)
        other, what = (worst, "the worst") if is_best else (best, "the best")
    else:
        other, what = next((member for member in others if member.sample > one.sample), others[0]), "another"
    pair = {"a": one.key, "b": other.key}
    run = asked.values["run"]
    query = {name: f"{run}/{key.task_id}/{key.sample}" for name, key in pair.items()}
    yield f"compare with {what} of its group", asked.link("compare", query=query), "c"


def _is_small(one: Trajectory) -> bool:
    """Is it audited in no time?"""
    calls = [call for response in one.all_responses for call in response.tool_calls]
    texts = sum(len(call.observation) + sum(len(str(value)) for value in call.arguments.values()) for call in calls)
    return len(calls) < AUDITED_CALLS and texts + len(one.patch) < AUDITED


def _failures(store: Path, key: TrajectoryKey) -> list[FailedAttempt]:
    """The failed attempts of a trajectory, the last ones of many."""
    return failures_of(store, key)[-LINES:]


def _verdict(budget: Budget, one: Trajectory) -> dict[str, Any]:
    """The tests and the end of the log, as the template takes them."""
    if one.verdict is None:
        return {"tests": [], "log_tail": None}
    return {
        "tests": [_tests(group, one.verdict.twinned) for group in tested(one.verdict)],
        "log_tail": ShownText("", budget.clip(one.verdict.log_tail, TEXT), "log-tail"),
    }


def _patch(budget: Budget, one: Trajectory) -> dict[str, Any]:
    """The patch, as the template takes it."""
    files = patch_files(one.patch, one.verdict.stripped_files if one.verdict else ())
    shown = [{"file": file, "text": budget.clip(file.text, FILE, changed)} for file in files[:FILES]]
    return {"patch": shown, "more_files": max(0, len(files) - FILES)}


def _credit(site: Site, asked: Asked, run: Run, one: Trajectory) -> tuple[Credit | None, list[str]]:
    """What training made of each turn, and what to say of it. It takes torch and the whole group, so it is made where
    it is asked for, and in an export."""
    if run.part_of is None or asked.query.get("stream") or not (asked.query.get(CREDIT) or asked.links.exported):
        return None, []
    try:
        credit = credit_of(run, group_of(site, run, one), one.key)
    except UserError as error:
        return None, [str(error)]
    return credit, list(credit.notes)


def _turns(
    budget: Budget, asked: Asked, one: Trajectory, credit: Credit | None, credit_notes: list[str]
) -> dict[str, Any]:
    """One page of the turns of the trajectory, or of the branch that is asked for, as the template takes them."""
    branch = branch_asked(one, asked.query.get("stream", ""))
    count = stream_of(one, branch, slice(0)).total
    first = _page_from(asked.query.get("from", "")).start
    first = min(first, max(count - 1, 0) // TURNS * TURNS)
    stream = stream_of(one, branch, slice(first, first + TURNS))

    def at(index: int) -> str:
        query = {"from": str(index + 1)} | ({} if branch is None else {"stream": str(branch + 1)})
        kept = {CREDIT: "1"} if asked.query.get(CREDIT) else {}
        return asked.link("trajectory", query=query | kept, **asked.values)

    named = f"{stream.name}.prompt" if stream.name else "prompt"
    return {
        "branch": branch,
        "count": count,
        "size": TURNS,
        "first": first,
        "earlier": at(first - TURNS) if first else "",
        "later": at(first + TURNS) if first + TURNS < count else "",
        "last": at((count - 1) // TURNS * TURNS) if count else "",
        "prompt": [
            (role[:100], ShownText("", budget.clip(text, TEXT), f"{named}{n}"))
            for n, (role, text) in enumerate(stream.prompt[:CALLS], 1)
        ],
        "turns": [turn_values(budget, turn, credit) for turn in stream.turns],
        "credit_notes": credit_notes,
        "advantages": asked.link("trajectory", query={**asked.query, CREDIT: "1"}, **asked.values),
        "branches": [] if branch is not None else [_branch_of(budget, asked, one, n) for n in range(len(one.branches))],
    }


def _branch_of(budget: Budget, asked: Asked, one: Trajectory, index: int) -> dict[str, Any]:
    """A branch as the template takes it: the first turns of the first few branches, and links to all."""
    branch = one.branches[index]
    turns = stream_of(one, index, slice(BRANCH_TURNS)).turns if index < BRANCHES else ()
    return {
        "number": index + 1,
        "responses": len(branch.responses),
        "tokens": len(branch.token_ids),
        "href": asked.link("trajectory", query={"stream": str(index + 1)}, **asked.values),
        "turns": [turn_values(budget, turn) for turn in turns],
    }


def _page_from(asked: str) -> range:
    """The turns, counted from 0, of the page that a query names; of the first page where it names none. There may be
    fewer."""
    number = int(asked) if asked.isascii() and asked.isdigit() and len(asked) < 10 else 1
    first = (max(number, 1) - 1) // TURNS * TURNS
    return range(first, first + TURNS)


def _href(asked: Asked, place: str) -> str:
    """Where a place of the trajectory is; a turn may be on another page of its turns."""
    if not place:
        return ""
    number = turn_of(place)
    query = {"from": str((number - 1) // TURNS * TURNS + 1)} if number and number > TURNS else {}
    if (branch := branch_of(place)) is not None:
        query["stream"] = str(branch + 1)
    return f"{asked.link('trajectory', query=query, **asked.values)}#{place}"


def _facts(one: Trajectory) -> Iterator[tuple[str, str]]:
    """(what, value) of the head."""
    yield "agent", one.agent
    yield "model", one.model
    yield "stopped", (one.stop or "not recorded").replace("_", " ")
    yield "attempts", f"{one.attempt + 1:,}" + (f", {one.attempt:,} of them failed" if one.attempt else "")
    versions = sorted({version for response in one.responses for version in response.versions})
    if versions and one.token_exact:
        yield "weight version", str(versions[0]) if len(versions) == 1 else f"{versions[0]} to {versions[-1]}"
    sampled = sum(response.used.completion_tokens for response in one.responses)
    yield "tokens", f"{one.tokens:,}, {sampled:,} of them sampled in {len(one.responses):,} turns"
    if one.outcome is not None:
        rule = OUTCOME_TABLE[one.outcome]
        counts = "counts in its group's baseline" if rule.in_baseline else "counts in no baseline"
        trained = "may be trained on" if rule.trained else "not trained on (a limit: compact filtering)"
        yield "such an outcome", f"{counts}, {trained if rule.in_baseline else 'not trained on'}"
    if one.weight != 1:
        yield "weight", f"{one.weight:.4g}"
    costs = [response.usage.cost_usd for response in one.all_responses if response.usage]
    if any(cost is not None for cost in costs):
        yield "cost", f"${sum(cost or 0.0 for cost in costs):.4f}"


def turn_values(budget: Budget, turn: Turn, credit: Credit | None = None) -> dict[str, Any]:
    """A turn as the template takes it; with what it was trained with where the trajectory's `credit` is given."""
    calls = [
        {
            "call": call,
            "subject": budget.clip(call.subject, 300).text,
            "name": budget.clip(call.name, 100).text,
            "code": ShownText("", budget.clip(call.code, TEXT), f"{call.place}.code") if call.code else None,
            "change": ShownText("", budget.clip(call.change, TEXT, changed), f"{call.place}.change")
            if call.change
            else None,
            "arguments": [
                ShownText(budget.clip(name, 100).text, budget.clip(text, OBSERVATION), f"{call.place}.a{n}")
                for n, (name, text) in enumerate(call.arguments[:CALLS], 1)
            ],
            "observation": ShownText("", budget.clip(call.observation, OBSERVATION), f"{call.place}.observation")
            if call.observation.strip()
            else None,
        }
        for call in turn.calls[:CALLS]
    ]
    return {
        "turn": turn,
        "response": turn.response,
        "surprisal": _surprisal(turn.response),
        "credit": _credit_words(turn, credit) if credit is not None else "",
        "reasoning": ShownText("", budget.clip(turn.reasoning, TEXT), f"{turn.place}.reasoning")
        if turn.reasoning
        else None,
        "text": ShownText("", budget.clip(turn.text, TEXT), f"{turn.place}.text") if turn.text else None,
        "calls": calls,
        "more_calls": max(0, len(turn.calls) - CALLS),
        "answers": [
            (role, ShownText("", budget.clip(text, OBSERVATION), f"{turn.place}.answer{n}"))
            for n, (role, text) in enumerate(turn.answers[:CALLS], 1)
        ],
    }


def _credit_words(turn: Turn, credit: Credit) -> str:
    """α and advantage of a turn."""
    one = credit.responses[turn.number - 1] if turn.number <= len(credit.responses) else None
    if one is None:
        return "not trained on"
    about = "" if credit.exact else "about "
    return f"α {about}{one.alpha:.3f}, base advantage {one.base:+.4f}, advantage {about}{one.advantage:+.4f}"


def _surprisal(response: Response | None) -> float | None:
    """Mean of -log p over the sampled tokens, nats; None where no log-probabilities are known."""
    if response is None or not response.logprobs:
        return None
    return max(0.0, -sum(response.logprobs) / len(response.logprobs))


def _tests(group: TestGroup, twinned: tuple[str, ...]) -> dict[str, Any]:
    """A group of tests as the template takes it."""
    contradicted = frozenset(twinned)
    most = TESTS[group.passing]
    return {
        "group": group,
        "rows": [(name[:400], status, name in contradicted) for name, status in group.first(most)],
        "more": max(0, len(group.names) - most),
    }


def _evidence(one: Trajectory) -> list[tuple[str, str]]:
    """(what, line) of everything beside the tests that grading found or that was odd."""
    verdict = one.verdict
    if verdict is None:
        return []
    lines = [("evidence", line) for line in verdict.integrity[:LINES]]
    if verdict.cause:
        lines.append(("cause", verdict.cause))
    lines += [("odd once", line) for line in verdict.odd_once[:LINES]]
    if verdict.official_resolved is not None and verdict.official_resolved != verdict.resolved:
        says = "resolved" if verdict.official_resolved else "unresolved"
        lines.append(("swebench", f"its own parser and rule alone say: {says}"))
    if verdict.timed_out:
        lines.append(("time", "the evaluation ran into its limit"))
    if verdict.starved:
        lines.append(("starved", f"{verdict.starved_s:.0f} of {verdict.eval_s:.0f} s others had the processors"))
    if verdict.twinned:
        lines.append(("twins", f"{len(verdict.twinned):,} tests ran beside a test that contradicts them"))
    codes = (("script", verdict.exit_code), ("tests", verdict.test_exit_code))
    known = ", ".join(f"{what} {code}" for what, code in codes if code is not None)
    if known:
        lines.append(("exit codes", known))
    return [(what, line[:1000]) for what, line in lines]


def _labels(one: Trajectory, asked: Asked) -> Iterator[tuple[str, str, list[tuple[Evidence, str, str]]]]:
    """(label, what it means, evidence with where it is and the address of that) of the audit."""
    for name, found in labelled(one).labels.items():
        yield name, BY_NAME[name].means, [(piece, *_where(one, asked, piece)) for piece in found]


def _where(one: Trajectory, asked: Asked, piece: Evidence) -> tuple[str, str]:
    if not piece.turn:
        return piece.place, _href(asked, piece.place)
    place = place_of_response(one, piece.turn)
    branch = branch_of(place)
    said = f"turn {turn_of(place)}" + ("" if branch is None else f" of branch {branch + 1}")
    return said, _href(asked, place)


def _bars(one: Trajectory, tools_s: float) -> Iterator[Bar]:
    """The phases of a trajectory one after the other; the agent's is told apart by what it waited for."""
    seconds = {name: value for name, value in one.timings_s.items() if name != "total"}
    if "agent" in seconds:
        sampling = sum(response.sample_s for response in one.responses)
        seconds |= {"sampling": sampling, "tools": tools_s, "agent": max(0.0, seconds["agent"] - sampling - tools_s)}
    phases = [name for name in (*PHASES, *sorted(seconds.keys() - set(PHASES))) if seconds.get(name, 0.0) > 0]
    total = sum(seconds[name] for name in phases)
    start = 0.0
    for name in phases:
        width = 1000 * seconds[name] / total
        yield Bar(name, seconds[name], round(start, 1), round(width, 1))
        start += width
