"""A diagnosis of AEM as text and as JSON."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from swe_aem.table import table

if TYPE_CHECKING:
    from swe_aem.train.analysis.diagnosis import Diagnosis, Relation

_SAME_POLICY_NATS = 0.05
"""Mean gap of log-probabilities per token below which the model is taken for the one that sampled the store."""


def lines(diagnosis: "Diagnosis") -> Iterator[str]:
    """What a person reads, part by part."""
    yield from _summary(diagnosis)
    yield from ("", "1  Trajectories with positive advantage")
    yield from _positive(diagnosis)
    yield from ("", "2  A(α-1), and the change of entropy")
    yield from _change(diagnosis)
    yield from ("", "3  α-1 against Monte Carlo H-S")
    yield from _surprisal(diagnosis)


def as_json(diagnosis: "Diagnosis") -> dict[str, Any]:
    """The figures, with intervals of the signs and the paper's figures beside them."""
    from swe_aem.train.analysis.diagnosis import PAPER_R, PAPER_SIGNS

    result = diagnosis.model_dump(mode="json")
    for field in ("change_relations", "state_relations"):
        for row, one in zip(result[field], getattr(diagnosis, field), strict=True):
            row["agree_interval"] = _interval(one)
    return result | {"paper": {"of": "α-1 and H-S", "r": PAPER_R, "agree": PAPER_SIGNS[0], "signs": PAPER_SIGNS[1]}}


def _summary(d: "Diagnosis") -> Iterator[str]:
    yield f"{d.trajectories} trained trajectories in {len(d.groups)} groups; {d.responses} responses"
    if d.too_long:
        yield f"{d.too_long} trajectories are longer than the model's context: in the shares below, in nothing else"
    other = ": another policy sampled it, see --version" if d.logprob_gap > _SAME_POLICY_NATS else ""
    yield (
        f"stored log-probabilities are {d.logprob_gap:.2g} nats per token away from those of {d.model} at temperature "
        f"{d.temperature:g}{other}"
    )


def _positive(d: "Diagnosis") -> Iterator[str]:
    rows = [(str(one.version), *_share(one.positive, one.trajectories)) for one in d.positive]
    rows.append(("all", *_share(sum(one.positive for one in d.positive), sum(one.trajectories for one in d.positive))))
    yield from table(rows, head=("version", "trajectories", "positive", "share"), align="<>")
    even = sum(one.zero_variance for one in d.groups)
    yield f"per group: {_spread([one.positive / one.trajectories for one in d.groups])} positive"
    yield f"zero-variance groups, without advantage: {even} of {len(d.groups)} ({even / len(d.groups):.0%})"


def _change(d: "Diagnosis") -> Iterator[str]:
    none = d.responses - d.foretold_up - d.foretold_down
    yield (
        f"A(α-1) is above 0 in {d.foretold_down} responses, which foretells falling entropy, below 0 in "
        f"{d.foretold_up}, rising, and 0 in {none}"
    )
    if d.change is None:
        yield "name the policy after training, --after, to see whether entropy moved that way"
        return
    yield f"mean token entropy changed by {d.change:+.4f} nats to {d.after}"
    yield from _relations(d.change_relations)


def _surprisal(d: "Diagnosis") -> Iterator[str]:
    yield f"{d.unmodulated} of {d.responses} responses are unmodulated (α is exactly 1) and left out here"
    if not d.states:
        yield "no state was sampled from"
        return
    cut = "" if not d.cut_share else f", {d.cut_share:.0%} of them cut off there"
    yield f"{d.states} states, {d.settings.samples} fresh responses each, of at most {d.max_tokens} tokens{cut}"
    yield from _relations(d.state_relations, paper=True)
    yield "the paper's figures are read as those of α-1 and H-S: its definition of relative surprisal could not be read"


def _relations(relations: Sequence["Relation"], *, paper: bool = False) -> Iterator[str]:
    rows = []
    for one in relations:
        interval = _interval(one)
        r = "-" if one.r is None else f"{one.r:+.2f}"
        bounds = "-" if one.r_low is None or one.r_high is None else f"{one.r_low:+.2f} .. {one.r_high:+.2f}"
        wilson = "-" if interval is None else f"{interval[0]:.0%} .. {interval[1]:.0%}"
        rows.append((one.name, one.points, r, bounds, f"{one.agree} of {one.signs}", wilson))
    if paper:
        from swe_aem.train.analysis.diagnosis import PAPER_R, PAPER_SIGNS

        agree, signs = PAPER_SIGNS
        rows.append(("paper, 32B", signs, f"{PAPER_R:+.2f}", "-", f"{agree} of {signs}", "-"))
    yield from table(rows, head=("", "points", "r", "95 %", "signs agree", "95 %"), align="<>")


def _interval(relation: "Relation") -> tuple[float, float] | None:
    """Wilson's interval for the share of signs that agree, as if points were independent."""
    from swe_aem.evaluate import wilson

    return wilson(relation.agree / relation.signs, relation.signs) if relation.signs else None


def _share(part: int, whole: int) -> tuple[str, str, str]:
    return str(whole), str(part), f"{part / whole:.0%}"


def _spread(values: Sequence[float]) -> str:
    ordered = sorted(values)
    return f"{ordered[0]:.0%} to {ordered[-1]:.0%}, mean {sum(ordered) / len(ordered):.0%}"
