"""What the numbers of a training run say, in words: did it learn, how long did it take, what went wrong."""

from collections.abc import Iterator

from swe_aem.train.records import HeldoutRates, HeldoutScore
from swe_aem.view.training_run import TrainingRun


def sentence(run: TrainingRun) -> str:
    """Did it learn, as far as held-out tasks tell, and could the difference be chance: one sentence."""
    before, after = run.before, run.after
    if before is None or after is None:
        missing = "before" if before is None else "after"
        return f"Whether it learned is not known: there is no evaluation on held-out tasks {missing} training."
    clauses = [
        clause
        for clause in (
            _change("sampled", before, after),
            _change("greedy", before.of_greedy, after.of_greedy),
        )
        if clause
    ]
    if not clauses:
        return "Whether it learned is not known: the evaluations on held-out tasks have no rates."
    state = "" if run.ended else f", {after.step} steps into a run that has not ended"
    return f"On held-out tasks{state}, {'; '.join(clauses)}."


def _change(what: str, before: HeldoutRates, after: HeldoutRates) -> str | None:
    """A clause about one kind of rate, None if an end of it is missing."""
    a, b = before.pass_at_1, after.pass_at_1
    if a is None or b is None:
        return None
    if a == b:
        return f"the {what} rate stayed at {a:.1%}"
    return f"the {what} rate {'rose' if b > a else 'fell'} from {a:.1%} to {b:.1%} ({_overlap(before, after)})"


def _overlap(before: HeldoutRates, after: HeldoutRates) -> str:
    """What two 95 % intervals say. That they overlap does not show that nothing changed, and a paired comparison of
    the same tasks sees more than they do."""
    if before.low is None or before.high is None or after.low is None or after.high is None:
        return "without intervals, so chance is not excluded"
    if max(before.low, after.low) > min(before.high, after.high):
        return "the 95 % intervals do not overlap"
    return "the 95 % intervals overlap, so they alone do not exclude chance"


def rate_rows(run: TrainingRun) -> Iterator[tuple[str, str, str, str]]:
    """(what, before, after, change) of the held-out rates: in all, then by part; sampled, then greedy."""
    before, after = run.before or HeldoutScore(), run.after or HeldoutScore()
    names = dict.fromkeys((*before.parts, *after.parts))
    rows = [("", before, after), *((name, before.parts.get(name), after.parts.get(name)) for name in names)]
    for name, a, b in rows:
        a, b = a or HeldoutRates(), b or HeldoutRates()
        for kind, first, second in (("sampled", a, b), ("greedy", a.of_greedy, b.of_greedy)):
            if first.pass_at_1 is not None or second.pass_at_1 is not None:
                tasks = second.tasks or first.tasks
                of = f", {tasks} tasks" if tasks else ""
                what = f"{name}, {kind}{of}" if name else f"Did it learn? held-out tasks, {kind}{of}"
                yield what, rate(first), rate(second), _points(first, second)


def fact_rows(run: TrainingRun) -> Iterator[tuple[str, str]]:
    """(what, answer): how long, how many trajectories, how many infrastructure failures, and what was trained."""
    ended = "" if run.ended else " so far; the run has not ended"
    time = "not recorded" if run.wall_s is None else duration(run.wall_s)
    yield "How long?", f"{time}, {run.last_step} steps{ended}"
    counts = run.outcomes
    total = sum(counts.values())
    if counts:
        kinds = ", ".join(f"{name} {count:,}" for name, count in counts.items() if count)
        yield "How many trajectories?", f"{total:,} ({kinds})" if total else "0"
    else:
        yield "How many trajectories?", "not recorded"
    yield from _groups(run, total)
    if run.infrastructure_failures is None:
        yield "Infrastructure failures?", "not recorded"
    else:
        whole = total and all(step.outcomes is not None for step in run.steps)
        share = f" ({run.infrastructure_failures / total:.1%} of all)" if whole else ""
        yield "Infrastructure failures?", f"{run.infrastructure_failures:,.0f}{share}"
    tokens = run.series("sampled_tokens")[1]
    if tokens:
        yield "Sampled tokens", f"{sum(tokens):,.0f}"
    if run.summary is not None:
        yield "Model", run.summary.model
        yield "Training tasks", run.summary.tasks


def _groups(run: TrainingRun, total: int) -> Iterator[tuple[str, str]]:
    """Which groups the trajectories are of: more of them are rolled out than trained on."""
    trained, rejected, retried = (round(sum(run.series(name)[1])) for name in ("groups", "rejected_groups", "retries"))
    if not trained:
        return
    broken = sum(len(step.broken_tasks or ()) for step in run.steps)
    groups = trained + rejected
    size = f" of {total // groups} trajectories each" if total and total % groups == 0 else ""
    said = [f"{trained:,} trained on"]
    if rejected:
        said.append(f"{rejected:,} rejected (zero variance, and there were others: dynamic sampling)")
    if broken:
        said.append(f"{broken:,} of these of broken tasks, nothing of which counts")
    again = f"; {retried:,} attempts failed and were repeated, which are no trajectories" if retried else ""
    yield "Of how many groups?", f"{groups:,}{size}: {', '.join(said)}{again}"


def later(run: TrainingRun) -> str:
    """Heading of the column of the latest evaluation."""
    if run.ended or run.after is None:
        return "after"
    return f"so far, step {run.after.step}"


def rate(rates: HeldoutRates) -> str:
    """A rate and its 95 % interval."""
    if rates.pass_at_1 is None:
        return "–"
    interval = "" if rates.low is None or rates.high is None else f"  [{rates.low:.1%}, {rates.high:.1%}]"
    return f"{rates.pass_at_1:.1%}{interval}"


def duration(seconds: float) -> str:
    """`52 s`, `14 min 3 s`, `3 h 7 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60} min {whole % 60} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60} min"


def _points(before: HeldoutRates, after: HeldoutRates) -> str:
    if before.pass_at_1 is None or after.pass_at_1 is None:
        return "–"
    return f"{100 * (after.pass_at_1 - before.pass_at_1):+.1f} points"
