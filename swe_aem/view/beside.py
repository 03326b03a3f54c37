"""Which runs a run can be compared with, and where."""

from swe_aem.view.found import Kind, Run
from swe_aem.view.site import Asked, Site


def comparisons(site: Site, asked: Asked, run: Run) -> list[tuple[str, str]]:
    """(name, address of the comparison) of every other run of the kind; of stores and grades too. None on a page that
    stands alone."""
    if asked.links.alone:
        return []
    training = run.kind is Kind.TRAINING
    return [
        (other.name, asked.link("compare-runs", query={"a": other.name, "b": run.name}))
        for other in site.runs()
        if other.name != run.name and (other.kind is Kind.TRAINING) == training
    ]
