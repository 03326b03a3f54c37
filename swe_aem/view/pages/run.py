"""The first page of a run, by what it is."""

from swe_aem.view.found import Kind
from swe_aem.view.pages import evaluation, store, training
from swe_aem.view.site import Asked, Shown, Site


def show(site: Site, asked: Asked) -> Shown:
    """The page of the run's kind."""
    run = site.run(asked.values["run"])
    match run.kind:
        case Kind.TRAINING:
            return training.show(site, asked, run)
        case Kind.ROLLOUTS:
            return store.show(site, asked, run)
        case Kind.GRADES:
            return evaluation.show_run(site, asked, run)
