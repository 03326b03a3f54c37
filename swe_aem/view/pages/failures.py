"""The failed attempts of a run, by cause, with their tracebacks."""

from collections import Counter

from swe_aem.core import TrajectoryKey
from swe_aem.store import FailedAttempt, read_failures, read_left_out
from swe_aem.view.found import Kind
from swe_aem.view.listed import listed
from swe_aem.view.site import Asked, Shown, Site
from swe_aem.view.stored import crumbs, store_of

SIZE = 50
"""Failures of one page."""


def show(site: Site, asked: Asked) -> Shown:
    """Causes with their counts, and the last failures of all or of one cause."""
    run = site.run(asked.values["run"])
    directory = run.directory if run.kind is Kind.GRADES else store_of(run)
    cause = asked.query.get("cause", "")
    found = list(read_failures(directory))
    causes = Counter((one.cause, one.part, one.blame) for one in found)
    left_out = read_left_out(directory)
    causes.update({(one.cause, one.part, one.blame): one.attempts for one in left_out})
    chosen = [one for one in reversed(found) if cause in ("", one.cause)]
    pages = max(1, -(-len(chosen) // SIZE))
    number = min(listed(asked.query).number, pages)

    def at(page: int) -> str:
        query = {"page": str(page)} | ({"cause": cause} if cause else {})
        return asked.link("failures", query=query, run=run.name)

    return Shown(
        template="failures.html.jinja",
        title="Failed attempts",
        crumbs=crumbs(site, asked, run),
        live=True,
        values={
            "causes": [
                (name, part, blame, count, asked.link("failures", query={"cause": name}, run=run.name))
                for (name, part, blame), count in causes.most_common(100)
            ],
            "cause": cause,
            "left_out": sum(one.attempts for one in left_out),
            "all": asked.link("failures", query={}, run=run.name),
            "failures": [
                (n, one, "" if run.kind is Kind.GRADES else _href(asked, one), _short(one))
                for n, one in enumerate(chosen[(number - 1) * SIZE : number * SIZE])
            ],
            "total": len(chosen),
            "number": number,
            "pages": pages,
            "earlier": at(number - 1) if number > 1 else "",
            "later": at(number + 1) if number < pages else "",
        },
    )


def _href(asked: Asked, one: FailedAttempt) -> str:
    """The page of the trajectory, which may not be there: an attempt may have left none."""
    key = TrajectoryKey(one.task_id, one.sample)
    return asked.link("trajectory", run=asked.values["run"], task=key.task_id, sample=str(key.sample))


def _short(one: FailedAttempt) -> str:
    """The end of the traceback, which says most."""
    return one.traceback if len(one.traceback) <= 8_000 else f"[…]\n{one.traceback[-8_000:]}"
