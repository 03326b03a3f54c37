"""The token stream of a trajectory as text, coloured by what is known of its tokens."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from swe_aem.core import OUTCOME_TABLE, Response, Trajectory
from swe_aem.errors import UserError
from swe_aem.train.directory import stored_config
from swe_aem.train.training_row import trained_branches
from swe_aem.view.credit import Credit, credit_of, training_directory
from swe_aem.view.found import Run
from swe_aem.view.site import Asked, NotThere, Shown, Site
from swe_aem.view.stored import branch_asked, crumbs, group_of, key_of, load_excerpt, store_of
from swe_aem.view.story.tokens import CONTEXT, store_tokenizer, token_texts

SIZE = 4_000
"""Tokens of one page."""
COLOURS = {
    "mask": "which tokens the policy sampled",
    "logprob": "log-probability when sampled",
    "entropy": "entropy of the response",
    "alpha": "factor α of the response",
    "advantage": "advantage of the response",
}
USUAL = "mask"
"""The colour that a page has unless it is told another one."""
TOKEN = 400
"""Characters of one token that are shown."""


class Span(NamedTuple):
    """One sampled token, or several others."""

    text: str
    kind: str
    """Names of style classes."""
    title: str


class Part(NamedTuple):
    """Spans of one response, or of what is between two."""

    response: int | None
    """Number of the response that begins here, from 1."""
    note: str
    spans: list[Span]


def show(site: Site, asked: Asked) -> Shown:
    """One page of the stream, coloured by what the query's `by` says."""
    run = site.run(asked.values["run"])
    key = key_of(asked.values["task"], asked.values["sample"])
    one = load_excerpt(site, run, key, range(0)).trajectory
    by = asked.query.get("by", USUAL)
    if by not in COLOURS:
        raise NotThere(f"tokens have no colour by {by}; there are {', '.join(COLOURS)}")
    stream = asked.query.get("stream", "")
    ids, responses = _stream(one, stream)
    start = _start(asked.query, responses, len(ids))
    notes: list[str] = []
    credit = None
    if by in ("alpha", "advantage"):
        if stream:
            notes.append("α and advantages are shown for a trajectory's own stream only.")
        else:
            try:
                credit = credit_of(run, group_of(site, run, one), key)
                notes += credit.notes
            except UserError as error:
                notes.append(str(error))
    texts = _texts(run, ids, start, notes)
    trained = one.outcome is not None and OUTCOME_TABLE[one.outcome].trained and _is_trained(run, one, stream)
    colour = _colour(by, responses, credit, trained=trained)

    def at(first: int, colour: str = by) -> str:
        """The piece that begins with a token: one address for each, so that an export writes it once."""
        query = {"by": colour if colour != USUAL else "", "from": str(first or ""), "stream": stream}
        return asked.link("tokens", query={name: value for name, value in query.items() if value}, **asked.values)

    end = min(start + SIZE, len(ids))
    return Shown(
        template="tokens.html.jinja",
        title="Tokens",
        crumbs=crumbs(site, asked, run, key),
        values={
            "notes": [*notes, *_estimates(by, responses)],
            "colours": [(name, says, at(start, name), name == by) for name, says in COLOURS.items()],
            "by": by,
            "parts": list(_parts(ids, texts, responses, start, colour)),
            "start": start,
            "end": end,
            "total": len(ids),
            "earlier": at(start - SIZE) if start else "",
            "later": at(end) if end < len(ids) else "",
            "responses": [
                (n, f"{at(one.start // SIZE * SIZE)}#r{n}") for n, one in enumerate(responses[:500], start=1)
            ],
        },
    )


def _stream(one: Trajectory, stream: str) -> tuple[Sequence[int], Sequence[Response]]:
    """Token ids and responses of the trajectory, or of the branch that is named by its number."""
    at = branch_asked(one, stream)
    source = one if at is None else one.branches[at]
    return source.token_ids, source.responses


def _is_trained(run: Run, one: Trajectory, stream: str) -> bool:
    """Are the tokens of a stream trained on where those of its trajectory are?"""
    if (at := branch_asked(one, stream)) is None:
        return True
    try:
        most = stored_config(training_directory(run)).branches_per_trajectory
    except UserError:
        return False
    return any(one.branches[at] is branch for branch in trained_branches(one, most))


def _start(query: Mapping[str, str], responses: Sequence[Response], total: int) -> int:
    """The first token of the page that is asked for, by itself or by a response."""
    asked = query.get("response") or query.get("from") or ""
    number = int(asked) if asked.isascii() and asked.isdigit() and len(asked) < 10 else 0
    if query.get("response") and responses:
        number = responses[min(max(number, 1), len(responses)) - 1].start
    return min(number, max(total - 1, 0)) // SIZE * SIZE


def _texts(run: Run, ids: Sequence[int], start: int, notes: list[str]) -> list[str] | None:
    """The texts of a page's tokens; None, and a note, where there is no tokenizer."""
    if not ids:
        notes.append("There are no token ids: a chat API reports none.")
        return None
    try:
        tokenizer = store_tokenizer(store_of(run))
    except UserError as error:
        notes.append(f"Token ids are shown, for their texts need the run's tokenizer: {error}")
        return None
    return token_texts(tokenizer, ids[start : start + SIZE], ids[max(0, start - CONTEXT) : start])


def _parts(
    ids: Sequence[int],
    texts: Sequence[str] | None,
    responses: Sequence[Response],
    start: int,
    colour: "Colour",
) -> Iterator[Part]:
    """The page's tokens by response."""
    end = min(start + SIZE, len(ids))

    def text(place: int) -> str:
        return f" {ids[place]}" if texts is None else texts[place - start][:TOKEN]

    at = start
    for n, response in enumerate(responses):
        if response.end <= start or response.start >= end:
            continue
        if at < response.start:
            yield Part(None, "", [Span("".join(map(text, range(at, response.start))), "unsampled", "")])
        first, at = max(response.start, start), min(response.end, end)
        spans = []
        for place in range(first, at):
            kind, says = colour(n, place - response.start)
            logprob = response.logprobs[place - response.start]
            spans.append(Span(text(place), kind, f"id {ids[place]}, log p {logprob:.3f}{says}"))
        kind, says = colour(n, 0)
        number = n + 1 if response.start >= start else None
        yield Part(number, f"turn {n + 1}, version {_versions(response)}{says if by_response(kind) else ''}", spans)
    if at < end:
        yield Part(None, "", [Span("".join(map(text, range(at, end))), "unsampled", "")])


Colour = Callable[[int, int], tuple[str, str]]
"""From a response's index and a token's place in it to classes, and what a title says beside."""


def _versions(response: Response) -> str:
    """The versions of the weights that sampled a response, and where the later ones begin."""
    later = (f", {span.version} from its token {span.start + 1} on" for span in response.spans)
    return str(response.version) + "".join(later)


def by_response(kind: str) -> bool:
    """Is it a colour that all tokens of a response have?"""
    return not kind.startswith("lp-")


def _colour(by: str, responses: Sequence[Response], credit: Credit | None, *, trained: bool) -> Colour:
    """How tokens are coloured by a quantity."""
    if by == "mask":
        return lambda n, place: ("sampled" if trained else "untrained", "" if trained else ", sampled, not trained on")
    if by == "logprob":
        return lambda n, place: (
            f"lp-{min(10, int(-2 * responses[n].logprobs[place]))} heat-"
            f"{min(10, max(0, int(-2 * responses[n].logprobs[place])))}",
            "",
        )
    if by == "entropy":
        found = [_entropy(response) for response in responses]
        return lambda n, place: (f"heat-{min(10, int(5 * found[n][0]))}", f", {found[n][1]} {found[n][0]:.3f} nats")
    if credit is None:
        return lambda n, place: ("sampled", "")
    most = max((abs(one.advantage) for one in credit.responses if one), default=0.0) or 1.0
    about = "" if credit.exact else "about "

    def of_credit(n: int, place: int) -> tuple[str, str]:
        one = credit.responses[n]
        if one is None:
            return "untrained", ", not trained on"
        value = (one.alpha - 1) / 0.5 if by == "alpha" else one.advantage / most
        level = 5 + max(-5, min(5, round(5 * value)))
        return (
            f"div-{level}",
            f", α {about}{one.alpha:.3f}, base {one.base:+.4f}, advantage {about}{one.advantage:+.4f}",
        )

    return of_credit


def _entropy(response: Response) -> tuple[float, str]:
    """(nats, what it is) of a response."""
    if response.entropy is not None:
        return max(0.0, response.entropy), f"entropy ({response.entropy_estimator or 'estimate'})"
    surprisal = -sum(response.logprobs) / max(1, len(response.logprobs))
    return max(0.0, surprisal), "surprisal"


def _estimates(by: str, responses: Sequence[Response]) -> Iterator[str]:
    """What is said of the quantity that is shown."""
    if by == "entropy" and any(response.entropy is None for response in responses):
        yield (
            "No entropy was stored: the mean surprisal of the sampled tokens stands for it, which is right on average "
            "only. It is not the entropy over the whole vocabulary that training uses."
        )
    elif by == "entropy" and responses:
        yield (
            "The mean over the response of what the policy's server estimated when it sampled; it is not the entropy "
            "over the whole vocabulary that training uses."
        )
